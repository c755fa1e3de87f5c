/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The maps of probers, see probe.h. They are there from the start, and with them the programs that
 * count can be pinned; the programs that use them are loaded when somebody probes.
 */
#ifndef TMON_PROBERS_H
#define TMON_PROBERS_H

#include "tmon.h"

CONFIG(__u8, cfg_loopback); /* every packet passes both hooks: probe it on egress only */

struct probe_slot {
	struct bpf_spin_lock lock;
	__u32 tag; /* as number_slot's */
	struct key6 key;
	struct probe probe;
};

LOCKED(probes, PROBES, struct probe_slot);

/* Of each prober, if he has one: where packets go. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PROBERS);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_RINGBUF);
			__uint(max_entries, 65536);
		});
} probe_rings SEC(".maps");

/* And what each sees in packets. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PROBERS);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_HASH);
			__uint(max_entries, 1);
			__uint(key_size, sizeof(struct lens_key));
			__uint(value_size, sizeof(struct lens));
		});
} probe_lenses SEC(".maps");

#endif
