/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Network service header. */
#ifndef TMON_PARSE_NSH_H
#define TMON_PARSE_NSH_H

#include "link.h"

/* The next protocol of NSH, also used by VXLAN-GPE, as an EtherType. */
static __always_inline __u32 next_protocol(__u32 next)
{
	return next == 1 ? ETHERTYPE_IP :
	       next == 2 ? ETHERTYPE_IPV6 :
	       next == 3 ? ETHERTYPE_TEB :
	       next == 4 ? ETHERTYPE_NSH :
	       next == 5 ? ETHERTYPE_MPLS :
			   PAYLOAD_UNKNOWN;
}

/* NSH, RFC 8300: version 0; the length covers the context headers. off: the header. */
static __always_inline __u32 nsh(struct __sk_buff *skb, struct walk *w)
{
	struct nsh *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 size;

	if (!h)
		return lacking(skb, w, w->off, sizeof(*h), w->end, STATE_LINK);
	size = (bpf_ntohs(h->version_length) & 0x3f) * 4;
	if (bpf_ntohs(h->version_length) >> 14 || size < sizeof(*h))
		return STOP(MALFORMED);
	return pass(w, KIND_NSH, bpf_ntohl(h->path) >> 8, w->off + size, w->end,
		    next_protocol(h->next));
}

#endif
