/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The machine below the state machine: a packet's bytes, jumps to a state, elements of maps, this
 * CPU's record, the clock. These are the kernel's or, with TMON_NATIVE, those of a user-space
 * process, so that frames of captures are parsed by the same code without BPF.
 */
#ifndef TMON_MACHINE_H
#define TMON_MACHINE_H

#ifndef TMON_NATIVE

#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* Set before the program is loaded. */
#define CONFIG(type, name) const volatile type name

/* The meaning of UDP ports; may change while the programs run. */
#define PORT_TABLE(name) struct ports name SEC(".data.ports")
#define UDP_PORTS	 ports

#define ARRAY(name, type_of_value)                 \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, 1);            \
		__type(key, __u32);                \
		__type(value, type_of_value);      \
	} name SEC(".maps")
#define PER_CPU(name, type_of_value)                     \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1);                  \
		__type(key, __u32);                      \
		__type(value, type_of_value);            \
	} name SEC(".maps")
/* An array of values that contain a lock, which cannot be mapped into memory. */
#define LOCKED(name, size, type_of_value)         \
	struct {                                  \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, size);        \
		__type(key, __u32);               \
		__type(value, type_of_value);     \
	} name SEC(".maps")
#define LRU(name, size, type_of_key, type_of_value)  \
	struct {                                     \
		__uint(type, BPF_MAP_TYPE_LRU_HASH); \
		__uint(max_entries, size);           \
		__type(key, type_of_key);            \
		__type(value, type_of_value);        \
	} name SEC(".maps")

#define POINTER_TO(map) typeof(map.value)
#define ELEMENT(map, index)                     \
	({                                      \
		__u32 at = index;               \
		bpf_map_lookup_elem(&map, &at); \
	})
#define LRU_FIND(map, key)	 bpf_map_lookup_elem(&map, key)
#define LRU_PUT(map, key, value) bpf_map_update_elem(&map, key, value, BPF_ANY)
#define LRU_DELETE(map, key)	 bpf_map_delete_elem(&map, key)

/* Whether this work is done later and in the packets' order: only if threads share a capture. */
#define LEFT_TO_WHOLE(what, noted) 0

/* Jumps to a state. This does not return, unless the kernel's limit on tail calls is reached. */
#define JUMP(skb, state)    bpf_tail_call_static(skb, &states, state)
#define JUMP_TO(skb, state) bpf_tail_call(skb, &states, state)

/* Adds to a counter to which other CPUs also add. */
#define ADD(at, n) __sync_fetch_and_add(at, n)

/*
 * The lower half of a word, by one 32-bit move instead of clang's two shifts. The move is written
 * in assembly, because clang would drop it: it assumes that the upper half of a register that holds
 * 32 bits is already zero.
 */
#define LOW(word)                                                                    \
	({                                                                           \
		__u32 low;                                                           \
                                                                                     \
		asm("%[to] = %[from]" : [to] "=w"(low) : [from] "w"((__u32)(word))); \
		(__u64) low;                                                         \
	})

/* Whether this packet is parsed again later, because it depends on earlier ones: as above. */
#define LEFT_TO_JUDGE() 0

/* Whether only the row and the headers of a packet are wanted: then nothing is counted, and the
 * readers note each header. Only for frames of captures. */
#define ASKED()				      0
#define ANSWER(...)			      (void)0
#define NOTE_PAYLOAD(w, off, end, proto)      (void)0
#define NOTE_IP(w, off)			      (void)0
#define NOTE_TUNNEL(w, kind, id, has_id)      (void)0
#define NOTE_TRANSPORT(w, off, end, ip_proto) (void)0

/* Rows are looked up at once, not in batches as for frames of captures. */
#define PUT_OFF4(...) (void)0
#define PUT_OFF6(...) (void)0
#define SETTLE()      (void)0

/* What a slot's `seen` is compared with. */
#define NOW(c, usual) (UNLESS(usual, cfg_replay) ? (c)->now : (__u32)bpf_jiffies64())

/*
 * The packet's bytes. Loaded in assembly, because clang may zero-extend the context's 32-bit
 * fields, after which the verifier no longer takes them for pointers.
 */
#ifndef TMON_WINDOW
#define PACKET(name, field)                                                                       \
	static __always_inline void *name(struct __sk_buff *skb)                                  \
	{                                                                                         \
		void *p;                                                                          \
                                                                                                  \
		asm volatile(                                                                     \
			"%[p] = *(u32 *)(%[skb] + %[at])"                                         \
			: [p] "=r"(p)                                                             \
			: [skb] "r"(skb), [at] "i"(__builtin_offsetof(struct __sk_buff, field))); \
		return p;                                                                         \
	}

#else /* TMON_WINDOW: bytes copied from the kernel's memory, for programs without an skb context \
       */

#define WINDOW	      512 /* a power of two */
#define WINDOW_BEHIND 128 /* how much of it precedes the packet */
#define LONGEST_READ  64  /* of one header */

struct window {
	__u32 len;
	__u8 bytes[WINDOW + LONGEST_READ];
};
#define __sk_buff     window
#define PACKET(name, field)

/* See walk.h. */
static __always_inline void *bytes_at(struct window *window, __u32 off, __u32 size, __u32 end)
{
	if (!__builtin_constant_p(off))
		barrier_var(off); /* the verifier must see the checks on the value that is used */
	if (off >= WINDOW || off + size > end || off + size > window->len)
		return NULL;
	return window->bytes + off;
}

#endif

#else /* TMON_NATIVE: see crates/native/native.c */

#include "native.h"

#endif

#ifndef likely /* not in every libbpf */
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

PACKET(packet, data)
PACKET(packet_end, data_end)

#endif
