/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* The parser and its accounting, from bpf/, compiled for the host. */
#include "tmon.bpf.c"
#include "rtt.h"

_Static_assert(sizeof(((struct native *)0)->books) == sizeof(((struct cpu *)0)->books) &&
		       __builtin_offsetof(struct cpu, books) == 0,
	       "all of them");
_Static_assert(sizeof(((struct native *)0)->tpid) == sizeof(__u16[MAX_TPIDS]), "all of them");

/* A `struct cpu`, whose first field is the books: its size, and the offset of the CPU's number. */
const __u64 tmon_native_cpu[2] = { sizeof(struct cpu), __builtin_offsetof(struct cpu, number) };
/* What is remembered of a fragmented packet: the sizes of key and value. */
const __u64 tmon_native_fragment[2] = { sizeof(struct fragment_key), sizeof(struct fragment_row) };

/* Each kind of data beside the rows: the sizes of a slot, and of what a part leaves to the whole. */
const __u64 tmon_native_beside[6] = { sizeof(struct number_slot),    sizeof(struct numbered),
				      sizeof(struct claim_slot),     sizeof(struct claimed),
				      sizeof(struct handshake_slot), sizeof(struct waiting_slot) };

_Static_assert(__builtin_offsetof(struct cpu, beside) == sizeof(((struct cpu *)0)->books),
	       "directly after the books");

/* A frame. src/lib.rs has the same fields. */
struct frame {
	const __u8 *data;
	__u32 captured; /* bytes at data */
	__u32 length;	/* on the wire */
	__u32 link;	/* of a link header before it, which is counted but not read */
	__u32 begins;	/* what it begins with: an EtherType's payload, ETHERTYPE_TEB
			   or PAYLOAD_IP */
	__u32 now;	/* its time */
	__u16 gso_segs;
	__u16 gso_size;
	__u32 hook;
	__u64 time; /* its time in ns */
};

/* How many frames ahead to prefetch. */
#define FETCH_AHEAD 4

static __attribute__((noinline)) void tell(struct native *native)
{
	struct cpu *c = this_cpu();

	if (native->note & NOTE_DEFER) {
		if (native->note & NOTE_BOOKS)
			__builtin_memcpy(c->books, native->books, sizeof(native->books));
		native->defer(native->host, native->frame);
	} else if (native->note & NOTE_MADE) {
		native->made(native->host, &c->key, native->frame);
	}
}

static inline struct __sk_buff skb_of(const struct frame *frame)
{
	return (struct __sk_buff){
		.data = frame->data,
		.data_end = frame->data + frame->captured,
		.gso_segs = frame->gso_segs,
		.gso_size = frame->gso_size,
		.tstamp = frame->time,
	};
}

static inline void judge(struct native *native, const struct frame *frame, int quick)
{
	__u32 whole = frame->length + frame->link;
	struct __sk_buff skb = skb_of(frame);

	native->now = frame->now;
	start(&skb, frame->hook, whole < frame->length ? ~0U : whole, 0, frame->length,
	      frame->begins, quick, 0);
}

static inline void told(struct native *native)
{
	if (unlikely(native->note) && native->part)
		tell(native);
	native->note = 0;
}

/* Counts a packet in the row with this key. */
static inline void look_up4(struct __sk_buff *skb, struct cpu *c, const struct put_off *p,
			    struct weight weight)
{
	__u64 meta = p->key[0], outer = p->key[1], inner = p->key[2];

	if (likely(hit4(c, p->hook, meta, outer, inner, weight, 0)))
		return;
	put_key(c, meta_of(1, meta, 0, 0), (struct pair){ { (__u32)outer, 0, outer >> 32, 0 } },
		(struct pair){ { (__u32)inner, 0, inner >> 32, 0 } });
	to_table(skb, c, p->hook, weight, p->swapped, 0, STATE_ROW4);
}

/* The same for a row of the other table. */
static inline void look_up6(struct __sk_buff *skb, struct cpu *c, const struct put_off *p,
			    struct weight weight)
{
	struct meta6 meta = { p->key[0], p->key[1] };
	struct pair outer = *(const struct pair *)&p->key[2];
	struct pair inner = *(const struct pair *)&p->key[6];

	if (likely(hit6(c, p->hook, meta, outer, p->pairs & PAIRS_OUTER6, inner,
			p->pairs & PAIRS_INNER6, weight, 0)))
		return;
	put_key(c, meta, outer, inner);
	to_table(skb, c, p->hook, weight, p->swapped, 0, STATE_ROW6);
}

static __attribute__((noinline)) void settle(void)
{
	struct native *native = here;
	struct cpu *c = this_cpu();
	__u32 now = native->now, frame = native->frame;

	for (__u32 i = 0; i < waiting.n; i++) {
		const struct put_off *p = &waiting.all[i];
		struct weight weight = { 1, p->bytes };
		struct __sk_buff skb = { 0 };

		native->now = p->now;
		native->frame = p->frame;
		if (p->pairs)
			look_up6(&skb, c, p, weight);
		else
			look_up4(&skb, c, p, weight);
		told(native);
	}
	waiting.n = 0;
	native->now = now;
	native->frame = frame;
}

void tmon_native_judge(struct native *native, const struct frame *frames, __u32 n)
{
	here = native;
	for (__u32 i = 0; i < n; i++) {
		if (i + FETCH_AHEAD < n) {
			__builtin_prefetch(frames[i + FETCH_AHEAD].data);
			__builtin_prefetch(frames[i + FETCH_AHEAD].data + 64);
		}
		native->note = 0;
		judge(native, &frames[i], !native->states);
		told(native);
		native->frame++;
	}
	SETTLE();
}

/*
 * A cached decision about a row. It is made again if another row has taken its place here, so that
 * any number of rows takes the same memory.
 */
struct choice {
	struct key6 key;
	__u32 chosen;
	__u32 known;
};

#define CHOICES 16384 /* a power of two */

const __u64 tmon_native_choices[2] = { sizeof(struct choice), CHOICES };

/* The decision about a frame's row; or ANSWER_STOP and which stop. Counts nothing. */
#define ANSWER_STOP 0x80000000

__u32 tmon_native_choose(struct native *native, struct choice *choices, const struct frame *frame,
			 __u32 (*decide)(void *decider, const struct key6 *key), void *decider)
{
	struct choice *choice;
	struct cpu *c;

	here = native;
	native->answer = STOP_TOO_DEEP;
	judge(native, frame, !native->states);
	if (!(native->answer & ANSWER_ROW))
		return ANSWER_STOP | native->answer;
	c = this_cpu();
	choice = &choices[HOME_OF(hash_of_key6(&c->key)) & (CHOICES - 1)];
	if (unlikely(!choice->known || !same_words((const __u64 *)&choice->key,
						   (const __u64 *)&c->key, WORDS(c->key)))) {
		choice->key = c->key;
		choice->chosen = decide(decider, &c->key);
		choice->known = 1;
	}
	return choice->chosen;
}

/* Where the headers of a frame are; its row's key, and whether the row's second end sent it. Returns
 * 0 if it is in no row. */
__u32 tmon_native_way(struct native *native, const struct frame *frame, struct way *way,
		      struct key6 *key, __u32 *swapped)
{
	struct cpu *c;

	__builtin_memset(way, 0, sizeof(*way));
	for (int i = 0; i < WAY_LEVELS; i++)
		way->level[i].ip = NO_IP;
	way->ip_proto = NO_TRANSPORT;
	here = native;
	native->answer = STOP_TOO_DEEP;
	native->way = way;
	judge(native, frame, 0);
	native->way = NULL;
	c = this_cpu();
	way->depth = c->walk.depth;
	*key = c->key;
	*swapped = c->swapped;
	return native->answer & ANSWER_ROW;
}

/* Updates round-trip times with a frame seen at this place. */
void tmon_native_time(struct native *native, const struct frame *frame, __u32 place)
{
	struct __sk_buff skb = skb_of(frame);
	struct key6 key;
	struct way way;
	__u32 swapped;

	if (tmon_native_way(native, frame, &way, &key, &swapped) &&
	    way.ip_proto != NO_TRANSPORT && !way.later)
		rtt(&skb, this_cpu(), way.transport, way.end, way.ip_proto, place);
}

/* The sizes and limits that src/rtt.rs must match. */
const __u64 tmon_native_rtt[7] = {
	sizeof(struct rtt_flow) * RTT_FLOWS, sizeof(struct rtt_row), RTT_ROWS, sizeof(struct rtts),
	RTT_BUCKETS, RTT_LEAST, RTT_PARTS_BITS,
};

_Static_assert(WAY_LEVELS == MAX_DEPTH + 1, "the frame, and what each tunnel carries");

/*
 * Adds what was counted in a row elsewhere, as if its packets were counted here: if there is no room
 * for the row, they go where such packets would go. The books already contain them, except for the
 * counters of packets without room.
 */
void tmon_native_add(struct native *native, const struct key6 *key, __u32 hook,
		     const struct weight *weight, __u32 now)
{
	struct __sk_buff skb = {};
	struct cpu *c;

	here = native;
	native->now = now;
	c = this_cpu();
	begin(&c->walk, hook, 0, 0);
	c->key = *key;
	c->swapped = !!(key->flags & ROW_DIR) ^ hook;
	c->weight = *weight;
	c->common = 0;
	if (is_small(key))
		state_row4(&skb);
	else
		state_row6(&skb);
	c->books[hook * CELLS + CELL_COUNTED].packets -= weight->packets;
	c->books[hook * CELLS + CELL_COUNTED].bytes -= weight->bytes;
}

/* Does the work that a part left to the whole. */
void tmon_native_left(struct native *native, __u32 what, const void *noted, __u32 now)
{
	struct cpu *c;

	here = native;
	native->now = now;
	c = this_cpu();
	if (what == BESIDE_NUMBERED)
		take_number(c, noted);
	else if (what == BESIDE_CLAIMED)
		take_claim(c, noted);
}
