/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The key of a packet's row: which conversation it belongs to. */
#ifndef TMON_KEY_H
#define TMON_KEY_H

#include "cpu.h"

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

/* What of a key6 is not an address: key6's id[2]; kind[2], flags, depth, shard. */
struct meta6 {
	__u64 ids;
	__u64 rest;
};

static __always_inline struct meta6 meta_of(__u32 depth, __u64 tunnel0, __u64 tunnel1, __u32 flags)
{
	return (struct meta6){ (__u32)tunnel0 | tunnel1 << 32,
			       (__u8)(tunnel0 >> 32) | (__u64)(__u8)(tunnel1 >> 32) << 8 |
				       ((tunnel0 | tunnel1) >> 40 | flags) << 16 |
				       (__u64)depth << 24 };
}

/*
 * Makes the row's key: pairs in order, the direction bit, tunnels. inner is NULL where what is
 * inside is no pair.
 */
static __always_inline void make_key(struct cpu *c, __u32 hook, __u32 depth, __u64 tunnel0,
				     __u64 tunnel1, const __u64 *outer, int outer6,
				     const __u64 *inner, int inner6, __u32 inside)
{
	__u64 *word = (__u64 *)&c->key;
	struct meta6 meta;
	__u32 flags = 0;
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
	meta = meta_of(depth, tunnel0, tunnel1, flags);
	word[0] = meta.ids;
	word[1] = meta.rest;
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

/* Turns the key into that of the tunnel's `other` row: what the row was, without its inside. */
static __always_inline void other_key(struct key6 *key)
{
	key->flags = (key->flags & ~ROW_INNER6) | ROW_NO_PAIR | ROW_OTHER;
	__builtin_memset(key->inner, 0, sizeof(key->inner));
	key->inner[0][0] = INNER_REASON | REASON_OTHER;
}

/* What of an IPv4 row's key is not an address, as one word: key4's id; kind, flags, shard. */
static __always_inline __u64 meta4(__u64 tunnel, __u32 flags, __u32 on)
{
	return tunnel | (__u64)flags << 40 | (__u64)on << 48;
}

#endif
