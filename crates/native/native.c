/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The parser and its accounting as bpf/ has them, compiled for the host. */
#include "tmon.bpf.c"

_Static_assert(sizeof(((struct native *)0)->tpid) == sizeof(__u16[MAX_TPIDS]), "all of them");

/* Of a `struct cpu`, whose first field are the books: its size, and where the
 * CPU's number is. */
const __u64 tmon_native_cpu[2] = { sizeof(struct cpu), __builtin_offsetof(struct cpu, number) };
/* Of what is remembered of a fragmented packet: the sizes of key and value. */
const __u64 tmon_native_fragment[2] = { sizeof(struct fragment_key), sizeof(struct fragment_row) };

/* A frame. src/lib.rs has the same fields. */
struct frame {
	const __u8 *data;
	__u32 captured; /* so much of it is at data */
	__u32 length;	/* on the wire */
	__u32 link;	/* of a link header before it, which weighs but is not read */
	__u32 begins;	/* with the payload of this EtherType, or ETHERTYPE_TEB, or
			   PAYLOAD_IP */
	__u32 now;	/* its time */
	__u16 gso_segs;
	__u16 gso_size;
	__u32 hook;
};

void tmon_native_judge(struct native *native, const struct frame *frame)
{
	__u32 whole = frame->length + frame->link;
	struct __sk_buff skb = {
		.data = frame->data,
		.data_end = frame->data + frame->captured,
		.gso_segs = frame->gso_segs,
		.gso_size = frame->gso_size,
	};

	here = native;
	native->now = frame->now;
	start(&skb, frame->hook, whole < frame->length ? ~0U : whole, 0, frame->length,
	      frame->begins, !native->states);
}
