/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* ICMP and ICMPv6 errors, and the packets that they quote. */
#ifndef TMON_PARSE_ICMP_H
#define TMON_PARSE_ICMP_H

#include "../walk.h"

/* Whether a message quotes a packet that was not delivered. */
static __always_inline int icmp_is_error(int v6, __u32 type)
{
	return v6 ? type >= ICMPV6_UNREACHABLE && type <= ICMPV6_EXCEEDED :
		    type == ICMP_UNREACHABLE || type == ICMP_EXCEEDED;
}

/* Outside of tunnels it is plain traffic, and an error is examined once it has been counted. */
static __always_inline __u32 icmp(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				  __u32 proto, __u32 state)
{
	__u8 *type;

	if (w->depth)
		return VERDICT_END;
	type = bytes_at(skb, off, 1, end);
	if (!type)
		return pull_for(skb, w, off, 1, end, state) ? STATE_PULL : VERDICT_END;
	if (icmp_is_error(proto == PROTO_ICMPV6, *type) &&
	    (proto == PROTO_ICMPV6) == !!(w->flags & WALK_OUTER6)) {
		w->end = end;
		w->flags |= WALK_QUOTE;
	}
	return VERDICT_END;
}

/*
 * STATE_QUOTE: begins a walk through the quote of an error, with the readers of any packet. The
 * quote ends where the error's sender truncated it, and other data may follow it (RFC 4884).
 */
static __always_inline __u32 quote(struct __sk_buff *skb, struct walk *w)
{
	struct icmp *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 off = w->off + sizeof(*h), v6 = w->flags & WALK_OUTER6, rest, length;

	if (!h)
		return pull_for(skb, w, w->off, sizeof(*h), w->end, STATE_QUOTE);
	rest = bpf_ntohl(h->rest);
	w->said = (v6 ? SAID_V6 : 0) | h->type << 8 | h->code;
	w->mtu = 0;
	if (v6) {
		if (h->type == ICMPV6_TOO_BIG)
			w->mtu = rest;
		length = h->type == ICMPV6_TOO_BIG ? 0 : (rest >> 24) * 8;
		w->who[0] = w->outer[0];
		w->who[1] = w->outer[1];
	} else {
		if (h->type == ICMP_UNREACHABLE && h->code == ICMP_TOO_BIG)
			w->mtu = rest & 0xffff;
		length = (rest >> 16 & 0xff) * 4;
		w->who[0] = (__u32)w->outer[0];
		w->who[1] = 0;
	}
	if (length && off + length < w->end)
		w->end = off + length;
	w->off = off;
	w->proto = PAYLOAD_IP;
	w->flags = WALK_CUT | WALK_QUOTED;
	w->depth = 0;
	w->links = 0;
	w->ip_proto = 0;
	w->port = 0;
	w->hops += 2;
	w->tunnel[0] = 0;
	w->tunnel[1] = 0;
	w->outer[0] = 0;
	w->outer[1] = 0;
	w->outer[2] = 0;
	w->outer[3] = 0;
	return STATE_HEADERS;
}

#endif
