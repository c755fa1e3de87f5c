/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The fast path, which nearly all packets take: IPv4 without options or IPv6 without extension
 * headers, complete and linear, a common tunnel with its simplest header, the same again inside, an
 * existing row. In one piece it takes a third of the instructions that the states need for it.
 *
 * Every check is as strict as that of the state it replaces. A packet that fails one of them, valid
 * or not, is left to the states, which continue from the header where the fast path began.
 */
#ifndef TMON_QUICK_H
#define TMON_QUICK_H

#include "parse/layer.h"

/* How far a packet has been read. */
struct level {
	void *at;	   /* the next header in the packet */
	__s32 left;	   /* bytes from there that the headers so far declare; negative if they
			      contradict each other */
	__u32 proto;	   /* IP protocol at `at` */
	__u64 v6;	   /* a whole word: when spilled it fills its stack slot, and the verifier
			      forgets the previous contents */
	const __u64 *pair; /* the IP header's addresses, in the packet */
};

/* After an IP header, as many bytes must be available as any transport header and GRE with a key
 * have. */
#define AHEAD 8

/* The IPv4 header at l->at, which is available. */
static __always_inline int quick_ip4(struct level *l)
{
	struct ip4 *ip = l->at;
	struct ip_seen s;

	if (ip->version_ihl != IP4_PLAIN || !ip4_read(ip, &s) || s.fragment ||
	    s.length < sizeof(*ip) || (__s32)s.length > l->left)
		return 0;
	l->proto = s.proto;
	l->v6 = 0;
	l->pair = (const __u64 *)&ip->src;
	l->at = ip + 1;
	l->left = s.length - sizeof(*ip);
	return 1;
}

/* The IPv6 header at l->at, of which the size of an IPv4 header is available. */
static __always_inline int quick_ip6(struct __sk_buff *skb, struct level *l)
{
	struct ip6 *ip = l->at;
	struct ip_seen s;

	if ((void *)(ip + 1) + AHEAD > packet_end(skb))
		return 0;
	if (!ip6_read(ip, &s) || !s.length || (__s32)(sizeof(*ip) + s.length) > l->left)
		return 0;
	l->proto = s.proto;
	l->v6 = 1;
	l->pair = (const __u64 *)ip->src;
	l->at = ip + 1;
	l->left = s.length;
	return 1;
}

/*
 * The headers up to and including IP. proto: the EtherType of the header at l->at, or
 * ETHERTYPE_TEB, PAYLOAD_IP or PAYLOAD_GUESS; tags: the number of tags to skip.
 */
static __always_inline int quick_level(struct __sk_buff *skb, struct level *l, __u32 proto,
				       int tags)
{
	void *end = packet_end(skb), *at = l->at;

	if (likely(proto == ETHERTYPE_TEB)) {
		struct eth *eth = at;
		__be16 type;

		if (at + sizeof(*eth) + sizeof(struct ip4) + AHEAD > end)
			return 0;
		type = eth->type;
		l->at = at + sizeof(*eth);
		l->left -= sizeof(*eth);
		if (likely(type == bpf_htons(ETHERTYPE_IP)))
			return quick_ip4(l);
		if (likely(type == bpf_htons(ETHERTYPE_IPV6)))
			return quick_ip6(skb, l);
		proto = bpf_ntohs(type);
		for (int i = 0; i < tags && unlikely(is_tag(proto)); i++) {
			at = l->at;
			if (at + sizeof(struct vlan) + sizeof(struct ip4) + AHEAD > end)
				return 0;
			proto = bpf_ntohs(((struct vlan *)at)->type);
			l->at += sizeof(struct vlan);
			l->left -= sizeof(struct vlan);
		}
		/* forget how many there were: then the verifier checks what follows once for all */
		at = packet(skb) + ((l->at - packet(skb)) & MAX_HEADERS);
		if (at + sizeof(struct ip4) + AHEAD > end)
			return 0;
		l->at = at;
	} else {
		if (at + sizeof(struct ip4) + AHEAD > end)
			return 0;
		if (proto == ETHERTYPE_IP)
			return quick_ip4(l);
		if (proto == PAYLOAD_GUESS) {
			struct ip4 *ip4 = at;
			struct ip6 *ip6 = at;

			if (ip4->version_ihl == IP4_PLAIN) /* its lengths are checked there */
				return sum_is_right(sum_of(ip4)) && quick_ip4(l);
			if (at + sizeof(*ip6) > end || l->left < (__s32)sizeof(*ip6) ||
			    !is_likely6(ip6, l->left - sizeof(*ip6), 0))
				return 0;
			proto = ETHERTYPE_IPV6;
		} else if (proto == PAYLOAD_IP) {
			proto = *(__u8 *)at >> 4 == 4 ? ETHERTYPE_IP : ETHERTYPE_IPV6;
		}
	}
	if (likely(proto == ETHERTYPE_IP))
		return quick_ip4(l);
	return proto == ETHERTYPE_IPV6 && quick_ip6(skb, l);
}

struct outside {
	__u64 tunnel; /* TUNNEL(), ROW_ID if it has an id */
	__u32 proto;  /* EtherType of its payload, ETHERTYPE_TEB or PAYLOAD_GUESS */
};

/* GTP-U's optional fields at l->at, and an extension header if there is one: 5G's container. */
static __always_inline int quick_gtpu_options(struct __sk_buff *skb, struct level *l, __u32 flags,
					      int numbered)
{
	__u8 *p = l->at;
	__u32 size = 4;

	if (l->at + 5 > packet_end(skb))
		return 0;
	if (gtpu_extension(flags, p))
		size += gtpu_extension_size(p + 4);
	l->at += size;
	l->left -= size;
	p = l->at;
	if (l->left < 0 || l->at > packet_end(skb))
		return 0;
	return (numbered || !(flags & GTPU_S)) && !(flags & GTPU_E && p[-1]);
}

/* The port table's entry for a datagram's destination port; 0 if it is not UDP. */
static __always_inline __u32 quick_port(const struct level *l)
{
	const struct udp *udp = l->at;

	return l->proto == PROTO_UDP ? port_entry(udp->dst) : 0;
}

/*
 * Whether this IP protocol at l->at certainly contains no tunnel. kind: quick_port(). outside: in
 * the outermost packet, where ICMP may quote a tunnel's packet and is left to the states.
 */
static __always_inline int is_leaf(__u32 proto, const struct udp *udp, __u32 kind, int outside)
{
	if (likely(proto == PROTO_UDP))
		return !kind && !port_entry(udp->src);
	barrier_var(proto); /* compare in this order, not as a switch */
	return proto == PROTO_TCP || (!outside && (proto == PROTO_ICMP || proto == PROTO_ICMPV6));
}

/* Whether TCP at l->at neither opens nor resets a connection; otherwise the states examine it. */
static __always_inline int quick_tcp(struct __sk_buff *skb, const struct level *l)
{
	const struct tcp *tcp = l->at;

	return (void *)&tcp->window <= packet_end(skb) && !(tcp->flags & (TCP_SYN | TCP_RST));
}

/* The same after an IP header; truncated UDP is uncertain. */
static __always_inline int quick_leaf(struct __sk_buff *skb, const struct level *l, __u32 kind,
				      int outside)
{
	return is_leaf(l->proto, l->at, kind, outside) &&
	       (l->proto != PROTO_UDP || l->left >= (__s32)sizeof(struct udp)) &&
	       (outside || l->proto != PROTO_TCP || quick_tcp(skb, l));
}

/* UDP at l->at, with VXLAN, Geneve or GTP-U in it: kind, by the port. */
static __always_inline int quick_udp(struct __sk_buff *skb, struct level *l, struct outside *o,
				     __u32 kind, int numbered)
{
	struct udp *udp = l->at;
	void *header = udp + 1;
	__s32 length;
	struct seen s;

	if (header + 8 > packet_end(skb))
		return 0;
	length = bpf_ntohs(udp->length);
	if (length < (__s32)sizeof(*udp) + 8 || length > l->left)
		return 0;
	l->at = header + 8;
	l->left = length - (sizeof(*udp) + 8);
	if (likely(kind == KIND_VXLAN)) {
		int ok = vxlan_read(header, &s);

		o->tunnel = TUNNEL(s.id, KIND_VXLAN, ROW_ID);
		o->proto = s.proto;
		return ok;
	}
	if (kind == KIND_GENEVE) {
		int ok = geneve_read(header, &s);

		o->tunnel = TUNNEL(s.id, KIND_GENEVE, ROW_ID);
		o->proto = s.proto;
		l->at += s.size - 8;
		l->left -= s.size - 8;
		return ok && l->left >= 0;
	}
	if (kind == KIND_GTPU) {
		struct gtpu *h = header;

		if (gtpu_read(h, &s) != GTPU_IS_PAYLOAD || (__s32)s.length > l->left)
			return 0;
		l->left = s.length;
		o->tunnel = TUNNEL(s.id, KIND_GTPU, ROW_ID);
		o->proto = s.proto;
		return h->flags & GTPU_OPTIONS ? quick_gtpu_options(skb, l, h->flags, numbered) : 1;
	}
	return 0;
}

/* GRE with a key or without optional fields; Ethernet or IP inside. */
static __always_inline int quick_gre(struct level *l, struct outside *o, int numbered)
{
	struct gre *h = l->at;
	__be16 rest = ~bpf_htons(numbered ? GRE_SEQ : 0);
	__u32 key = (h->flags & rest) == bpf_htons(GRE_KEY);
	struct seen s;

	if (h->flags & rest && !key)
		return 0;
	gre_read(h, key ? GRE_KEY : 0, &s);
	if (numbered && h->flags & bpf_htons(GRE_SEQ))
		s.size += 4;
	o->proto = s.proto;
	o->tunnel = TUNNEL(0, gre_kind(s.proto), 0);
	if (key)
		o->tunnel |= TUNNEL(bpf_ntohl(*(__be32 *)(h + 1)), 0, ROW_ID);
	l->at += s.size;
	l->left -= s.size;
	return l->left >= 0 && gre_is_common(s.proto);
}

/*
 * The tunnel after an IP header, if it is a common one: l is then at the end of its header. kind:
 * quick_port(). numbered: also if the header has a sequence number, which is left to the states
 * otherwise.
 */
static __always_inline int quick_tunnel(struct __sk_buff *skb, struct level *l, struct outside *o,
					__u32 kind, int numbered)
{
	if (l->proto == PROTO_UDP)
		return quick_udp(skb, l, o, kind, numbered);
	if (l->proto == PROTO_GRE)
		return quick_gre(l, o, numbered);
	if (l->proto == PROTO_IPIP) {
		o->tunnel = TUNNEL(0, ip_in_ip_kind(l->v6, 0), 0);
		o->proto = ETHERTYPE_IP;
		return 1;
	}
	if (l->proto == PROTO_IPV6) {
		o->tunnel = TUNNEL(0, ip_in_ip_kind(l->v6, 1), 0);
		o->proto = ETHERTYPE_IPV6;
		return 1;
	}
	return 0;
}

/*
 * Goes through the tunnel after an IP header, up to the next one, for code that reads a packet
 * again in a loop: what is known about the path is forgotten, see unknown().
 */
static __always_inline int quick_inner(struct __sk_buff *skb, const struct walk *w, struct level *l)
{
	struct outside o;
	__u32 off;

	if (!quick_tunnel(skb, l, &o, quick_port(l), 1))
		return 0;
	off = (l->at - packet(skb)) & MAX_HEADERS;
	l->at = packet(skb) + off;
	l->left += w->nothing;
	l->v6 += w->nothing;
	o.proto += w->nothing;
	return quick_level(skb, l, o.proto, 0);
}

/* A super-packet stands for many packets: the cost of the states does not matter. */
static __always_inline int is_super(struct __sk_buff *skb, int usual)
{
	return skb->gso_size && !UNLESS(usual, cfg_skb);
}

/* What has been read outside of the current level. */
struct around {
	const __u64 *pair6; /* outermost addresses, if they are IPv6 */
	__u64 pair4;	    /* if they are IPv4 */
	__u64 v6;
	__u32 depth;
	__u32 flags; /* those of the walk that matter when it is counted */
	__u64 tunnel[2];
};

#endif
