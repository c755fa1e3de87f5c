/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* GTP-U. */
#ifndef TMON_PARSE_GTPU_H
#define TMON_PARSE_GTPU_H

#include "../walk.h"

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

/* GTP-U with optional fields and extension headers, 3GPP TS 29.281, section 5.2. */
static __always_inline __u32 gtpu_options(struct __sk_buff *skb, struct walk *w)
{
	struct gtpu *h = bytes_at(skb, w->off, sizeof(*h) + 4, w->end);
	__u32 off = w->off + sizeof(*h), end = w->end, length, teid;
	__u8 *p = (__u8 *)h, next;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h) + 4, end, KIND_GTPU);
	length = bpf_ntohs(h->length);
	if (length < 4)
		return suspect(w);
	narrow(w, off, length, &end);
	teid = bpf_ntohl(h->teid);
	next = h->flags & GTPU_E ? p[11] : 0;
	off += 4;
	for (int i = 0; i < MAX_GTP_EXTS && next; i++) {
		__u32 size;

		p = bytes_at(skb, off, 4, end);
		if (!p)
			return short_of(skb, w, off, 4, end, KIND_GTPU);
		size = p[0] * 4;
		if (!size || (off + size > end && !(w->flags & WALK_CUT)))
			return suspect(w);
		p = bytes_at(skb, off + size - 1, 1, end);
		if (!p)
			return short_of(skb, w, off + size - 1, 1, end, KIND_GTPU);
		next = *p;
		off += size;
	}
	if (next)
		return tunnel_of(w, KIND_GTPU, teid, 1, INNER_REASON | REASON_TOO_DEEP);
	return tunnel(w, KIND_GTPU, teid, 1, off, end, PAYLOAD_GUESS);
}

#endif
