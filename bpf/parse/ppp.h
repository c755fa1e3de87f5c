/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* PPP, and PPP over Ethernet. */
#ifndef TMON_PARSE_PPP_H
#define TMON_PARSE_PPP_H

#include "link.h"

/* PPPoE session, RFC 2516: version 1, type 1, code 0. off: the header. */
static __always_inline __u32 pppoe(struct __sk_buff *skb, struct walk *w)
{
	struct pppoe *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 off = w->off, end = w->end;

	if (!h)
		return lacking(skb, w, off, sizeof(*h), end, STATE_LINK);
	if (h->version_type != 0x11 || h->code)
		return STOP(MALFORMED);
	off += sizeof(*h);
	narrow(w, off, bpf_ntohs(h->length), &end);
	return pass(w, KIND_PPPOE, bpf_ntohs(h->session), off, end, PAYLOAD_PPP);
}

/*
 * PPP, RFC 1661 and 1662: the address and control bytes and the protocol's first byte may be
 * omitted. off: the frame. Only IPv4 and IPv6 are read further.
 */
static __always_inline __u32 ppp(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off, proto;
	__u8 *p = bytes_at(skb, off, 2, w->end);

	if (p && off + 2 <= w->end && p[0] == 0xff && p[1] == 0x03) {
		off += 2;
		p = bytes_at(skb, off, 2, w->end);
	}
	if (!p)
		return lacking(skb, w, off, 2, w->end, STATE_LINK);
	if (p[0] & 1) {
		proto = p[0];
		off += 1;
	} else {
		proto = p[0] << 8 | p[1];
		off += 2;
	}
	if (proto == 0x0021)
		return next_layer(w, off, w->end, ETHERTYPE_IP);
	if (proto == 0x0057)
		return next_layer(w, off, w->end, ETHERTYPE_IPV6);
	return w->depth ? inside_is(w, INNER_PPP | proto) : STOP(NON_IP);
}

#endif
