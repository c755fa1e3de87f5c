/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* L2TP. */
#ifndef TMON_PARSE_L2TP_H
#define TMON_PARSE_L2TP_H

#include "../walk.h"

#define L2TPV3_S 0x40000000 /* of the sublayer: its lower 24 bits are a sequence number */

/* L2TP version 2, RFC 2661, section 3.1: data messages, PPP inside. */
static __always_inline __u32 l2tp(struct __sk_buff *skb, struct walk *w)
{
	__be16 *flags_at = bytes_at(skb, w->off, 6, w->end);
	__u32 off = w->off + 2, end = w->end, flags, session;
	__be16 *p;

	if (!flags_at)
		return short_of(skb, w, w->off, 6, end, KIND_L2TP);
	flags = bpf_ntohs(*flags_at);
	if ((flags & 0x000f) == 3)
		return KIND_L2TPV3;
	if ((flags & 0x000f) != 2 || flags & 0x34f0) /* version, reserved bits */
		return suspect(w);
	if (flags & 0x8000) /* a control message */
		return flags & 0x4800 ? VERDICT_END : suspect(w);
	if (flags & 0x4000) {
		__u32 length = bpf_ntohs(flags_at[1]);

		if (w->off + length > end && !(w->flags & WALK_CUT))
			return suspect(w);
		narrow(w, w->off, length, &end);
		off += 2;
	}
	p = bytes_at(skb, off, 4, end);
	if (!p)
		return short_of(skb, w, off, 4, end, KIND_L2TP);
	session = bpf_ntohs(p[1]);
	off += flags & 0x0800 ? 8 : 4;
	if (flags & 0x0200) {
		p = bytes_at(skb, off, 2, end);
		if (!p)
			return short_of(skb, w, off, 2, end, KIND_L2TP);
		off += 2 + bpf_ntohs(*p);
	}
	if (off > end)
		return w->flags & WALK_CUT ? STOP(TRUNCATED) : suspect(w);
	if (off == end)
		return tunnel_of(w, KIND_L2TP, session, 1, INNER_REASON | REASON_NONE);
	return tunnel(w, KIND_L2TP, session, 1, off, end, PAYLOAD_PPP);
}

/*
 * L2TP version 3, RFC 3931, section 4.1: data messages, Ethernet inside. The packet contains the
 * length of neither the cookie nor the sublayer: the parameter of the port or the IP protocol gives
 * them. In UDP a word with the version comes first; session 0 is for control messages.
 */
static __always_inline __u32 l2tpv3(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off, size = w->port ? 8 : 4, parameter, word, session;
	__be32 *h = bytes_at(skb, off, size, w->end);
	__be16 *udp;

	if (!h)
		return w->port ? short_of(skb, w, off, size, w->end, KIND_L2TPV3) :
				 lacking(skb, w, off, size, w->end, KIND_L2TPV3);
	if (w->port) {
		h = bytes_at(skb, off, 8, w->end);
		udp = bytes_at(skb, off - sizeof(struct udp), 4, w->end);
		if (!h || !udp)
			return suspect(w);
		word = bpf_ntohl(h[0]);
		if ((word >> 16 & 0x0f) == 2)
			return KIND_L2TP;
		if ((word & 0xc80f0000) == 0xc8030000) /* a control message */
			return VERDICT_END;
		if (word != 0x00030000 || !h[1])
			return suspect(w);
		session = bpf_ntohl(h[1]);
		parameter = UDP_PORTS.parameter[UDP_PORTS.kind[udp[1]] ? udp[1] : udp[0]];
	} else {
		if (!h[0])
			return VERDICT_END;
		session = bpf_ntohl(h[0]);
		parameter = UDP_PORTS.parameter[65536 + PROTO_L2TP];
	}
	if (!(parameter & PARAMETER_KNOWN))
		return tunnel_of(w, KIND_L2TPV3, session, 1, INNER_REASON | REASON_UNKNOWN);
	off += size + (parameter & PARAMETER_COOKIE);
	if (parameter & PARAMETER_SUBLAYER) { /* section 4.6 */
		__be32 *sublayer = bytes_at(skb, off, 4, w->end);

		if (sublayer && bpf_ntohl(*sublayer) & L2TPV3_S)
			note_number(w, bpf_ntohl(*sublayer) & 0xffffff, 24, 0);
		else if (!sublayer && pull_for(skb, w, off, 4, w->end, KIND_L2TPV3))
			return STATE_PULL;
		off += 4;
	}
	return tunnel(w, KIND_L2TPV3, session, 1, off, w->end, ETHERTYPE_TEB);
}

#endif
