// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The state that times packets of probed rows: loaded into the jump table of the programs that
 * count when somebody wants to know, with tables of its own that are gone with him.
 */
#include "handshake.h"
#include "quick.h"
#include "rtt.h"

STATE(state_rtt);

/* What is not set here was set by tmon.bpf.c and probe.bpf.c. */
JUMP_TABLE(states) = {
	.values = {
		[STATE_RTT] = (void *)&state_rtt,
	},
};

#include "next.h"

/* What is behind the innermost IP header. */
struct inside {
	__u32 off;
	__u32 end;
	__u32 proto;
};

/*
 * The headers once more, as for the lens: the walk of a packet that went the quick way says nothing
 * of them.
 */
static __always_inline int find_inside(struct __sk_buff *skb, struct cpu *c, struct inside *at)
{
	struct level l = { .at = packet(skb), .left = skb->len };
	struct walk *w = &c->walk;
	__u32 depth = c->key.depth;

	if (w->flags & WALK_INNER) {
		at->off = w->off;
		at->end = w->end;
		at->proto = w->ip_proto;
		return !(w->flags & WALK_LAST);
	}
	w->declared = 0;
	if (!quick_level(skb, &l, cfg_begin == BEGIN_IP ? PAYLOAD_IP : ETHERTYPE_TEB, INLINE_TAGS))
		return 0;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < MAX_DEPTH && i < depth; i++)
	{
		if (!quick_inner(skb, w, &l))
			return 0;
	}
	at->off = l.at - packet(skb);
	at->end = at->off + l.left;
	at->proto = l.proto;
	return 1;
}

STATE(state_rtt)
{
	struct cpu *c = this_cpu();
	struct inside at;

	if (!c)
		return TC_ACT_UNSPEC;
	if (find_inside(skb, c, &at))
		rtt(skb, c, unknown(&c->walk, at.off), unknown(&c->walk, at.end),
		    unknown(&c->walk, at.proto), 0);
	return beside(skb, c);
}

char _license[] SEC("license") = "Dual MIT/GPL";
