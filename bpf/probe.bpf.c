// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The states of packets of probed rows. Nobody is looked at while nobody probes, so these are
 * loaded when somebody does, into the jump table of the programs that count, whose maps they share:
 * most runs never need them, and the verifier takes as long for them as for half of all others.
 */
#include "lens.h"

STATE(state_probe);
STATE(state_choose);
STATE(state_lens);

/* What is not set here was set by tmon.bpf.c. */
JUMP_TABLE(states) = {
	.values = {
		[STATE_PROBE] = (void *)&state_probe,
		[STATE_CHOOSE] = (void *)&state_choose,
		[STATE_LENS] = (void *)&state_lens,
	},
};

#include "next.h"

/* Whether somebody wants to know how long the packet takes to be answered: see rtt.bpf.c. */
static __always_inline int timed(struct __sk_buff *skb, struct cpu *c)
{
	if (c->lens & LENS_RTT) {
		JUMP(skb, STATE_RTT);
		c->beside[BESIDE_UNPROBED]++;
	}
	return beside(skb, c);
}

STATE(state_probe)
{
	struct cpu *c = this_cpu();

	if (!c)
		return TC_ACT_UNSPEC;
	if (cfg_loopback && c->walk.hook == HOOK_RX)
		return beside(skb, c);
	if (!c->chosen && !recall(c)) {
		JUMP(skb, STATE_CHOOSE);
		c->beside[BESIDE_UNPROBED]++;
		return beside(skb, c);
	}
	look(skb, c);
	if (c->row & CAUGHT_STOP && (c->row & 0xff) != STOP_PLAIN)
		return TC_ACT_UNSPEC;
	if (c->lens & ~LENS_RTT) {
		JUMP(skb, STATE_LENS);
		c->beside[BESIDE_UNPROBED]++;
	}
	return timed(skb, c);
}

STATE(state_lens)
{
	struct cpu *c = this_cpu();

	if (!c)
		return TC_ACT_UNSPEC;
	tell_apart(skb, c);
	return timed(skb, c);
}

STATE(state_choose)
{
	struct cpu *c = this_cpu();

	if (!c)
		return TC_ACT_UNSPEC;
	choose(c);
	if (c->wanted) {
		JUMP(skb, STATE_PROBE);
		c->beside[BESIDE_UNPROBED]++;
	}
	return beside(skb, c);
}

char _license[] SEC("license") = "Dual MIT/GPL";
