/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The key of a packet's row, which identifies its conversation. */
#ifndef TMON_KEY_H
#define TMON_KEY_H

#include "cpu.h"

/* Whether the second of an IPv4 pair's addresses comes first in the row; -1 if they are equal. */
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

/* A pair of a key6 as words: an IPv4 address fills half of the first of its two words. */
struct pair {
	__u64 word[4];
};

static __always_inline struct pair pair_at(const __u64 *from, int v6)
{
	if (v6)
		return (struct pair){ { from[0], from[1], from[2], from[3] } };
	return (struct pair){ { (__u32)from[0], 0, from[0] >> 32, 0 } };
}

static __always_inline void swap(struct pair *p)
{
	*p = (struct pair){ { p->word[2], p->word[3], p->word[0], p->word[1] } };
}

/* The part of a key6 without addresses: id[2]; kind[2], flags, depth, shard. */
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

/* Writes the key of a row from its words, with the pairs in the row's order. */
static __always_inline void put_key(struct cpu *c, struct meta6 meta, struct pair outer,
				    struct pair inner)
{
	__u64 *word = (__u64 *)&c->key;

	word[0] = meta.ids;
	word[1] = meta.rest;
	*(struct pair *)c->key.outer = outer;
	*(struct pair *)c->key.inner = inner;
}

/* Writes the key of a walk's row: ordered pairs, the direction bit, tunnels. */
static __always_inline void row_key(struct cpu *c, const struct walk *w)
{
	int is_pair = !!(w->flags & WALK_INNER), outer6 = !!(w->flags & WALK_OUTER6),
	    inner6 = is_pair && w->flags & WALK_INNER6;
	struct pair outer = pair_at(w->outer, outer6), inner = { { w->inside } };
	int swapped = order6(outer.word);

	if (is_pair)
		inner = pair_at(w->inner, inner6);
	if (unlikely(swapped < 0))
		swapped = is_pair && order6(inner.word) > 0;
	if (swapped)
		swap(&outer);
	if (swapped && is_pair)
		swap(&inner);
	c->swapped = swapped;
	put_key(c,
		meta_of(w->depth, w->tunnel[0], w->tunnel[1],
			outer6 * ROW_OUTER6 | inner6 * ROW_INNER6 | !is_pair * ROW_NO_PAIR |
				(swapped ^ w->hook) * ROW_DIR),
		outer, inner);
	if (unlikely(w->flags & WALK_FIRST))
		c->key.shard |= SHARD_FRAGMENT;
}

/* Whether a key belongs in the IPv4 table. */
static __always_inline int is_small(const struct key6 *key)
{
	return key->depth == 1 && !(key->flags & (ROW_OUTER6 | ROW_INNER6));
}

/* Turns the key into that of the tunnel's `other` row: the same row without its inside. */
static __always_inline void other_key(struct key6 *key)
{
	key->flags = (key->flags & ~ROW_INNER6) | ROW_NO_PAIR | ROW_OTHER;
	__builtin_memset(key->inner, 0, sizeof(key->inner));
	key->inner[0][0] = INNER_REASON | REASON_OTHER;
}

/* The part of an IPv4 row's key without addresses, as one word: key4's id; kind, flags, shard. */
static __always_inline __u64 meta4(__u64 tunnel, __u32 flags, __u32 on)
{
	return tunnel | (__u64)flags << 40 | (__u64)on << 48;
}

#endif
