/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The working memory of one CPU: its share of the books, and the current packet. */
#ifndef TMON_CPU_H
#define TMON_CPU_H

#include "walk.h"

/* What the current packet adds to every counter that includes it. */
struct weight {
	__u64 packets;
	__u64 bytes;
};

#define LENS_RTT (1U << 31)

/* The record of one CPU: its share of the books, and the current walk as it goes from state to
 * state. */
struct cpu {
	struct cell_count books[HOOKS * CELLS];
	__u64 beside[BESIDES]; /* counters of what is kept beside the rows */
	struct walk walk;
	struct key6 key; /* of the row in which the walk ends */
	struct weight weight;
	__u32 swapped;
	__u32 number; /* of this CPU, from 1; set by user space */
	__u32 common; /* count in the slot of all CPUs: no room for one of our own */
	__u32 now;    /* the time of a packet of a capture */
	__u32 owner;  /* the owner word of the packet's slot, if that is probed */
	__u32 place;  /* the place of that slot */
	__u32 chosen; /* whether it is known which probers want the packet */
	__u32 wanted; /* these probers, one bit each */
	__u32 row;    /* the row's place among the probes, or OWNER_ASK */
	__u32 lens;   /* the probers that want its contents; LENS_RTT: one times it */
};

#ifndef TMON_WINDOW /* otherwise it is part of a record */
PER_CPU(cpus, struct cpu);

static __always_inline struct cpu *this_cpu(void)
{
	return ELEMENT(cpus, 0);
}
#endif

#endif
