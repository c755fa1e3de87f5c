/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Geneve. */
#ifndef TMON_PARSE_GENEVE_H
#define TMON_PARSE_GENEVE_H

#include "../walk.h"

/* Geneve, RFC 8926: version 0; options are skipped by length, regardless of their critical bits. */
static __always_inline int geneve_read(const struct geneve *h, struct seen *s)
{
	s->id = bpf_ntohl(h->vni) >> 8;
	s->size = sizeof(*h) + (h->version_optlen & 0x3f) * 4;
	s->proto = bpf_ntohs(h->type);
	return !(h->version_optlen >> 6);
}

/* off: the header. */
static __always_inline __u32 geneve(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				    __u32 state)
{
	struct geneve *h = bytes_at(skb, off, sizeof(*h), end);
	struct seen s;

	if (unlikely(!h))
		return short_of(skb, w, off, sizeof(*h), end, state);
	if (unlikely(!geneve_read(h, &s) || (off + s.size > end && !(w->flags & WALK_CUT))))
		return suspect(w);
	return tunnel(w, KIND_GENEVE, s.id, 1, off + s.size, end, s.proto);
}

#endif
