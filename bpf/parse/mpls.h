/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* MPLS. */
#ifndef TMON_PARSE_MPLS_H
#define TMON_PARSE_MPLS_H

#include "../walk.h"

/*
 * An MPLS label stack, RFC 3032. off: its top. The payload has no type: it is IP, or else a
 * pseudowire's. as: the tunnel kind, or KIND_NONE to skip the stack.
 */
static __always_inline __u32 mpls(struct __sk_buff *skb, struct walk *w, __u32 as, __u32 state)
{
	__u32 off = w->off, top = 0;

	for (int i = 0; i < MAX_LABELS; i++) {
		__be32 *entry = bytes_at(skb, off, sizeof(*entry), w->end);
		__u32 label, v;

		if (!entry)
			return lacking(skb, w, off, sizeof(*entry), w->end, state);
		label = bpf_ntohl(*entry);
		off += sizeof(*entry);
		if (i == 0)
			top = label >> 12;
		if (!(label & MPLS_BOTTOM))
			continue;
		if (as)
			v = push(w, as, top, 1);
		else
			v = w->links++ >= MAX_LINKS ? STOP(TOO_DEEP) : 0;
		if (v)
			return v;
		return next_layer(w, off, w->end, PAYLOAD_GUESS);
	}
	return STOP(TOO_DEEP);
}

/*
 * MPLS in UDP, RFC 7510. The length is checked last: the verifier of 6.1 rejects a loop after that
 * branch ("back-edge").
 */
static __always_inline __u32 mpls_udp(struct __sk_buff *skb, struct walk *w)
{
	__u32 v = mpls(skb, w, KIND_MPLS_UDP, KIND_MPLS_UDP);

	if ((v == STOP(MALFORMED) || v == STOP(TRUNCATED)) && w->off + 4 > w->end &&
	    !(w->flags & WALK_CUT))
		return suspect(w);
	return v;
}

#endif
