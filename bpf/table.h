/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The tables.
 *
 * A table is an array of slots and an array of their tags, which user space maps into its memory: a
 * hit costs no helper call, a reading no system call. The tags of a group are one word: arithmetic
 * tells which slots may hold a key, without a branch that depends on the key. A key is searched for
 * in one group after the other; the search ends at the first group with a free slot.
 *
 * In the first group a key has a preferred slot, its home, if that was free. A CPU checks that
 * first, comparing only the key: it may use what it has created itself without checking the tags,
 * because before a slot is freed its owner is cleared and every program that may have read it has
 * ended.
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

/* The number of slots of each table minus one, set when it is sized. */
CONFIG(__u32, cfg_mask4);
CONFIG(__u32, cfg_mask6);
CONFIG(__u32, cfg_mask_others);
CONFIG(__u64, cfg_seed[12]); /* random, so that nobody can construct keys that collide */

#ifndef TMON_NATIVE
/* The probers, which examine rows more closely; set by user space. */
struct probing probing SEC(".data.probing");
#define IS_PROBING (*(volatile __u32 *)&probing.active)
#define WANT_STOPS (*(volatile __u32 *)&probing.stops)
#else
#define IS_PROBING 0
#define WANT_STOPS 0
#endif

/* The owner word of a slot with this owner while it is probed. */
#define PROBED(owner, row) ((owner) << OWNER_BEFORE | OWNER_CROWD | OWNER_PROBE | (row))

/* The owner word of a new slot: while anybody probes, the row is first compared with the
 * expressions. */
static __always_inline __u32 new_owner(__u32 number)
{
	return IS_PROBING ? PROBED(number, OWNER_ASK) : number;
}

/*
 * NH (Black et al., UMAC): one multiplication for each 64-bit word. The sums of the halves share a
 * carry, which at most doubles the probability of a collision.
 */
static __always_inline __u64 nh(__u64 word, int i)
{
	__u64 sum = word + cfg_seed[i];

	return LOW(sum) * (sum >> 32);
}

/*
 * Consecutive addresses make consecutive sums, which under some seeds would fall into few groups if
 * the halves were not folded before the multiplication. The upper half is used.
 */
static __always_inline __u64 spread(__u64 sum)
{
	return (sum ^ sum >> 32) * (cfg_seed[10] | 1);
}

static __always_inline __u64 hash4(__u64 meta, __u64 outer, __u64 inner)
{
	return spread(nh(meta, 0) + nh(outer, 1) + nh(inner, 2));
}

/* An IPv4 pair is hashed as the single word that it is in a key4. */
static __always_inline __u64 nh_pair(const struct pair *p, int v6, int i)
{
	const __u64 *word = p->word;

	if (!v6)
		return nh(word[0] | word[2] << 32, i);
	return nh(word[0], i) + nh(word[1], i + 1) + nh(word[2], i + 2) + nh(word[3], i + 3);
}

/* Without the CPU's part of the shard: see in_shard(). */
static __always_inline __u64 hash6(struct meta6 meta, const struct pair *outer, int outer6,
				   const struct pair *inner, int inner6)
{
	return spread(nh(meta.ids, 0) + nh(meta.rest, 1) + nh_pair(outer, outer6, 2) +
		      nh_pair(inner, inner6, 6));
}

static __always_inline __u64 hash_of_key6(const struct key6 *key)
{
	const __u64 *word = (const __u64 *)key;

	return hash6((struct meta6){ word[0], word[1] & ~((__u64)SHARD_CPU << 32) },
		     (const struct pair *)key->outer, key->flags & ROW_OUTER6,
		     (const struct pair *)key->inner, key->flags & ROW_INNER6);
}

/* The number of a key's home slot, and the distance in slots from each group to the next. */
#define HOME_OF(hash) ((__u32)((hash) >> 32))
#define STEP_OF(hash) (((__u32)((hash) >> 40) | 1) * GROUP)

static __always_inline __u64 tag_of(__u64 hash)
{
	__u32 tag = hash >> 56 | 1; /* the bits that carry most information about the key */

	return tag | ((tag - TAG_ROW) >> 29 & 4); /* 1 and 3 have a meaning: 5 and 7 instead */
}

/* Tags of a group as lanes: a match sets the lowest bit of its byte. */
#define LANES 0x0101010101010101ULL

static __always_inline __u64 lanes_with(__u64 tags, __u64 tag)
{
	__u64 differ = tags ^ tag * LANES;

	return (differ - LANES) >> 7 & ~differ >> 7 &
	       LANES; /* may report false positives above the first match */
}

static __always_inline __u64 lanes_free(__u64 tags)
{
	return ~tags & LANES;
}

static __always_inline __u32 lane_of(__u64 lanes)
{
	return (lanes & -lanes) * 0x0001020304050607ULL >> 56;
}

/* The first lane at or after this one, cyclically. */
static __always_inline __u32 lane_from(__u64 lanes, __u32 first)
{
	__u32 by = 8 * first;

	return (lane_of(lanes >> by | lanes << (-by & 63)) + first) & (GROUP - 1);
}

/* Hash of this CPU's shard of the row. */
static __always_inline __u64 in_shard(__u64 hash, __u32 shard)
{
	return hash + (shard & SHARD_CPU) * 0x9e3779b97f4a7c15ULL;
}

/*
 * Adds the current packet to a slot that this CPU owns. `seen` is written without a branch: whether
 * a row was seen in this jiffy cannot be predicted.
 */
#define ADD_TO(c, slot, hook, weight, usual)                            \
	do {                                                            \
		(slot)->seen = NOW(c, usual);                           \
		if (UNLESS(usual, cfg_preempt)) {                       \
			__u64 *count = &(slot)->packets[(hook)&1];      \
                                                                        \
			ADD(count, (weight).packets);                   \
			ADD(count + HOOKS, (weight).bytes); /* bytes */ \
		} else {                                                \
			(slot)->packets[(hook)&1] += (weight).packets;  \
			(slot)->bytes[(hook)&1] += (weight).bytes;      \
		}                                                       \
	} while (0)

/*
 * Notes that a CPU other than the owner counts in a slot. Returns whether that happens so often
 * that each CPU needs a slot of its own, because they wait for each other's cache line.
 */
static __always_inline int is_crowd(__u32 *owner, struct more *more, __u32 now)
{
	__u32 was = more->turns, turns = was & ((1 << TURNS_BITS) - 1);

	if (*(volatile __u32 *)owner & OWNER_CROWD)
		return 1;
	turns = (was >> TURNS_BITS) ^ (now << TURNS_BITS >> TURNS_BITS) ? 1 : turns + 1;
	if (turns < TURNS) {
		more->turns = now << TURNS_BITS | turns;
		return 0;
	}
	more->turns = 0;
	was = __sync_fetch_and_or(owner, OWNER_CROWD);
	barrier_var(was);
	return 1;
}

/* There was no room for slots of their own: all continue in the shared one, and try again later. */
static __always_inline void no_crowd(__u32 *owner)
{
	__u32 was = *(volatile __u32 *)owner;

	if ((was & (OWNER_CROWD | OWNER_PROBE)) == OWNER_CROWD) {
		was = __sync_val_compare_and_swap(owner, was, was & ~OWNER_CROWD);
		barrier_var(was);
	}
}

/* It must not be written more often than that. */
#define TOUCH(slot, now)                      \
	do {                                  \
		__u32 jiffy = now;            \
                                              \
		if ((slot)->seen != jiffy)    \
			(slot)->seen = jiffy; \
	} while (0)

/*
 * Adds the current packet beside a slot that this CPU does not own. The slot itself is only touched
 * once per jiffy, so that it lives as long as the row does. Returns 0, without counting, if so many
 * CPUs do this that this one needs a slot of its own, unless `anyway`.
 */
#define ADD_BESIDE(table, index, c, slot, hook, weight, anyway, usual)               \
	({                                                                           \
		POINTER_TO(table##_more) more = ELEMENT(table##_more, index);        \
		__u32 now = NOW(c, usual);                                           \
		int here = more && (anyway || !is_crowd(&(slot)->owner, more, now)); \
                                                                                     \
		TOUCH(slot, now);                                                    \
		if (here) {                                                          \
			__u64 *count = &more->packets[(hook)&1];                     \
                                                                                     \
			ADD(count, (weight).packets);                                \
			ADD(count + HOOKS, (weight).bytes);                          \
		}                                                                    \
		here;                                                                \
	})

/*
 * The first slot of the key's first group that may hold the key according to its tag, with its
 * number in `index`; or NULL. No number stands for none: the verifier would then compare what the
 * number was computed from, each time that it gets here.
 */
#define LIKELY_SLOT(table, mask, hash, index)                                               \
	({                                                                                  \
		__u32 group = (HOME_OF(hash) & (mask)) / GROUP;                             \
		__u64 *tags = ELEMENT(table##_tags, group);                                 \
		__u64 lanes = tags ? lanes_with(*(volatile __u64 *)tags, tag_of(hash)) : 0; \
		POINTER_TO(table) slot = NULL;                                              \
                                                                                            \
		if (likely(lanes)) {                                                        \
			index = group * GROUP + lane_of(lanes);                             \
			slot = ELEMENT(table, index);                                       \
		}                                                                           \
		slot;                                                                       \
	})

/*
 * The body of a function that counts a packet whose row is in its home slot or in its first group.
 * SAME says whether a slot has the key, TO_OWN turns the key into that of this CPU's part. It
 * returns 0 if nothing was counted.
 */
#define HIT(table, mask, hash, c, hook, weight, usual, SAME, TO_OWN)                          \
	__u32 index = HOME_OF(hash) & (mask);                                                 \
	POINTER_TO(table) s = ELEMENT(table, index);                                          \
	int crowd = 0;                                                                        \
                                                                                              \
	if (unlikely(!s || !SAME(s) || s->owner != (c)->number)) {                            \
		if (s && s->owner & OWNER_CROWD && SAME(s)) {                                 \
			TOUCH(s, NOW(c, usual));                                              \
			crowd = 1;                                                            \
		} else {                                                                      \
			s = LIKELY_SLOT(table, mask, hash, index);                            \
			if (!s || !SAME(s))                                                   \
				return 0;                                                     \
			if (s->owner != (c)->number) {                                        \
				if (ADD_BESIDE(table, index, c, s, hook, weight, 0, usual)) { \
					book(c, hook, CELL_COUNTED, weight, usual);           \
					return 1;                                             \
				}                                                             \
				crowd = 1;                                                    \
			}                                                                     \
		}                                                                             \
		if (crowd) {                                                                  \
			__u64 own = in_shard(hash, (c)->number);                              \
                                                                                              \
			TO_OWN;                                                               \
			s = ELEMENT(table, HOME_OF(own) & (mask));                            \
			if (!s || !SAME(s) || s->owner != (c)->number) {                      \
				s = LIKELY_SLOT(table, mask, own, index);                     \
				if (!s || !SAME(s) || s->owner != (c)->number)                \
					return 0;                                             \
			}                                                                     \
		}                                                                             \
	}                                                                                     \
	ADD_TO(c, s, hook, weight, usual);                                                    \
	book(c, hook, CELL_COUNTED, weight, usual);                                           \
	return 1

#define SAME4(s)                                                                  \
	(!((((__u64 *)&(s)->key)[0] ^ meta) | (((__u64 *)&(s)->key)[1] ^ outer) | \
	   (((__u64 *)&(s)->key)[2] ^ inner)))
#define COPY4(s)                                 \
	do {                                     \
		((__u64 *)&(s)->key)[0] = meta;  \
		((__u64 *)&(s)->key)[1] = outer; \
		((__u64 *)&(s)->key)[2] = inner; \
	} while (0)

/* The difference between a slot's pair and this one. */
static __always_inline __u64 differ_pair(const __be32 (*in)[4], const struct pair *p)
{
	const __u64 *word = (const __u64 *)in;

	return (word[0] ^ p->word[0]) | (word[1] ^ p->word[1]) | (word[2] ^ p->word[2]) |
	       (word[3] ^ p->word[3]);
}

static __always_inline int same6(const struct slot6 *s, struct meta6 meta, const struct pair *outer,
				 const struct pair *inner)
{
	const __u64 *word = (const __u64 *)&s->key;

	return !((word[0] ^ meta.ids) | (word[1] ^ meta.rest) | differ_pair(s->key.outer, outer) |
		 differ_pair(s->key.inner, inner));
}

#define SAME6(s) same6(s, meta, &outer, &inner)

static __always_inline int same_key6(const struct slot6 *s, const struct key6 *key)
{
	const __u64 *a = (const __u64 *)&s->key, *b = (const __u64 *)key;
	__u64 differ = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

#define SAME_KEY6(s) same_key6(s, &c->key)
#define COPY6(s)     ((s)->key = c->key)

enum found {
	FOUND_NO_ROOM,
	FOUND,
	FOUND_CROWD, /* a row that this CPU counts elsewhere: in its own slot */
	FOUND_PROBE, /* it was counted, and there is more to do with it: see probe.h */
};

/* The place of a probed slot: its table, and its number there. */
#define PLACE_TABLE 30
enum { PLACE_rows4, PLACE_rows6, PLACE_others };

#define FOUND_PROBED(c, table, slot)                                       \
	do {                                                               \
		(c)->place = (__u32)PLACE_##table << PLACE_TABLE | (slot); \
		return FOUND_PROBE;                                        \
	} while (0)

/*
 * The body of a function that counts the current packet in its row, found or created. SAME says
 * whether a slot has the key, COPY writes it. A slot that we have claimed is ours alone until it
 * has its tag.
 */
#define HIT_OR_MAKE(table, mask, hash, c, SAME, COPY)                                            \
	__u32 step = STEP_OF(hash), at = HOME_OF(hash), hook = (c)->walk.hook;                   \
	__u64 tag = tag_of(hash);                                                                \
                                                                                                 \
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < GROUPS; i++)                 \
	{                                                                                        \
		__u32 group = (at & (mask)) / GROUP, lane;                                       \
		__u64 *tags = ELEMENT(table##_tags, group), now, lanes;                          \
		POINTER_TO(table) s;                                                             \
                                                                                                 \
		if (!tags)                                                                       \
			return FOUND_NO_ROOM;                                                    \
		now = *(volatile __u64 *)tags;                                                   \
		lanes = lanes_with(now, tag);                                                    \
		_Pragma("clang loop unroll(disable)") for (__u32 j = 0; j < GROUP && lanes; j++) \
		{                                                                                \
			lane = group * GROUP + lane_of(lanes);                                   \
			s = ELEMENT(table, lane);                                                \
			if (!s)                                                                  \
				return FOUND_NO_ROOM;                                            \
			if (SAME(s)) {                                                           \
				int anyway = (c)->common || (c)->key.shard & SHARD_CPU;          \
                                                                                                 \
				if ((c)->common)                                                 \
					no_crowd(&s->owner);                                     \
				if (s->owner == (c)->number) {                                   \
					ADD_TO(c, s, hook, (c)->weight, 0);                      \
				} else if (anyway || !ADD_BESIDE(table, lane, c, s, hook,        \
								 (c)->weight, 0, 0)) {           \
					(c)->owner = *(volatile __u32 *)&s->owner;               \
					if (!anyway && !((c)->owner & OWNER_PROBE))              \
						return FOUND_CROWD;                              \
					ADD_BESIDE(table, lane, c, s, hook, (c)->weight, 1, 0);  \
					if ((c)->owner & OWNER_PROBE)                            \
						FOUND_PROBED(c, table, lane);                    \
				}                                                                \
				return FOUND;                                                    \
			}                                                                        \
			lanes &= lanes - 1;                                                      \
		}                                                                                \
		lanes = lanes_free(now);                                                         \
		if (!lanes) {                                                                    \
			at += step;                                                              \
			continue;                                                                \
		}                                                                                \
		/* slots of single CPUs must leave room for rows */                              \
		if ((c)->key.shard & SHARD_CPU && lanes * LANES >> 56 <= GROUP / 4)              \
			return FOUND_NO_ROOM;                                                    \
		/* the home slot, or one that depends on the CPU, so that CPUs do not compete */ \
		lane = at & (GROUP - 1);                                                         \
		if (!(lanes >> 8 * lane & 1))                                                    \
			lane = lane_from(lanes, (c)->number & (GROUP - 1));                      \
		s = ELEMENT(table, group * GROUP + lane);                                        \
		if (!s)                                                                          \
			return FOUND_NO_ROOM;                                                    \
		lane *= 8;                                                                       \
		if (__sync_fetch_and_or(tags, (__u64)TAG_BUSY << lane) >> lane & 0xff)           \
			continue; /* another CPU was faster, perhaps with the same row */        \
		COPY(s);                                                                         \
		(c)->owner = new_owner((c)->number);                                             \
		s->owner = (c)->owner;                                                           \
		ADD_TO(c, s, hook, (c)->weight, 0);                                              \
		now = __sync_fetch_and_xor(tags, (tag ^ TAG_BUSY) << lane);                      \
		barrier_var(now); /* orders it: whoever sees the tag sees the key */             \
		if ((c)->owner & OWNER_PROBE)                                                    \
			FOUND_PROBED(c, table, group *GROUP + lane / 8);                         \
		return FOUND;                                                                    \
	}                                                                                        \
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
	__u64 hash = in_shard(hash_of_key6(&c->key), c->key.shard);

	HIT_OR_MAKE(rows6, cfg_mask6, hash, c, SAME_KEY6, COPY6);
}

static __always_inline enum found count_other(struct cpu *c)
{
	__u64 hash = in_shard(hash_of_key6(&c->key), c->key.shard);

	HIT_OR_MAKE(others, cfg_mask_others, hash, c, SAME_KEY6, COPY6);
}

#endif
