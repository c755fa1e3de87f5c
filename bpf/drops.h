/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* What bpf/drops.bpf.c and its reader share: drops by reason, device, namespace and row. */
#ifndef TMON_DROPS_H
#define TMON_DROPS_H

#include "tmon.h"

#define MAX_DROPS 16384 /* keys; what finds no room is counted by its reason */

/* Reasons that are counted one by one when the table is full. */
#define CORE_REASONS	  512 /* the kernel's own */
#define SUBSYSTEMS	  8   /* others' are numbered in the upper half, from 1 */
#define SUBSYSTEM_REASONS 64
#define REASON_SLOTS	  (CORE_REASONS + SUBSYSTEMS * SUBSYSTEM_REASONS)

/* What was dropped. */
enum drop_of {
	DROP_TUNNEL,  /* a tunnel's packet */
	DROP_REMAINS, /* the same by headers that a receiver took off: if there is such a row */
	DROP_PLAIN,   /* one of no tunnel */
	DROP_UNKNOWN, /* it cannot be told */
	DROPS_OF,
};

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

struct drop_key {
	__u32 reason;
	__u32 netns;   /* inode number; 0: nobody knows */
	__u32 ifindex; /* 0: no device */
	enum drop_of of;
	/* The row's, where there is one. ROW_DIR: sent by the second end. */
	struct key6 row;
};

struct drop_count {
	__u64 packets;
	__u64 bytes;
	__u64 first; /* CLOCK_MONOTONIC */
	__u64 last;
};

struct drop_value {
	struct drop_count count;
	char device[16]; /* its name when this began */
};

/* By CPU. */
struct drop_books {
	__u64 seen;	 /* everything else is part of it */
	__u64 elsewhere; /* in namespaces that nobody asked for */
};

/* What is looked at: a namespace, with ifindex 0, or a tunnel device. */
struct scope_key {
	__u32 netns;
	__u32 ifindex;
};

/* Of a tunnel device: what is in its packets' headers. */
struct scope {
	__u32 id;
	__u8 kind;
	__u8 flags; /* ROW_ID */
	__u16 zero;
};

/* In front of a dropped packet in the ring. */
struct drop_caught {
	__u64 time;   /* CLOCK_MONOTONIC */
	__u64 lost;   /* packets that matched and were not written so far */
	__u32 length; /* of the packet, from where it begins */
	__u32 size;   /* of what follows */
	__u32 begins; /* ETHERTYPE_TEB: with an Ethernet header; or PAYLOAD_IP, or an EtherType */
	__u32 cpu;
	struct drop_key what;
	char device[16];
};

#pragma clang diagnostic pop

#endif
