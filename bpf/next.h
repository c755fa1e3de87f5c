/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* What happens to packets after they have been counted. Included where `states` is defined. */
#ifndef TMON_NEXT_H
#define TMON_NEXT_H

#include "cpu.h"

/* Whether there is more to do with a packet that has been counted. */
static __always_inline int beside(struct __sk_buff *skb, struct cpu *c)
{
	if (likely(!(c->walk.flags & WALK_BESIDE)) || ASKED())
		return TC_ACT_UNSPEC;
	if (c->walk.flags & WALK_QUOTE) {
		JUMP(skb, STATE_QUOTE);
		c->beside[BESIDE_UNCLAIMED]++; /* too many jumps */
	} else if (c->walk.flags & WALK_MESSAGE) {
		JUMP(skb, STATE_MESSAGE);
		c->beside[BESIDE_UNCLAIMED]++;
	} else if (c->walk.flags & WALK_NUMBER) {
		JUMP(skb, STATE_NUMBER);
		c->beside[BESIDE_UNNUMBERED]++;
	} else {
		JUMP(skb, STATE_TCP);
		c->beside[BESIDE_UNFOLLOWED]++;
	}
	return TC_ACT_UNSPEC;
}

#endif
