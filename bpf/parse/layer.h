/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* From header to header: choosing the next reader. */
#ifndef TMON_PARSE_LAYER_H
#define TMON_PARSE_LAYER_H

#include "dot11.h"
#include "esp.h"
#include "gre.h"
#include "icmp.h"
#include "ip.h"
#include "link.h"
#include "mpls.h"
#include "nsh.h"
#include "ppp.h"
#include "tcp.h"
#include "udp.h"

/*
 * The headers that STATE_HEADERS leaves. walk: off at the header, whose type is proto. An unknown
 * type is non_ip, or what the tunnel carries.
 */
static __always_inline __u32 link_header(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off, proto = w->proto;

	for (int i = 0; i < MAX_TAGS - INLINE_TAGS; i++) {
		__u32 size = tag_size(proto);
		__be16 *type;

		if (!size)
			break;
		type = bytes_at(skb, off + size - sizeof(*type), sizeof(*type), w->end);
		if (!type)
			return lacking(skb, w, off, size, w->end, STATE_LINK);
		proto = type_of(*type);
		off += size;
	}
	if (off != w->off) {
		if (tag_size(proto))
			return STOP(TOO_DEEP);
		w->off = off;
		w->proto = proto;
		/* Everything but IP enters this state again, so that the verifier does not follow
		 * each possible number of tags to the end. */
		if (proto != ETHERTYPE_IP && proto != ETHERTYPE_IPV6)
			return STATE_LINK;
		return w->depth ? STATE_LAYER : STATE_HEADERS;
	}
	switch (proto) {
	case ETHERTYPE_IP:
	case ETHERTYPE_IPV6:
		return w->depth ? STATE_LAYER : STATE_HEADERS;
	case ETHERTYPE_FABRIC: /* FTAG and TTL, then the frame that the fabric carries */
		w->off += 2;
		w->proto = ETHERTYPE_TEB;
		return w->links++ >= MAX_LINKS ? STOP(TOO_DEEP) : STATE_LAYER;
	case ETHERTYPE_TEB: /* transparent Ethernet bridging on the wire itself */
		return w->links++ >= MAX_LINKS ? STOP(TOO_DEEP) : STATE_LAYER;
	case ETHERTYPE_MPLS:
	case ETHERTYPE_MPLS_MC:
		return w->depth ? KIND_MPLS : mpls(skb, w, KIND_NONE, STATE_LINK);
	case ETHERTYPE_NSH:
		return nsh(skb, w);
	case ETHERTYPE_PPPOE:
		return pppoe(skb, w);
	case ETHERTYPE_PBB:
		return pbb(skb, w);
	case ETHERTYPE_WCCP:
		if (w->depth)
			return wccp(skb, w);
		break;
	case ETHERTYPE_PPP:
	case PAYLOAD_PPP:
		return ppp(skb, w);
	case PAYLOAD_DOT11:
		return dot11(skb, w);
	}
	if (proto & PAYLOAD_LLC)
		return llc(skb, w);
	if (!w->depth)
		return STOP(NON_IP);
	return inside_is(w, proto == PAYLOAD_UNKNOWN ? INNER_REASON | REASON_UNKNOWN : proto);
}

/*
 * What follows an IP header. off: its end. Ends in the next layer if a tunnel was found, in the
 * state of a rare tunnel, or at the end, when everything has been read.
 */
static __always_inline __u32 transport(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				       __u32 proto, __u32 state)
{
	w->ip_proto = proto;
	w->off = off;
	NOTE_TRANSPORT(w, off, end, proto);
	if (unlikely(w->flags & WALK_LAST))
		return VERDICT_END;
	switch (proto) {
	case PROTO_UDP:
		return udp(skb, w, off, end, state);
	case PROTO_TCP:
		return tcp(skb, w, off, end, state);
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return icmp(skb, w, off, end, proto, state);
	case PROTO_GRE:
		return gre(skb, w, off, end, state);
	case PROTO_IPIP:
		return ip_in_ip(w, off, end, 0);
	case PROTO_IPV6:
		return ip_in_ip(w, off, end, 1);
	case PROTO_ETHERIP:
		w->end = end;
		return KIND_ETHERIP;
	case PROTO_L2TP:
		w->end = end;
		w->port = 0;
		return KIND_L2TPV3;
	case PROTO_MPLS: /* RFC 4023 */
		w->end = end;
		return KIND_MPLS;
	case PROTO_ETHERNET:
		if (!(w->flags & WALK_HERE6))
			return VERDICT_END;
		return tunnel(w, KIND_SRV6, 0, 0, off, end, ETHERTYPE_TEB);
	case PROTO_ESP:
		return esp(skb, w, off, end, state);
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

/* Link headers, IP, transport: one layer of the packet, up to the next tunnel's payload. */
static __always_inline __u32 layer(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				   __u32 proto)
{
	__u32 v, ip_proto, from;

	if (proto == PAYLOAD_IP) {
		__u8 *nibble = bytes_at(skb, off, 1, end);

		if (unlikely(!nibble)) {
			if (w->depth && off == end)
				return inside_is(w, INNER_REASON | REASON_NONE);
			return lacking(skb, w, off, 1, end, STATE_HEADERS);
		}
		proto = *nibble >> 4 == 4 ? ETHERTYPE_IP :
			*nibble >> 4 == 6 ? ETHERTYPE_IPV6 :
					    PAYLOAD_UNKNOWN;
	} else {
		v = ethernet(skb, w, &off, end, &proto, INLINE_TAGS, STATE_HEADERS);
		if (unlikely(v))
			return w->depth && off == end ? inside_is(w, INNER_REASON | REASON_NONE) :
							v;
	}
	off = unknown(w, off);
	if (likely(proto == ETHERTYPE_IP)) {
		v = ip4_header(skb, w, &off, &end, &ip_proto, STATE_HEADERS);
	} else if (proto == ETHERTYPE_IPV6) {
		v = ip6_header(skb, w, &off, &end, &ip_proto, STATE_HEADERS);
	} else {
		next_layer(w, off, end, proto);
		return STATE_LINK;
	}
	if (unlikely(v))
		return v;
	from = w->off;
	v = transport(skb, w, unknown(w, off), unknown(w, end), ip_proto, STATE_HEADERS);
	if (unlikely(v == STATE_PULL)) /* the whole layer again */
		w->off = from;
	return v;
}

#endif
