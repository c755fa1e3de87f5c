/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* What one CPU works with: its share of the books, and the packet in hand. */
#ifndef TMON_CPU_H
#define TMON_CPU_H

#include "walk.h"

/* What the packet in hand adds to every counter that it is in. */
struct weight {
	__u64 packets;
	__u64 bytes;
};

#define LENS_RTT (1U << 31)

/* What one CPU needs: its share of the books, and the walk in hand while it goes from state to
 * state. */
struct cpu {
	struct cell_count books[HOOKS * CELLS];
	__u64 beside[BESIDES]; /* what was looked at of packets that were counted */
	struct walk walk;
	struct key6 key; /* of the row that the walk ends in */
	struct weight weight;
	__u32 swapped;
	__u32 number; /* of this CPU, from 1: user space says so */
	__u32 common; /* count in the slot of all CPUs, there is no room for one of our own */
	__u32 now;    /* the time of a capture's packet */
	__u32 owner;  /* of the slot that the packet was counted in, if it is probed: its word */
	__u32 place;  /* and where it is */
	__u32 chosen; /* it is known who wants the packet */
	__u32 wanted; /* a bit each */
	__u32 row;    /* the row's place among the probes, or OWNER_ASK */
	__u32 lens;   /* who wants to see what is in the packet; LENS_RTT: somebody times it */
};

#ifndef TMON_WINDOW /* else it is part of a record */
PER_CPU(cpus, struct cpu);

static __always_inline struct cpu *this_cpu(void)
{
	return ELEMENT(cpus, 0);
}
#endif

#endif
