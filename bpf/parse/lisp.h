/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* LISP data. */
#ifndef TMON_PARSE_LISP_H
#define TMON_PARSE_LISP_H

#include "ip.h"

/* LISP data, RFC 9300, section 5.3; the instance id is present if the I flag is set. */
static __always_inline __u32 lisp(struct __sk_buff *skb, struct walk *w)
{
	struct lisp *h = bytes_at(skb, w->off, sizeof(*h) + 1, w->end);
	__u32 off = w->off + sizeof(*h), v, proto;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h) + 1, w->end, KIND_LISP);
	v = guess(skb, w, off, w->end, &proto, KIND_LISP);
	if (v)
		return v;
	if (proto == PAYLOAD_UNKNOWN)
		return suspect(w);
	return tunnel(w, KIND_LISP, bpf_ntohl(h->instance) >> 8, h->flags & LISP_I, off, w->end,
		      proto);
}

#endif
