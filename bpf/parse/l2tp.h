/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* L2TP. */
#ifndef TMON_PARSE_L2TP_H
#define TMON_PARSE_L2TP_H

#include "../walk.h"

/* L2TP version 2, RFC 2661, section 3.1: data messages, PPP inside. */
static __always_inline __u32 l2tp(struct __sk_buff *skb, struct walk *w)
{
	__be16 *flags_at = bytes_at(skb, w->off, 6, w->end);
	__u32 off = w->off + 2, end = w->end, flags, session;
	__be16 *p;

	if (!flags_at)
		return short_of(skb, w, w->off, 6, end, KIND_L2TP);
	flags = bpf_ntohs(*flags_at);
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

#endif
