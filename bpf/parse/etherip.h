/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Ethernet in IP. */
#ifndef TMON_PARSE_ETHERIP_H
#define TMON_PARSE_ETHERIP_H

#include "../walk.h"

/* Ethernet in IP, RFC 3378: version 3, then the frame. */
static __always_inline __u32 etherip(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 2, w->end);

	if (!p)
		return lacking(skb, w, w->off, 2, w->end, KIND_ETHERIP);
	if (p[0] >> 4 != 3)
		return STOP(MALFORMED);
	return tunnel(w, KIND_ETHERIP, 0, 0, w->off + 2, w->end, ETHERTYPE_TEB);
}

#endif
