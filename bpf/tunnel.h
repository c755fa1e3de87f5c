/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * What carries what: transport headers and the tunnels that every packet may meet, inline in
 * STATE_HEADERS and STATE_TRANSPORT. The rarer tunnels have a state of their own (rare.h).
 */
#ifndef TMON_TUNNEL_H
#define TMON_TUNNEL_H

#include "walk.h"

/*
 * A tunnel's header in UDP is not at hand: where the datagram is too short for it, this is other
 * traffic on the tunnel's port.
 */
static __always_inline __u32 short_of(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 size,
				      __u32 end, __u32 state)
{
	if (off + size > end && !(w->flags & WALK_CUT))
		return suspect(w);
	return lacking(skb, w, off, size, end, state);
}

/* VXLAN, RFC 7348: the I flag must be set; a receiver ignores every reserved bit. off: the header.
 */
static __always_inline __u32 vxlan(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				   __u32 state)
{
	struct vxlan *h = bytes_at(skb, off, sizeof(*h), end);

	if (unlikely(!h))
		return short_of(skb, w, off, sizeof(*h), end, state);
	if (unlikely(!(h->flags & VXLAN_I)))
		return suspect(w);
	return tunnel(w, KIND_VXLAN, bpf_ntohl(h->vni) >> 8, 1, off + sizeof(*h), end,
		      ETHERTYPE_TEB);
}

/* Geneve, RFC 8926: version 0; options are skipped by length, whatever their critical bits say. */
static __always_inline __u32 geneve(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				    __u32 state)
{
	struct geneve *h = bytes_at(skb, off, sizeof(*h), end);
	__u32 size;

	if (unlikely(!h))
		return short_of(skb, w, off, sizeof(*h), end, state);
	size = sizeof(*h) + (h->version_optlen & 0x3f) * 4;
	if (unlikely(h->version_optlen >> 6 || (off + size > end && !(w->flags & WALK_CUT))))
		return suspect(w);
	return tunnel(w, KIND_GENEVE, bpf_ntohl(h->vni) >> 8, 1, off + size, end,
		      bpf_ntohs(h->type));
}

/*
 * GTP-U version 1, 3GPP TS 29.281, section 5: a T-PDU without options; with options it is
 * STATE KIND_GTPU's. Signalling is plain traffic of the tunnel's endpoints.
 */
static __always_inline __u32 gtpu(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				  __u32 state)
{
	struct gtpu *h = bytes_at(skb, off, sizeof(*h), end);
	__u32 stop;

	if (unlikely(!h))
		return short_of(skb, w, off, sizeof(*h), end, state);
	stop = off + sizeof(*h) + bpf_ntohs(h->length);
	if (unlikely(h->flags >> 4 != 3 || (stop > end && !(w->flags & WALK_CUT))))
		return suspect(w);
	if (unlikely(h->type != GTPU_TPDU))
		return VERDICT_END;
	if (unlikely(h->flags & GTPU_OPTIONS)) {
		w->off = off;
		w->end = end;
		return KIND_GTPU;
	}
	narrow(w, off + sizeof(*h), bpf_ntohs(h->length), &end);
	return tunnel(w, KIND_GTPU, bpf_ntohl(h->teid), 1, off + sizeof(*h), end, PAYLOAD_GUESS);
}

/* What a UDP port means. */
static __always_inline __u32 port_entry(__be16 port)
{
	return ports.kind[port];
}

/*
 * UDP, RFC 768. The port table says whether a tunnel may be behind it; only then does the length
 * matter. walk.ip_proto is UDP. off: the header.
 */
static __always_inline __u32 udp(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				 __u32 state)
{
	struct udp *h = bytes_at(skb, off, sizeof(*h), end);
	__u32 port, length;

	if (unlikely(!h))
		return lacking(skb, w, off, sizeof(*h), end, state);
	port = port_entry(h->dst);
	if (!port) {
		port = port_entry(h->src);
		if (likely(!(port & PORT_EITHER)))
			return VERDICT_END;
	}
	length = bpf_ntohs(h->length);
	if (likely(length)) { /* 0: larger than the field can say */
		if (unlikely(length < sizeof(*h)))
			return STOP(MALFORMED);
		narrow(w, off, length, &end);
	}
	off += sizeof(*h);
	switch (port & PORT_KIND) {
	case KIND_VXLAN:
		return vxlan(skb, w, off, end, state);
	case KIND_GENEVE:
		return geneve(skb, w, off, end, state);
	case KIND_GTPU:
		return gtpu(skb, w, off, end, state);
	}
	w->off = off;
	w->end = end;
	w->ip_proto = 0;
	w->port = port;
	return port & PORT_KIND;
}

/*
 * GRE version 0, RFC 2784 and 2890, with IP or Ethernet inside. Anything else of GRE, or in it,
 * is STATE KIND_GRE's. off: the header.
 */
static __always_inline __u32 gre(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				 __u32 state)
{
	struct gre *h = bytes_at(skb, off, sizeof(*h), end);
	__u32 flags, type, size, id = 0;

	if (unlikely(!h))
		return lacking(skb, w, off, sizeof(*h), end, state);
	flags = bpf_ntohs(h->flags);
	type = bpf_ntohs(h->type);
	if (unlikely(flags & (GRE_VERSION | GRE_ROUTING) ||
		     (type != ETHERTYPE_IP && type != ETHERTYPE_IPV6 && type != ETHERTYPE_TEB))) {
		w->off = off;
		w->end = end;
		return KIND_GRE;
	}
	size = sizeof(*h) + (flags & GRE_CSUM ? 4 : 0);
	if (flags & GRE_KEY) {
		__be32 *key = bytes_at(skb, off + size, sizeof(*key), end);

		if (unlikely(!key))
			return lacking(skb, w, off + size, sizeof(*key), end, state);
		id = bpf_ntohl(*key);
		size += 4;
	}
	size += flags & GRE_SEQ ? 4 : 0;
	if (unlikely(off + size > end))
		return lacking(skb, w, off, size, end, state);
	return tunnel(w, type == ETHERTYPE_TEB ? KIND_GRETAP : KIND_GRE, id, flags & GRE_KEY,
		      off + size, end, type);
}

/* IP in IP, RFC 2003, 2473, 4213; behind a segment routing or authentication header it is theirs.
 */
static __always_inline __u32 ip_in_ip(struct walk *w, __u32 off, __u32 end, int v6)
{
	__u32 kind = w->flags & WALK_HERE6 ? (v6 ? KIND_6IN6 : KIND_4IN6) :
					     (v6 ? KIND_6IN4 : KIND_IPIP);

	if (unlikely(w->flags & (WALK_SRH | WALK_AH)))
		kind = w->flags & WALK_AH ? KIND_AH : KIND_SRV6;
	return tunnel(w, kind, 0, 0, off, end, v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
}

/*
 * What follows an IP header. off: behind it. Ends in the next layer when a tunnel was found, a
 * rare tunnel's state, or the end: everything that was to be read is read.
 */
static __always_inline __u32 transport(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				       __u32 proto, __u32 state)
{
	w->ip_proto = proto;
	w->off = off;
	if (unlikely(w->flags & WALK_LAST))
		return VERDICT_END;
	switch (proto) {
	case PROTO_UDP:
		return udp(skb, w, off, end, state);
	case PROTO_TCP:
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return VERDICT_END;
	case PROTO_GRE:
		return gre(skb, w, off, end, state);
	case PROTO_IPIP:
		return ip_in_ip(w, off, end, 0);
	case PROTO_IPV6:
		return ip_in_ip(w, off, end, 1);
	case PROTO_ETHERIP:
		w->end = end;
		return KIND_ETHERIP;
	case PROTO_MPLS: /* RFC 4023 */
		w->end = end;
		return KIND_MPLS;
	case PROTO_ETHERNET:
		if (!(w->flags & WALK_HERE6))
			return VERDICT_END;
		return tunnel(w, KIND_SRV6, 0, 0, off, end, ETHERTYPE_TEB);
	case PROTO_ESP:
		return w->depth ? VERDICT_END :
				  tunnel_of(w, KIND_ESP, 0, 0, INNER_REASON | REASON_ENCRYPTED);
	case PROTO_AH:
	case PROTO_HOPOPTS:
	case PROTO_ROUTING:
	case PROTO_FRAGMENT:
	case PROTO_DSTOPTS:
		if (state == STATE_TRANSPORT || (proto != PROTO_AH && !(w->flags & WALK_HERE6)))
			return VERDICT_END;
		w->end = end;
		return STATE_EXT;
	}
	return VERDICT_END;
}

#endif
