/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Accounting: what a packet weighs, which row it belongs to, and the tables. The only file that
 * touches the maps' contents.
 *
 * A table is an array of slots and one of their tags, which user space maps into its memory: a hit
 * costs no helper call, a reading no system call. The tags of a group are one word: which slot may
 * hold a key is told from it by arithmetic, without a branch that depends on the key. A key is
 * looked for in one group after the other; the search ends at the first group with a free slot.
 */
#ifndef TMON_BOOK_H
#define TMON_BOOK_H

#include "walk.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

#define TABLE(name, type_of_value)                 \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, 1);            \
		__type(key, __u32);                \
		__type(value, type_of_value);      \
	} name SEC(".maps")

TABLE(rows4, struct slot4);
TABLE(rows6, struct slot6);
TABLE(others, struct slot6);
TABLE(rows4_tags, __u64);
TABLE(rows6_tags, __u64);
TABLE(others_tags, __u64);
TABLE(rows4_more, struct more);
TABLE(rows6_more, struct more);
TABLE(others_more, struct more);

#define ELEMENT(map, index)                     \
	({                                      \
		__u32 at = index;               \
		bpf_map_lookup_elem(&map, &at); \
	})

/* Where the later fragments of an outer packet go: forgotten when newer ones need the room. */
struct fragment_key {
	__be32 pair[2][4]; /* as on the wire */
	__u32 id;
	__u16 proto;
	__u16 v6;
};

struct fragment_row {
	struct key6 key;
	__u32 swapped;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment_row);
} fragments SEC(".maps");

/* Groups of each table minus one, set with its size. */
const volatile __u32 cfg_mask4;
const volatile __u32 cfg_mask6;
const volatile __u32 cfg_mask_others;
const volatile __u64 cfg_seed[12]; /* random, so that nobody can choose keys that collide */

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

/*
 * What the packet in hand weighs on the wire. A GSO or GRO super-packet is as many packets as it
 * has segments, each with a copy of the headers: everything up to the payload of the last header
 * that was read. A tag in the metadata is on the wire too.
 */
static __always_inline struct weight weigh(struct __sk_buff *skb, const struct walk *w)
{
	__u32 size = skb->gso_size, segments = 1, bytes = w->frame, headers;

	if (unlikely(size) && !cfg_skb) {
		headers = w->off;
		if (w->ip_proto == PROTO_TCP) {
			struct tcp *tcp = bytes_at(skb, headers, sizeof(*tcp), w->end);

			headers += tcp ? (tcp->offset >> 4) * 4 : sizeof(*tcp);
		} else if (w->ip_proto == PROTO_UDP) {
			headers += sizeof(struct udp);
		}
		if (cfg_replay)
			headers -= skb->cb[2];
		if (w->flags & WALK_JUMBO) { /* the kernel takes it out of what it sends */
			headers -= JUMBO_HEADER;
			bytes -= JUMBO_HEADER;
		}
		segments = skb->gso_segs;
		if (!segments) /* a guest's packet: nobody has counted yet */
			segments = bytes > headers ? (bytes - headers + size - 1) / size : 1;
		if (headers < bytes)
			bytes += (segments - 1) * headers;
	}
	if (!cfg_replay && unlikely(skb->vlan_present))
		bytes += segments * sizeof(struct vlan);
	return (struct weight){ segments, bytes };
}

static __always_inline void book(struct cpu *c, __u32 hook, __u32 cell, struct weight weight)
{
	__u32 index = hook * CELLS + cell;
	struct cell_count *n;

	if (!__builtin_constant_p(index))
		barrier_var(index);
	n = &c->books[index & (HOOKS * CELLS - 1)];
	if (cfg_preempt) {
		__sync_fetch_and_add(&n->packets, weight.packets);
		__sync_fetch_and_add(&n->bytes, weight.bytes);
	} else {
		n->packets += weight.packets;
		n->bytes += weight.bytes;
	}
}

/* Adds the packet in hand to a row. Without a branch: whether a row was seen in this jiffy cannot
 * be guessed. */
#define ADD_TO(slot, hook, weight)                                                     \
	do {                                                                           \
		__u64 *count = &(slot)->packets[(hook)&1];                             \
                                                                                       \
		(slot)->seen = bpf_jiffies64();                                        \
		__sync_fetch_and_add(count, (weight).packets);                         \
		__sync_fetch_and_add(count + HOOKS, (weight).bytes); /* bytes[hook] */ \
	} while (0)

/* The same, where nobody else does: in this CPU's part of a row. */
#define ADD_TO_OWN(slot, hook, weight)                                 \
	do {                                                           \
		if (cfg_preempt) {                                     \
			ADD_TO(slot, hook, weight);                    \
		} else {                                               \
			(slot)->seen = bpf_jiffies64();                \
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
		__u32 now = bpf_jiffies64(), was = (s)->owner;                          \
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

/* Whether the second of an IPv4 pair's addresses comes first in the row; -1 when they are the same.
 */
static __always_inline int order4(__u64 pair)
{
	__u32 a = bpf_ntohl((__u32)pair), b = bpf_ntohl(pair >> 32);

	return a == b ? -1 : a > b;
}

static __always_inline int order6(const __u64 *pair)
{
	__u64 a = bpf_be64_to_cpu(pair[0]), b = bpf_be64_to_cpu(pair[2]);

	if (a == b) {
		a = bpf_be64_to_cpu(pair[1]);
		b = bpf_be64_to_cpu(pair[3]);
	}
	return a == b ? -1 : a > b;
}

/* Writes a pair as the row has it. An IPv4 address fills the first word of its four, the rest is
 * zero. */
static __always_inline void put_pair(__be32 (*to)[4], const __u64 *from, int v6, int swapped)
{
	__u64 *first = (__u64 *)to[swapped & 1], *second = (__u64 *)to[~swapped & 1];

	if (v6) {
		first[0] = from[0];
		first[1] = from[1];
		second[0] = from[2];
		second[1] = from[3];
	} else {
		first[0] = (__u32)from[0];
		first[1] = 0;
		second[0] = from[0] >> 32;
		second[1] = 0;
	}
}

/*
 * Makes the row's key: pairs in order, the direction bit, tunnels. inner is NULL where what is
 * inside is no pair.
 */
static __always_inline void make_key(struct cpu *c, __u32 hook, __u32 depth, __u64 tunnel0,
				     __u64 tunnel1, const __u64 *outer, int outer6,
				     const __u64 *inner, int inner6, __u32 inside)
{
	__u64 flags = (tunnel0 | tunnel1) >> 40;
	__u64 *word = (__u64 *)&c->key;
	int swapped = outer6 ? order6(outer) : order4(outer[0]);

	if (unlikely(swapped < 0))
		swapped = !inner ? 0 : inner6 ? order6(inner) : order4(inner[0]);
	swapped = swapped > 0;
	c->swapped = swapped;
	flags |= outer6 ? ROW_OUTER6 : 0;
	flags |= swapped ^ hook ? ROW_DIR : 0;
	put_pair(c->key.outer, outer, outer6, swapped);
	if (inner) {
		flags |= inner6 ? ROW_INNER6 : 0;
		put_pair(c->key.inner, inner, inner6, swapped);
	} else {
		__builtin_memset(c->key.inner, 0, sizeof(c->key.inner));
		c->key.inner[0][0] = inside;
		flags |= ROW_NO_PAIR;
	}
	/* key6: id[2]; kind[2], flags, depth, shard */
	word[0] = (__u32)tunnel0 | tunnel1 << 32;
	word[1] = (__u8)(tunnel0 >> 32) | (__u64)(__u8)(tunnel1 >> 32) << 8 | flags << 16 |
		  (__u64)depth << 24;
}

static __always_inline void row_key(struct cpu *c, const struct walk *w)
{
	int inner = w->flags & WALK_INNER, outer6 = w->flags & WALK_OUTER6,
	    inner6 = w->flags & WALK_INNER6;

	if (inner)
		make_key(c, w->hook, w->depth, w->tunnel[0], w->tunnel[1], w->outer, outer6,
			 w->inner, inner6, 0);
	else
		make_key(c, w->hook, w->depth, w->tunnel[0], w->tunnel[1], w->outer, outer6, NULL,
			 0, w->inside);
	if (unlikely(w->flags & WALK_FIRST))
		c->key.shard |= SHARD_FRAGMENT;
}

/* Whether a key is one of the IPv4 table's. */
static __always_inline int is_small(const struct key6 *key)
{
	return key->depth == 1 && !(key->flags & (ROW_OUTER6 | ROW_INNER6));
}

static __always_inline struct fragment_key fragment_of(const struct walk *w)
{
	struct fragment_key key = { .id = w->fragment_id };

	key.v6 = !!(w->flags & WALK_OUTER6);
	if (key.v6) { /* RFC 8200, section 4.5: next headers may differ */
		__builtin_memcpy(key.pair, w->outer, sizeof(key.pair));
	} else {
		key.proto = w->fragment_proto;
		key.pair[0][0] = w->outer[0];
		key.pair[1][0] = w->outer[0] >> 32;
	}
	return key;
}

/* The number of a remembered packet is used again for one that is in no row. */
static __always_inline void forget(const struct walk *w)
{
	struct fragment_key key;

	if (likely(!(w->flags & WALK_FIRST)))
		return;
	key = fragment_of(w);
	bpf_map_delete_elem(&fragments, &key);
}

/* Remembers where the later fragments of this packet belong. */
static __always_inline void remember(struct cpu *c)
{
	struct fragment_row row = { .key = c->key, .swapped = c->swapped };
	struct fragment_key key;

	if (likely(!(c->walk.flags & WALK_FIRST)))
		return;
	key = fragment_of(&c->walk);
	bpf_map_update_elem(&fragments, &key, &row, BPF_ANY);
}

/* A later fragment of an outer packet belongs to the row of its first one; 0 if that was not seen.
 */
static __always_inline int join_fragment(struct cpu *c, struct walk *w)
{
	struct fragment_key key = fragment_of(w);
	struct fragment_row *row = bpf_map_lookup_elem(&fragments, &key);

	if (!row)
		return 0;
	c->key = row->key;
	c->swapped = row->swapped;
	c->key.flags = (row->key.flags & ~ROW_DIR) | (c->swapped ^ w->hook ? ROW_DIR : 0);
	c->key.shard = SHARD_FRAGMENT;
	w->flags |= WALK_LATER;
	return 1;
}

/* What of an IPv4 row's key is not an address, as one word: key4's id; kind, flags, shard. */
static __always_inline __u64 meta4(__u64 tunnel, __u32 flags, __u32 on)
{
	return tunnel | (__u64)flags << 40 | (__u64)on << 48;
}

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

/* The row of an IPv4 pair in one tunnel, if it is there, in the first group that it may be in. 0 if
 * nothing was counted. */
static __always_inline int hit4(struct cpu *c, __u32 hook, __u64 tunnel, __u64 outer, __u64 inner,
				struct weight weight)
{
	int swapped = order4(outer);
	struct slot4 *s;
	__u64 meta, hash;

	if (unlikely(swapped < 0))
		swapped = order4(inner) > 0;
	if (swapped) {
		outer = outer >> 32 | outer << 32;
		inner = inner >> 32 | inner << 32;
	}
	meta = meta4(tunnel, swapped ^ hook ? ROW_DIR : 0, 0);
	hash = hash4(meta, outer, inner);
	s = LIKELY_SLOT(rows4, cfg_mask4, hash);
	if (!s || !SAME4(s))
		return 0;
	if (unlikely((__u16)s->owner != c->number) && TAKES_TURNS(s, c)) {
		meta = meta4(meta, 0, c->number);
		s = LIKELY_SLOT(rows4, cfg_mask4, in_shard(hash, c->number));
		if (!s || !SAME4(s))
			return 0;
		ADD_TO_OWN(s, hook, weight);
	} else {
		ADD_TO(s, hook, weight);
	}
	book(c, hook, CELL_COUNTED, weight);
	return 1;
}

/* The same for c->key's row in the other table. */
static __always_inline int hit6(struct cpu *c, __u32 hook, struct weight weight)
{
	__u64 hash = hash6(&c->key);
	struct slot6 *s = LIKELY_SLOT(rows6, cfg_mask6, hash);

	if (!s || !SAME6(s))
		return 0;
	if (unlikely((__u16)s->owner != c->number) && TAKES_TURNS(s, c)) {
		c->key.shard = c->number;
		s = LIKELY_SLOT(rows6, cfg_mask6, in_shard(hash, c->number));
		if (!s || !SAME6(s))
			return 0;
		ADD_TO_OWN(s, hook, weight);
	} else {
		ADD_TO(s, hook, weight);
	}
	book(c, hook, CELL_COUNTED, weight);
	return 1;
}

/* Turns the key into that of the tunnel's `other` row: what the row was, without its inside. */
static __always_inline void other_key(struct key6 *key)
{
	key->flags = (key->flags & ~ROW_INNER6) | ROW_NO_PAIR | ROW_OTHER;
	__builtin_memset(key->inner, 0, sizeof(key->inner));
	key->inner[0][0] = INNER_REASON | REASON_OTHER;
}

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
		typeof(table.value) s;                                                            \
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
				ADD_TO(s, hook, (c)->weight);                                     \
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
		ADD_TO(s, hook, (c)->weight);                                                     \
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
