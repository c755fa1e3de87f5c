/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* VXLAN and VXLAN-GPE. */
#ifndef TMON_PARSE_VXLAN_H
#define TMON_PARSE_VXLAN_H

#include "nsh.h"

/* VXLAN, RFC 7348: the I flag must be set; a receiver ignores every reserved bit. */
static __always_inline int vxlan_read(const struct vxlan *h, struct seen *s)
{
	s->id = bpf_ntohl(h->vni) >> 8;
	s->size = sizeof(*h);
	s->proto = ETHERTYPE_TEB;
	return h->flags & VXLAN_I;
}

/* off: the header. */
static __always_inline __u32 vxlan(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				   __u32 state)
{
	struct vxlan *h = bytes_at(skb, off, sizeof(*h), end);
	struct seen s;

	if (unlikely(!h))
		return short_of(skb, w, off, sizeof(*h), end, state);
	if (unlikely(!vxlan_read(h, &s)))
		return suspect(w);
	return tunnel(w, KIND_VXLAN, s.id, 1, off + s.size, end, s.proto);
}

/* VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe: I flag, version 0; without the P flag the inside is
 * Ethernet. */
static __always_inline __u32 vxlan_gpe(struct __sk_buff *skb, struct walk *w)
{
	struct vxlan *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 vni, proto;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h), w->end, KIND_VXLAN_GPE);
	if (!(h->flags & VXLAN_I) || h->flags & GPE_VERSION)
		return suspect(w);
	proto = h->flags & GPE_P ? next_protocol(h->next) : ETHERTYPE_TEB;
	vni = bpf_ntohl(h->vni) >> 8;
	return tunnel(w, KIND_VXLAN_GPE, vni, 1, w->off + sizeof(*h), w->end, proto);
}

#endif
