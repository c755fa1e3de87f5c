/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Generic UDP encapsulation, foo-over-UDP. */
#ifndef TMON_PARSE_GUE_H
#define TMON_PARSE_GUE_H

#include "ip.h"

/*
 * GUE, draft-ietf-intarea-gue: variant 1 is IP itself, variant 0 has a header with an IP protocol.
 * A foo-over-UDP port never has a header, only IP or GRE.
 */
static __always_inline __u32 gue(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 4, w->end);
	__u32 size, v, proto;

	if (!p)
		return short_of(skb, w, w->off, 4, w->end, KIND_GUE);
	if (p[0] >> 4 == 4 || p[0] >> 4 == 6) { /* or, say, QUIC, which begins alike */
		v = guess(skb, w, w->off, w->end, &proto, KIND_GUE);
		if (v)
			return v;
		return proto == PAYLOAD_UNKNOWN ? suspect(w) :
						  tunnel(w, KIND_GUE, 0, 0, w->off, w->end, proto);
	}
	if (w->port & PORT_FOU) {
		v = p[1] & GRE_VERSION ? suspect(w) : push(w, KIND_GUE, 0, 0);
		w->ip_proto = PROTO_GRE;
		return v ? v : STATE_TRANSPORT;
	}
	size = 4 + (p[0] & 0x1f) * 4;
	if (p[0] >> 6 || (w->off + size > w->end && !(w->flags & WALK_CUT)))
		return suspect(w);
	if (p[0] & 0x20) /* a control message */
		return VERDICT_END;
	if (p[1] == PROTO_IPIP || p[1] == PROTO_IPV6)
		return tunnel(w, KIND_GUE, 0, 0, w->off + size, w->end,
			      p[1] == PROTO_IPIP ? ETHERTYPE_IP : ETHERTYPE_IPV6);
	w->ip_proto = p[1];
	if (p[1] != PROTO_GRE && p[1] != PROTO_MPLS && p[1] != PROTO_ETHERIP)
		return tunnel_of(w, KIND_GUE, 0, 0, INNER_IP | p[1]);
	v = push(w, KIND_GUE, 0, 0);
	w->off += size;
	return v ? v : STATE_TRANSPORT;
}

#endif
