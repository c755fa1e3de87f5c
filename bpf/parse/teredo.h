/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Teredo. */
#ifndef TMON_PARSE_TEREDO_H
#define TMON_PARSE_TEREDO_H

#include "../walk.h"

/* Teredo, RFC 4380, section 5.1: authentication and origin indications, then IPv6. */
static __always_inline __u32 teredo(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off;
	struct ip6 *ip;

	for (int i = 0; i < 2; i++) {
		__u8 *p = bytes_at(skb, off, 4, w->end);

		if (!p)
			return short_of(skb, w, off, 4, w->end, KIND_TEREDO);
		if (p[0] == 0 &&
		    p[1] == 1) /* client id, authentication value, nonce, confirmation */
			off += 4 + p[2] + p[3] + 9;
		else if (p[0] == 0 && p[1] == 0)
			off += 8;
	}
	ip = bytes_at(skb, off, sizeof(*ip), w->end);
	if (!ip)
		return short_of(skb, w, off, sizeof(*ip), w->end, KIND_TEREDO);
	if (ip->version_class >> 4 != 6 ||
	    (off + sizeof(*ip) + bpf_ntohs(ip->payload) > w->end && !(w->flags & WALK_CUT)))
		return suspect(w);
	return tunnel(w, KIND_TEREDO, 0, 0, off, w->end, ETHERTYPE_IPV6);
}

#endif
