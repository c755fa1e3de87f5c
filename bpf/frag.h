/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Later fragments of outer packets: they belong to the row of the first one. */
#ifndef TMON_FRAG_H
#define TMON_FRAG_H

#include "cpu.h"

/* Identifies the later fragments of an outer packet; evicted when newer ones need the room. */
struct fragment_key {
	__be32 pair[2][4]; /* in network byte order */
	__u32 id;
	__u16 proto;
	__u16 v6;
};

struct fragment_row {
	struct key6 key;
	__u32 swapped;
};

LRU(fragments, 8192, struct fragment_key, struct fragment_row);

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

/* The id of a remembered packet is reused by one that is in no row. */
static __always_inline void forget(const struct walk *w)
{
	struct fragment_key key;

	if (likely(!(w->flags & WALK_FIRST)))
		return;
	key = fragment_of(w);
	LRU_DELETE(fragments, &key);
}

/* Remembers the row of this packet for its later fragments. */
static __always_inline void remember(struct cpu *c)
{
	struct fragment_row row = { .key = c->key, .swapped = c->swapped };
	struct fragment_key key;

	if (likely(!(c->walk.flags & WALK_FIRST)))
		return;
	key = fragment_of(&c->walk);
	LRU_PUT(fragments, &key, &row);
}

/* Counts a later fragment of an outer packet in the row of its first one; returns 0 if that was not
 * seen. */
static __always_inline int join_fragment(struct cpu *c, struct walk *w)
{
	struct fragment_key key = fragment_of(w);
	struct fragment_row *row = LRU_FIND(fragments, &key);

	if (!row)
		return 0;
	c->key = row->key;
	c->swapped = row->swapped;
	c->key.flags = (row->key.flags & ~ROW_DIR) | (c->swapped ^ w->hook ? ROW_DIR : 0);
	c->key.shard = SHARD_FRAGMENT;
	w->flags |= WALK_LATER;
	return 1;
}

#endif
