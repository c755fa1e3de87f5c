/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Accounting, a consumer of what was parsed of a packet: its size on the wire, the books, its row.
 */
#ifndef TMON_COUNT_H
#define TMON_COUNT_H

#include "frag.h"
#include "key.h"
#include "table.h"

/*
 * The packets and bytes that the current skb is on the wire. A GSO or GRO super-packet is as many
 * packets as it has segments, each with a copy of the headers: everything up to the payload of the
 * last header that was read. A VLAN tag in the metadata is also on the wire.
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
		if (w->flags & WALK_JUMBO) { /* the kernel removes it when it sends */
			headers -= JUMBO_HEADER;
			bytes -= JUMBO_HEADER;
		}
		segments = skb->gso_segs;
		if (!segments) /* a guest's packet: its segments are not counted yet */
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

/* The packet is in no row: counts it in the books. */
static __always_inline int stop(struct __sk_buff *skb, struct cpu *c, const struct walk *w,
				__u32 reason)
{
	struct weight weight;

	if (ASKED()) {
		ANSWER(reason | (w->flags & WALK_SUSPECT ? ANSWER_SUSPECT : 0));
		return TC_ACT_UNSPEC;
	}
	weight = weigh(skb, w);
	book(c, w->hook, CELL_STOP + reason, weight, 0);
	if (unlikely(w->flags & WALK_SUSPECT))
		book(c, w->hook, CELL_SUSPECT, weight, 0);
	return TC_ACT_UNSPEC;
}

/* The packet is in a row; the books also count what arrived in fragments. */
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

/* Counts in an IPv4 row if that is in the first group of its key. 0: nothing was counted. */
static __always_inline int hit4(struct cpu *c, __u32 hook, __u64 meta, __u64 outer, __u64 inner,
				struct weight weight, int usual)
{
	__u64 hash = hash4(meta, outer, inner);

	HIT(rows4, cfg_mask4, hash, c, hook, weight, usual, SAME4,
	    meta = meta4(meta, 0, c->number));
}

/* The same for the other table. */
static __always_inline int hit6(struct cpu *c, __u32 hook, struct meta6 meta, struct pair outer,
				int outer6, struct pair inner, int inner6, struct weight weight,
				int usual)
{
	__u64 hash = hash6(meta, &outer, outer6, &inner, inner6);

	HIT(rows6, cfg_mask6, hash, c, hook, weight, usual, SAME6,
	    meta.rest |= (__u64)c->number << 32);
}

/* Like weigh(), for packets other than super-packets. */
static __always_inline struct weight quick_weigh(struct __sk_buff *skb, __u32 frame, int usual)
{
	if (!UNLESS(usual, cfg_replay) && unlikely(skb->vlan_present))
		frame += sizeof(struct vlan);
	return (struct weight){ 1, frame };
}

#endif
