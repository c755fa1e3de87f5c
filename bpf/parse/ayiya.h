/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* AYIYA. */
#ifndef TMON_PARSE_AYIYA_H
#define TMON_PARSE_AYIYA_H

#include "../walk.h"

/* AYIYA, draft-massar-v6ops-ayiya: identity, signature, then what the next header names. */
static __always_inline __u32 ayiya(struct __sk_buff *skb, struct walk *w)
{
	struct ayiya *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 size;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h), w->end, KIND_AYIYA);
	size = sizeof(*h) + (1 << (h->id >> 4)) + (h->signature >> 4) * 4;
	if (w->off + size > w->end)
		return short_of(skb, w, w->off, size, w->end, KIND_AYIYA);
	if ((h->opcode & 0x0f) != AYIYA_FORWARD)
		return VERDICT_END;
	if (h->next == PROTO_IPIP || h->next == PROTO_IPV6)
		return tunnel(w, KIND_AYIYA, 0, 0, w->off + size, w->end,
			      h->next == PROTO_IPIP ? ETHERTYPE_IP : ETHERTYPE_IPV6);
	if (h->next != PROTO_NONE)
		return suspect(w);
	return tunnel_of(w, KIND_AYIYA, 0, 0, INNER_REASON | REASON_NONE);
}

#endif
