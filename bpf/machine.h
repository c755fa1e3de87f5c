/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * What the parser stands on: bytes of a packet, tail calls, maps, clock. Everything else is the
 * same wherever it runs.
 */
#ifndef TMON_MACHINE_H
#define TMON_MACHINE_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#ifndef likely /* not in every libbpf */
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/*
 * A tunnel's header in UDP is not at hand: where the datagram is too short for it, this is other
 * traffic on the tunnel's port.
 */
static __always_inline __u32 short_of(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 size,
				      __u32 end, __u32 state)
{
	if (off + size > end && !(w->flags & WALK_CUT))
		return suspect(w);
	return lacking(skb, w, off, size, end, state);
}

#endif

/*
 * The packet's bytes. Loaded by hand: clang may treat the context's 32-bit fields as numbers to be
 * zero-extended, and the verifier then no longer knows them for pointers.
 */
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
PACKET(packet, data)
PACKET(packet_end, data_end)

#endif
