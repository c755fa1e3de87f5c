/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The way that nearly all packets take: IPv4 without options or IPv6 without extension headers,
 * whole and at hand, a common tunnel's plainest header, the same again inside, a row that is there.
 * In one piece it is a third of the instructions that the states need for it.
 *
 * Every check is as strict as the state's that it stands for. What does not pass one of them, for
 * good or for bad, is left to the states, which go on from the header where this began.
 */
#ifndef TMON_QUICK_H
#define TMON_QUICK_H

#include "book.h"
#include "link.h"
#include "tunnel.h"

/* One IP header that was read, or the frame before it. */
struct level {
	__u32 off;   /* what it carries */
	__u32 end;   /* first byte behind that */
	__u32 proto; /* IP protocol there */
	__u32 v6;
	const __u64 *pair; /* its addresses, in the packet */
};

/* The IP header of this EtherType at l->off. */
static __always_inline int quick_ip(struct __sk_buff *skb, struct level *l, __u32 type)
{
	void *at = packet(skb) + l->off;
	__u32 length;

	if (likely(type == ETHERTYPE_IP)) {
		struct ip4 *ip = at;

		if (at + sizeof(*ip) > packet_end(skb))
			return 0;
		length = bpf_ntohs(ip->length);
		if (ip->version_ihl != 0x45 || ip->fragment & bpf_htons(IP4_MORE | IP4_OFFSET) ||
		    length < sizeof(*ip) || l->off + length > l->end)
			return 0;
		l->pair = (const __u64 *)&ip->src;
		l->proto = ip->proto;
		l->v6 = 0;
		l->end = l->off + length;
		l->off += sizeof(*ip);
	} else {
		struct ip6 *ip = at;

		if (type != ETHERTYPE_IPV6 || at + sizeof(*ip) > packet_end(skb))
			return 0;
		length = bpf_ntohs(ip->payload);
		if (ip->version_class >> 4 != 6 || !length || l->off + sizeof(*ip) + length > l->end)
			return 0;
		l->pair = (const __u64 *)ip->src;
		l->proto = ip->next;
		l->v6 = 1;
		l->off += sizeof(*ip);
		l->end = l->off + length;
	}
	return 1;
}

/* The headers up to and with IP. proto: what is at l->off; tags: as many are looked through. */
static __always_inline int quick_level(struct __sk_buff *skb, struct level *l, __u32 proto, int tags)
{
	if (proto == ETHERTYPE_TEB) {
		struct eth *eth = packet(skb) + l->off;

		if ((void *)(eth + 1) > packet_end(skb)) /* and before l->end if the IP packet is */
			return 0;
		proto = bpf_ntohs(eth->type);
		l->off += sizeof(*eth);
		for (int i = 0; i < tags && unlikely(is_tag(proto)); i++) {
			struct vlan *tag = packet(skb) + l->off;

			if ((void *)(tag + 1) > packet_end(skb))
				return 0;
			proto = bpf_ntohs(tag->type);
			l->off += sizeof(*tag);
		}
	} else if (proto == PAYLOAD_IP) {
		__u8 *nibble = packet(skb) + l->off;

		if ((void *)(nibble + 1) > packet_end(skb))
			return 0;
		proto = *nibble >> 4 == 4 ? ETHERTYPE_IP : ETHERTYPE_IPV6;
	}
	return quick_ip(skb, l, proto);
}

/* What is behind an IP header. */
enum behind {
	BEHIND_UNKNOWN,
	BEHIND_LEAF,   /* surely no tunnel */
	BEHIND_TUNNEL, /* one that was read */
};

struct outside {
	__u64 tunnel; /* TUNNEL(), ROW_ID if it has an id */
	__u32 proto;  /* EtherType of its payload, or PAYLOAD_IP */
};

/*
 * UDP at l->off, l->end that of the IP packet; and VXLAN, Geneve, or GTP-U without options in it.
 */
static __always_inline enum behind quick_udp(struct __sk_buff *skb, struct level *l, struct outside *o)
{
	struct udp *udp = packet(skb) + l->off;
	__be32 *header = (void *)(udp + 1);
	__u32 length, first, id, kind;

	if ((void *)(udp + 1) > packet_end(skb) || l->off + sizeof(*udp) > l->end)
		return BEHIND_UNKNOWN;
	kind = port_entry(udp->dst);
	if (!kind)
		return port_entry(udp->src) ? BEHIND_UNKNOWN : BEHIND_LEAF;
	length = bpf_ntohs(udp->length);
	if ((void *)(header + 2) > packet_end(skb) || length < sizeof(*udp) + 8 || l->off + length > l->end)
		return BEHIND_UNKNOWN;
	l->end = l->off + length;
	l->off += sizeof(*udp) + 8;
	first = bpf_ntohl(header[0]);
	id = bpf_ntohl(header[1]);
	switch (kind & PORT_KIND) {
	case KIND_VXLAN:
		if (!(first & VXLAN_I << 24))
			return BEHIND_UNKNOWN;
		o->tunnel = TUNNEL(id >> 8, KIND_VXLAN, ROW_ID);
		o->proto = ETHERTYPE_TEB;
		return BEHIND_TUNNEL;
	case KIND_GENEVE:
		l->off += (first >> 24) * 4; /* with version 0 that is the options */
		if (first >> 30 || l->off > l->end)
			return BEHIND_UNKNOWN;
		o->tunnel = TUNNEL(id >> 8, KIND_GENEVE, ROW_ID);
		o->proto = first & 0xffff;
		return BEHIND_TUNNEL;
	case KIND_GTPU:
		length = first & 0xffff;
		if (first >> 16 != (0x30 << 8 | GTPU_TPDU) || l->off + length > l->end)
			return BEHIND_UNKNOWN;
		l->end = l->off + length;
		o->tunnel = TUNNEL(id, KIND_GTPU, ROW_ID);
		o->proto = PAYLOAD_IP;
		return BEHIND_TUNNEL;
	}
	return BEHIND_UNKNOWN;
}

/* GRE with a key or with nothing; Ethernet or IP inside. */
static __always_inline enum behind quick_gre(struct __sk_buff *skb, struct level *l, struct outside *o)
{
	struct gre *h = packet(skb) + l->off;
	__be32 *key = (void *)(h + 1);
	__u32 id = 0, kind, keyed;

	if ((void *)(h + 1) > packet_end(skb))
		return BEHIND_UNKNOWN;
	keyed = h->flags == bpf_htons(GRE_KEY);
	o->proto = bpf_ntohs(h->type);
	l->off += sizeof(*h);
	if (keyed) {
		if ((void *)(key + 1) > packet_end(skb))
			return BEHIND_UNKNOWN;
		id = bpf_ntohl(*key);
		l->off += sizeof(*key);
	} else if (h->flags) {
		return BEHIND_UNKNOWN;
	}
	if (l->off > l->end || (o->proto != ETHERTYPE_IP && o->proto != ETHERTYPE_IPV6 && o->proto != ETHERTYPE_TEB))
		return BEHIND_UNKNOWN;
	kind = o->proto == ETHERTYPE_TEB ? KIND_GRETAP : KIND_GRE;
	o->tunnel = TUNNEL(id, kind, keyed ? ROW_ID : 0);
	return BEHIND_TUNNEL;
}

static __always_inline enum behind quick_behind(struct __sk_buff *skb, struct level *l, struct outside *o)
{
	if (l->proto == PROTO_UDP)
		return quick_udp(skb, l, o);
	if (l->proto == PROTO_TCP || l->proto == PROTO_ICMP || l->proto == PROTO_ICMPV6)
		return BEHIND_LEAF;
	if (l->proto == PROTO_GRE)
		return quick_gre(skb, l, o);
	if (l->proto == PROTO_IPIP) {
		o->tunnel = TUNNEL(0, l->v6 ? KIND_4IN6 : KIND_IPIP, 0);
		o->proto = ETHERTYPE_IP;
		return BEHIND_TUNNEL;
	}
	if (l->proto == PROTO_IPV6) {
		o->tunnel = TUNNEL(0, l->v6 ? KIND_6IN6 : KIND_6IN4, 0);
		o->proto = ETHERTYPE_IPV6;
		return BEHIND_TUNNEL;
	}
	return BEHIND_UNKNOWN;
}

/* A super-packet is many: what the states cost does not matter there. */
static __always_inline int is_super(struct __sk_buff *skb)
{
	return skb->gso_size && !cfg_skb;
}

/* As weigh(), of what is no super-packet. */
static __always_inline struct weight quick_weigh(struct __sk_buff *skb, __u32 frame)
{
	if (!cfg_replay && unlikely(skb->vlan_present))
		frame += sizeof(struct vlan);
	return (struct weight){ 1, frame };
}

/* What was read of a packet outside of the level in hand. */
struct around {
	const __u64 *pair6; /* outermost addresses, if they are IPv6 */
	__u64 pair4;	    /* if they are not */
	__u32 v6;
	__u32 depth;
	__u64 tunnel[2];
};

/*
 * The row of a packet of which l is the innermost IP header. 0 if it is not at hand, and nothing
 * was counted.
 */
static __always_inline int quick_row(struct __sk_buff *skb, struct cpu *c, __u32 hook, __u32 frame,
				     const struct around *a, const struct level *l)
{
	struct weight weight = quick_weigh(skb, frame);

	if (!(a->v6 | l->v6) && a->depth == 1)
		return hit4(c, hook, a->tunnel[0], a->pair4, l->pair[0], weight);
	if (a->v6)
		make_key(c, hook, a->depth, a->tunnel[0], a->tunnel[1], a->pair6, 1, l->pair, l->v6, 0);
	else
		make_key(c, hook, a->depth, a->tunnel[0], a->tunnel[1], &a->pair4, 0, l->pair, l->v6, 0);
	return hit6(c, hook, weight);
}

/* The walk goes on behind a tunnel that was read. l: the end of its header. */
static __always_inline void quick_push(struct walk *w, const struct level *l, const struct outside *o)
{
	w->off = l->off;
	w->end = l->end;
	w->proto = o->proto;
	w->ip_proto = l->proto;
}

#endif
