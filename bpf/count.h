/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Accounting, a consumer of what was read of a packet: what it weighs, the books, its row.
 */
#ifndef TMON_COUNT_H
#define TMON_COUNT_H

#include "frag.h"
#include "key.h"
#include "quick.h"
#include "table.h"

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

static __always_inline void book(struct cpu *c, __u32 hook, __u32 cell, struct weight weight,
				 int usual)
{
	__u32 index = hook * CELLS + cell;
	struct cell_count *n;

	if (!__builtin_constant_p(index))
		barrier_var(index);
	n = &c->books[index & (HOOKS * CELLS - 1)];
	if (UNLESS(usual, cfg_preempt)) {
		ADD(&n->packets, weight.packets);
		ADD(&n->bytes, weight.bytes);
	} else {
		n->packets += weight.packets;
		n->bytes += weight.bytes;
	}
}

/* The packet is in no row: into the books. */
static __always_inline int stop(struct __sk_buff *skb, struct cpu *c, const struct walk *w,
				__u32 reason)
{
	struct weight weight = weigh(skb, w);

	book(c, w->hook, CELL_STOP + reason, weight, 0);
	if (unlikely(w->flags & WALK_SUSPECT))
		book(c, w->hook, CELL_SUSPECT, weight, 0);
	return TC_ACT_UNSPEC;
}

/* The packet is in a row; the books also say how much of that came in fragments. */
static __always_inline int in_row(struct cpu *c)
{
	struct walk *w = &c->walk;

	book(c, w->hook, CELL_COUNTED, c->weight, 0);
	if (unlikely(w->flags & (WALK_FIRST | WALK_LATER)))
		book(c, w->hook, CELL_FRAGMENT, c->weight, 0);
	return TC_ACT_UNSPEC;
}

static __always_inline __u32 overflow(const struct cpu *c)
{
	return CELL_OVERFLOW + (c->swapped & 1) + (c->key.shard & SHARD_FRAGMENT ? 2 : 0);
}

/* The row of an IPv4 pair in one tunnel, if it is there, in the first group that it may be in. 0 if
 * nothing was counted. */
static __always_inline int hit4(struct cpu *c, __u32 hook, __u64 tunnel, __u64 outer, __u64 inner,
				struct weight weight, int usual)
{
	int swapped = order4(outer);
	__u64 meta, hash;

	if (unlikely(swapped < 0))
		swapped = order4(inner) > 0;
	if (swapped) {
		outer = outer >> 32 | outer << 32;
		inner = inner >> 32 | inner << 32;
	}
	meta = meta4(tunnel, swapped ^ hook ? ROW_DIR : 0, 0);
	hash = hash4(meta, outer, inner);
	HIT(rows4, cfg_mask4, hash, c, hook, weight, usual, SAME4,
	    meta = meta4(meta, 0, c->number));
}

/* A pair in the row's order. A branch, not arithmetic: its loads do not wait for the order. */
static __always_inline struct pair ordered(const __u64 *from, int v6, int swapped)
{
	if (!v6)
		return (struct pair){ { swapped ? from[0] >> 32 | from[0] << 32 : from[0] }, 0 };
	if (swapped) {
		barrier_var(from); /* the verifier knows no pointer that depends on the order */
		return (struct pair){ { from[2], from[3], from[0], from[1] }, 1 };
	}
	return (struct pair){ { from[0], from[1], from[2], from[3] }, 1 };
}

/* The same for a row of the other table. The key is not written: it is compared from where it is.
 */
static __always_inline int hit6(struct cpu *c, __u32 hook, const struct around *a, int outer6,
				const __u64 *inner_at, int inner6, struct weight weight, int usual)
{
	int swapped = outer6 ? order6(a->pair6) : order4(a->pair4);
	struct pair outer_pair, inner_pair, *outer = &outer_pair, *inner = &inner_pair;
	struct meta6 meta;
	__u64 hash;

	if (unlikely(swapped < 0))
		swapped = inner6 ? order6(inner_at) : order4(inner_at[0]);
	swapped = swapped > 0;
	outer_pair = outer6 ? ordered(a->pair6, 1, swapped) : ordered(&a->pair4, 0, swapped);
	inner_pair = ordered(inner_at, inner6, swapped);
	meta = meta_of(a->depth, a->tunnel[0], a->tunnel[1],
		       (outer6 ? ROW_OUTER6 : 0) | (inner6 ? ROW_INNER6 : 0) |
			       (swapped ^ hook ? ROW_DIR : 0));
	hash = hash6(meta, outer, inner);
	HIT(rows6, cfg_mask6, hash, c, hook, weight, usual, SAME6,
	    meta.rest |= (__u64)c->number << 32);
}

/* As weigh(), of what is no super-packet. */
static __always_inline struct weight quick_weigh(struct __sk_buff *skb, __u32 frame, int usual)
{
	if (!UNLESS(usual, cfg_replay) && unlikely(skb->vlan_present))
		frame += sizeof(struct vlan);
	return (struct weight){ 1, frame };
}

/*
 * The row of a packet of which l is the innermost IP header. 0 if it is not at hand, and nothing
 * was counted.
 */
static __always_inline int count_quick(struct __sk_buff *skb, struct cpu *c, __u32 hook,
				       __u32 frame, const struct around *a, const struct level *l,
				       int usual)
{
	struct weight weight = quick_weigh(skb, frame, usual);

	if (!(a->v6 | l->v6) && a->depth == 1)
		return hit4(c, hook, a->tunnel[0], a->pair4, l->pair[0], weight, usual);
	if (a->v6)
		return l->v6 ? hit6(c, hook, a, 1, l->pair, 1, weight, usual) :
			       hit6(c, hook, a, 1, l->pair, 0, weight, usual);
	return l->v6 ? hit6(c, hook, a, 0, l->pair, 1, weight, usual) :
		       hit6(c, hook, a, 0, l->pair, 0, weight, usual);
}

#endif
