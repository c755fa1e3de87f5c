/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The tables.
 *
 * A table is an array of slots and one of their tags, which user space maps into its memory: a hit
 * costs no helper call, a reading no system call. The tags of a group are one word: which slot may
 * hold a key is told from it by arithmetic, without a branch that depends on the key. A key is
 * looked for in one group after the other; the search ends at the first group with a free slot.
 */
#ifndef TMON_TABLE_H
#define TMON_TABLE_H

#include "key.h"

ARRAY(rows4, struct slot4);
ARRAY(rows6, struct slot6);
ARRAY(others, struct slot6);
ARRAY(rows4_tags, __u64);
ARRAY(rows6_tags, __u64);
ARRAY(others_tags, __u64);
ARRAY(rows4_more, struct more);
ARRAY(rows6_more, struct more);
ARRAY(others_more, struct more);

/* Groups of each table minus one, set with its size. */
CONFIG(__u32, cfg_mask4);
CONFIG(__u32, cfg_mask6);
CONFIG(__u32, cfg_mask_others);
CONFIG(__u64, cfg_seed[12]); /* random, so that nobody can choose keys that collide */

/* NH (Black et al., UMAC): one multiplication for each 64-bit word. */
static __always_inline __u64 nh(__u64 word, int i)
{
	__u64 seed = cfg_seed[i];

	return (__u64)((__u32)word + (__u32)seed) * ((__u32)(word >> 32) + (__u32)(seed >> 32));
}

/*
 * Addresses in a row make sums in a row, which a multiplication alone would leave so: under some
 * seeds they would meet in few groups.
 */
static __always_inline __u64 spread(__u64 sum)
{
	sum = (sum ^ sum >> 32) * (cfg_seed[10] | 1);
	sum = (sum ^ sum >> 29) * (cfg_seed[11] | 1);
	return sum ^ sum >> 32;
}

static __always_inline __u64 hash4(__u64 meta, __u64 outer, __u64 inner)
{
	return spread(nh(meta, 0) + nh(outer, 1) + nh(inner, 2));
}

static __always_inline __u64 hash6(const struct key6 *key)
{
	const __u64 *word = (const __u64 *)key;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += nh(i == 1 ? word[i] & ~((__u64)SHARD_CPU << 32) : word[i], i);
	return spread(sum);
}

/* The number of a key's first group, and the odd step to the next. */
#define FIRST_OF(hash) ((__u32)((hash) >> 32))
#define STEP_OF(hash)  ((__u32)((hash) >> 40) | 1)

static __always_inline __u64 tag_of(__u64 hash)
{
	__u32 tag = hash >> 56 | 1; /* the bits that know most of the key */

	return tag | ((tag - TAG_ROW) >> 29 & 4); /* 1 and 3 have a meaning: 5 and 7 instead */
}

/* Tags of a group as lanes: the lowest bit of each byte that is meant. */
#define LANES 0x0101010101010101ULL

static __always_inline __u64 lanes_with(__u64 tags, __u64 tag)
{
	__u64 differ = tags ^ tag * LANES;

	return (differ - LANES) >> 7 & ~differ >> 7 &
	       LANES; /* above a lane that is meant, one may be that is not */
}

static __always_inline __u64 lanes_free(__u64 tags)
{
	return ~tags & LANES;
}

static __always_inline __u32 lane_of(__u64 lanes)
{
	return (lanes & -lanes) * 0x0001020304050607ULL >> 56;
}

/* Not the first for every CPU, so that they are not after the same one. */
static __always_inline __u32 lane_from(__u64 lanes, __u32 cpu)
{
	__u32 first = cpu & (GROUP - 1), by = 8 * first;

	return (lane_of(lanes >> by | lanes << (-by & 63)) + first) & (GROUP - 1);
}

/* Where a part of a row is, that the hash leads to. */
static __always_inline __u64 in_shard(__u64 hash, __u32 shard)
{
	return hash + (shard & SHARD_CPU) * 0x9e3779b97f4a7c15ULL;
}

/* Adds the packet in hand to a row. Without a branch: whether a row was seen in this jiffy cannot
 * be guessed. */
#define ADD_TO(c, slot, hook, weight)                                 \
	do {                                                          \
		__u64 *count = &(slot)->packets[(hook)&1];            \
                                                                      \
		(slot)->seen = NOW(c);                                \
		ADD(count, (weight).packets);                         \
		ADD(count + HOOKS, (weight).bytes); /* bytes[hook] */ \
	} while (0)

/* The same, where nobody else does: in this CPU's part of a row. */
#define ADD_TO_OWN(c, slot, hook, weight)                              \
	do {                                                           \
		if (cfg_preempt) {                                     \
			ADD_TO(c, slot, hook, weight);                 \
		} else {                                               \
			(slot)->seen = NOW(c);                         \
			(slot)->packets[(hook)&1] += (weight).packets; \
			(slot)->bytes[(hook)&1] += (weight).bytes;     \
		}                                                      \
	} while (0)

/*
 * Another CPU than last time counts in a slot: whether that happens so often that each CPU has to
 * have a slot of its own, because they wait for each other's cache line. It stays so: the common
 * slot is only read then, and touched once in a jiffy, so that it lives as long as the row does.
 */
#define TAKES_TURNS(s, c)                                                               \
	({                                                                              \
		__u32 now = NOW(c), was = (s)->owner;                                   \
		__u32 turns = was >> 16 & 63;                                           \
                                                                                        \
		if (turns < TURNS) {                                                    \
			turns = (was ^ TURN(0, 0, now)) >> 22 ? 1 : turns + 1;          \
			(s)->owner = TURN(turns < TURNS ? (c)->number : 0, turns, now); \
		} else if ((s)->seen != now) {                                          \
			(s)->seen = now;                                                \
		}                                                                       \
		turns >= TURNS;                                                         \
	})

/* The first slot of the key's first group that may be the key's, or NULL. */
#define LIKELY_SLOT(table, mask, hash)                                                      \
	({                                                                                  \
		__u32 group = FIRST_OF(hash) & (mask);                                      \
		__u64 *tags = ELEMENT(table##_tags, group);                                 \
		__u64 lanes = tags ? lanes_with(*(volatile __u64 *)tags, tag_of(hash)) : 0; \
                                                                                            \
		likely(lanes) ? ELEMENT(table, group *GROUP + lane_of(lanes)) : NULL;       \
	})

#define SAME4(s)                                                                  \
	(!((((__u64 *)&(s)->key)[0] ^ meta) | (((__u64 *)&(s)->key)[1] ^ outer) | \
	   (((__u64 *)&(s)->key)[2] ^ inner)))
#define COPY4(s)                                 \
	do {                                     \
		((__u64 *)&(s)->key)[0] = meta;  \
		((__u64 *)&(s)->key)[1] = outer; \
		((__u64 *)&(s)->key)[2] = inner; \
	} while (0)

static __always_inline int same_key6(const struct slot6 *s, const struct key6 *key)
{
	const __u64 *a = (const __u64 *)&s->key, *b = (const __u64 *)key;
	__u64 differ = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

#define SAME6(s) same_key6(s, &c->key)
#define COPY6(s) ((s)->key = c->key)

enum found {
	FOUND_NO_ROOM,
	FOUND,
	FOUND_CROWD, /* a row that this CPU counts in elsewhere: in its own slot */
};

/*
 * The rest of a function that counts the packet in hand where its row is or can be made. SAME says
 * whether a slot has the key, COPY writes it. The slot that we claimed is ours alone until it has
 * its tag.
 */
#define HIT_OR_MAKE(table, mask, hash, c, SAME, COPY)                                             \
	__u32 step = STEP_OF(hash), at = FIRST_OF(hash), hook = (c)->walk.hook;                   \
	__u64 tag = tag_of(hash);                                                                 \
                                                                                                  \
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < GROUPS; i++)                  \
	{                                                                                         \
		__u32 group = at & (mask), lane;                                                  \
		__u64 *tags = ELEMENT(table##_tags, group), now, lanes;                           \
		POINTER_TO(table) s;                                                              \
                                                                                                  \
		if (!tags)                                                                        \
			return FOUND_NO_ROOM;                                                     \
		now = *(volatile __u64 *)tags;                                                    \
		lanes = lanes_with(now, tag);                                                     \
		_Pragma("clang loop unroll(disable)") for (__u32 j = 0; j < GROUP && lanes; j++)  \
		{                                                                                 \
			s = ELEMENT(table, group * GROUP + lane_of(lanes));                       \
			if (!s)                                                                   \
				return FOUND_NO_ROOM;                                             \
			if (SAME(s)) {                                                            \
				if ((c)->common)                                                  \
					s->owner = TURN((c)->number, 0, 0);                       \
				else if (!((c)->key.shard & SHARD_CPU) &&                         \
					 (__u16)s->owner != (c)->number && TAKES_TURNS(s, c))     \
					return FOUND_CROWD;                                       \
				ADD_TO(c, s, hook, (c)->weight);                                  \
				return FOUND;                                                     \
			}                                                                         \
			lanes &= lanes - 1;                                                       \
		}                                                                                 \
		lanes = lanes_free(now);                                                          \
		if (!lanes) {                                                                     \
			at += step;                                                               \
			continue;                                                                 \
		}                                                                                 \
		/* what one CPU counts in a row may not take the room of rows */                  \
		if ((c)->key.shard & SHARD_CPU && lanes * LANES >> 56 <= GROUP / 4)               \
			return FOUND_NO_ROOM;                                                     \
		lane = lane_from(lanes, (c)->number);                                             \
		s = ELEMENT(table, group * GROUP + lane);                                         \
		if (!s)                                                                           \
			return FOUND_NO_ROOM;                                                     \
		lane *= 8;                                                                        \
		if (__sync_fetch_and_or(tags, (__u64)TAG_BUSY << lane) >> lane & 0xff)            \
			continue; /* another CPU was faster: perhaps it made our row */           \
		COPY(s);                                                                          \
		s->owner = TURN((c)->number, 0, 0);                                               \
		ADD_TO(c, s, hook, (c)->weight);                                                  \
		now = __sync_fetch_and_xor(tags, (tag ^ TAG_BUSY) << lane);                       \
		barrier_var(now); /* with its result it is ordered: whoever sees the tag sees the \
				     key */                                                       \
		return FOUND;                                                                     \
	}                                                                                         \
	return FOUND_NO_ROOM

static __always_inline enum found count_row4(struct cpu *c)
{
	const struct key6 *key = &c->key;
	__u64 meta = meta4(TUNNEL(key->id[0], key->kind[0], 0), key->flags, key->shard);
	__u64 outer = key->outer[0][0] | (__u64)key->outer[1][0] << 32;
	__u64 inner = key->inner[0][0] | (__u64)key->inner[1][0] << 32;
	__u64 hash = in_shard(hash4(meta & ~((__u64)SHARD_CPU << 48), outer, inner), key->shard);

	HIT_OR_MAKE(rows4, cfg_mask4, hash, c, SAME4, COPY4);
}

static __always_inline enum found count_row6(struct cpu *c)
{
	__u64 hash = in_shard(hash6(&c->key), c->key.shard);

	HIT_OR_MAKE(rows6, cfg_mask6, hash, c, SAME6, COPY6);
}

static __always_inline enum found count_other(struct cpu *c)
{
	__u64 hash = in_shard(hash6(&c->key), c->key.shard);

	HIT_OR_MAKE(others, cfg_mask_others, hash, c, SAME6, COPY6);
}

#endif
