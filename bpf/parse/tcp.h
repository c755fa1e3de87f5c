/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* TCP, RFC 9293. */
#ifndef TMON_PARSE_TCP_H
#define TMON_PARSE_TCP_H

#include "../walk.h"

/* For packets that get a row: one that opens or resets a connection is examined once it has been
 * counted. */
static __always_inline __u32 tcp(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				 __u32 state)
{
	struct tcp *h;

	if (!w->depth && !cfg_plain)
		return VERDICT_END;
	h = bytes_at(skb, off, sizeof(*h), end);
	if (unlikely(!h)) /* if it is truncated, only the row is known */
		return lacking(skb, w, off, sizeof(*h), end, state) == STATE_PULL ? STATE_PULL :
										    VERDICT_END;
	if (unlikely(h->flags & (TCP_SYN | TCP_RST))) {
		w->flags |= WALK_TCP;
		w->end = end;
	}
	return VERDICT_END;
}

#endif
