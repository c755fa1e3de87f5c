/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The host's counterpart of what bpf/machine.h defines for the kernel: a packet is memory, a map is
 * an array, a jump is a call. A thread works with one `struct native` at a time.
 */
#ifndef TMON_NATIVE_H
#define TMON_NATIVE_H

#include <stddef.h>

#include <linux/types.h>

#undef __always_inline /* as libbpf defines it */
#define __always_inline inline __attribute__((always_inline))
#define TC_ACT_UNSPEC	(-1)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define bpf_htons(n)	   __builtin_bswap16(n)
#define bpf_htonl(n)	   __builtin_bswap32(n)
#define bpf_be64_to_cpu(n) __builtin_bswap64(n)
#else
#error "the parser's tables are little-endian"
#endif
#define bpf_ntohs bpf_htons
#define bpf_ntohl bpf_htonl

/* For the verifier only. */
#define barrier_var(var) asm volatile("" : "+r"(var))

/* The fields that the parser reads, for a frame of a capture. */
struct __sk_buff {
	const __u8 *data;
	const __u8 *data_end;
	__u32 len; /* unset: the walk has the frame's length */
	__u32 gso_segs;
	__u32 gso_size;
	__u32 vlan_present; /* not in a capture */
	__u32 cb[5];	    /* frames begin at their first byte */
	__u64 tstamp;	    /* ns */
	__u32 jumps;
};

/*
 * The layout of a frame: where its headers are. The first level is the frame itself, each further
 * one the payload of a tunnel. src/way.rs has the same fields.
 */
#define WAY_LEVELS 5 /* MAX_DEPTH and the frame */

struct way_level {
	__u64 tunnel;  /* TUNNEL() that carries it */
	__u32 off;     /* offset of its first Ethernet or IP header */
	__u32 end;     /* first byte after the level */
	__u32 payload; /* ETHERTYPE_ of that header; 0: there is none */
	__u32 ip;      /* where its IP header begins; NO_IP: there is none */
};
#define NO_IP (~0U)

struct way {
	struct way_level level[WAY_LEVELS];
	__u32 depth;	 /* tunnels */
	__u32 transport; /* where what follows the last IP header begins */
	__u32 end;	 /* of it */
	__u32 ip_proto;	 /* what it is; NO_TRANSPORT: there is none */
	__u32 later;	 /* it is the middle of it: a later fragment */
	__u32 zero;
};
#define NO_TRANSPORT (~0U)

/* Nobody else works with the tables. */
struct bpf_spin_lock {
	__u32 val;
};
#define bpf_spin_lock(lock)   (void)(lock)
#define bpf_spin_unlock(lock) (void)(lock)

struct cpu;
struct number_slot;
struct claim_slot;
struct handshake_slot;
struct waiting_slot;
struct rtt_flow;
struct rtt_row;
struct rtt_lost;
struct slot4;
struct slot6;
struct more;
struct ports;

/* Tables, configuration and books of an interface. src/lib.rs has the same fields. */
struct native {
	struct slot4 *rows4;
	struct slot6 *rows6;
	struct slot6 *others;
	__u64 *rows4_tags;
	__u64 *rows6_tags;
	__u64 *others_tags;
	struct more *rows4_more;
	struct more *rows6_more;
	struct more *others_more;
	struct number_slot *numbers;
	struct claim_slot *claims;
	struct handshake_slot *handshakes;
	struct waiting_slot *waiting;
	struct cpu *cpus;
	struct ports *ports;
	/* Callbacks, with their argument: recently fragmented packets, and the log of a part. */
	void *host;
	void *(*find)(void *host, const void *key, __u32 frame);
	void (*put)(void *host, const void *key, const void *value, __u32 frame);
	void (*forget)(void *host, const void *key, __u32 frame);
	void (*made)(void *host, const void *key, __u32 frame);
	void (*defer)(void *host, __u32 frame);
	void (*left)(void *host, __u32 what, const void *noted, __u32 frame);
	__u64 seed[12];
	__u32 mask4;
	__u32 mask6;
	__u32 mask_others;
	__u32 now;
	__u16 tpid[4];
	__u8 skb;
	__u8 plain;
	__u8 states;
	__u8 part; /* counts a part of the frames: see src/part.rs */
	__u8 note; /* NOTE_, what to report about this frame */
	__u8 asked; /* count nothing: put the row or the stop into `answer` */
	__u32 frame;	 /* frames since a part's log was taken */
	__u64 books[64]; /* the books before this frame, with NOTE_BOOKS */
	__u32 answer;	 /* ANSWER_ROW, or a stop */
	__u32 zero;
	struct way *way; /* where headers are noted, or NULL */
	/* the tables of round-trip times, if these are measured */
	struct rtt_flow *rtt_flows;
	struct rtt_row *rtt_rows;
	struct rtt_lost *rtt_lost;
};

#define ANSWER_ROW     0x100 /* its key is in struct cpu */
#define ANSWER_SUSPECT 0x200 /* beside a stop */

#define NOTE_MADE  1 /* it created a row */
#define NOTE_DEFER 2 /* a part cannot judge it */
#define NOTE_BOOKS 4

static __thread struct native *here __attribute__((tls_model("initial-exec")));

#define CONFIG(type, name) struct native
#define cfg_replay	   1
#define cfg_preempt	   0
#define cfg_skb		   here->skb
#define cfg_plain	   here->plain
#define cfg_tpid	   here->tpid
#define cfg_mask4	   here->mask4
#define cfg_mask6	   here->mask6
#define cfg_mask_others	   here->mask_others
#define cfg_seed	   here->seed
#define PORT_TABLE(name)   struct native
#define UDP_PORTS	   (*here->ports)

#ifndef likely /* machine.h defines them too late for what is below */
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#define ARRAY(name, type_of_value)		    struct native
#define LOCKED(name, size, type_of_value)	    struct native
#define PER_CPU(name, type_of_value)		    struct native
#define LRU(name, size, type_of_key, type_of_value) struct native

#define POINTER_TO(map)		 typeof(here->map)
#define ELEMENT(map, index)	 (&here->map[index])
#define LRU_FIND(map, key)	 find_in_host(key)
#define LRU_PUT(map, key, value) here->put(here->host, key, value, here->frame)
#define LRU_DELETE(map, key)	 here->forget(here->host, key, here->frame)

/* Work that depends on the order of packets is done by the whole when it reaches this frame. */
#define LEFT_TO_WHOLE(what, noted) \
	(here->part ? (here->left(here->host, what, noted, here->frame), 1) : 0)

#define ASKED()		  unlikely(here->asked)
#define ANSWER(answer_is) (here->answer = (answer_is))

/* The first header of a level at which a parser that knows no tunnels can begin. */
#define NOTE_PAYLOAD(w, off_, end_, proto)                                                  \
	do {                                                                                \
		struct way_level *level = here->way ? &here->way->level[(w)->depth] : NULL; \
                                                                                            \
		if (unlikely(level) && !level->payload) {                                   \
			level->payload = proto;                                             \
			level->off = off_;                                                  \
			level->end = end_;                                                  \
		}                                                                           \
	} while (0)
#define NOTE_IP(w, off_)                                          \
	do {                                                      \
		if (unlikely(here->way))                          \
			here->way->level[(w)->depth].ip = (off_); \
	} while (0)
#define NOTE_TUNNEL(w, kind, id, has_id)                                 \
	do {                                                             \
		if (unlikely(here->way)) {                               \
			here->way->level[(w)->depth + 1].tunnel =        \
				TUNNEL(id, kind, (has_id) ? ROW_ID : 0); \
			here->way->ip_proto = NO_TRANSPORT;              \
		}                                                        \
	} while (0)
#define NOTE_TRANSPORT(w, off, end_, proto)                            \
	do {                                                           \
		if (unlikely(here->way)) {                             \
			here->way->transport = (off);                  \
			here->way->end = (end_);                       \
			here->way->ip_proto = (proto);                 \
			here->way->later = !!((w)->flags & WALK_LAST); \
		}                                                      \
	} while (0)

/*
 * Packets that are parsed but not counted yet: their rows' slots are prefetched while the next packets
 * are parsed. They are counted in order, and before any packet whose parsing depends on that.
 */
#define MOST_PUT_OFF 16

struct put_off {
	__u64 key[10]; /* three words for a row of the IPv4 table, ten for others */
	__u64 bytes;
	__u32 hook;
	__u32 swapped;
	__u32 pairs; /* PAIRS_, or 0 for the table of IPv4 rows */
	__u32 now;
	__u32 frame;
};

#define PAIRS	     1
#define PAIRS_OUTER6 2
#define PAIRS_INNER6 4

static __thread struct {
	__u32 n;
	struct put_off all[MOST_PUT_OFF];
} waiting __attribute__((tls_model("initial-exec")));

static void settle(void);

#define SETTLE()                         \
	do {                             \
		if (unlikely(waiting.n)) \
			settle();        \
	} while (0)

#define PUT_OFF(table, mask, hash, hook_, weight, swapped_, pairs_)                    \
	do {                                                                           \
		__u32 home = HOME_OF(hash) & (mask);                                   \
                                                                                       \
		__builtin_prefetch(&here->table[home], 1);                             \
		__builtin_prefetch((char *)&here->table[home + 1] - 1, 1);             \
		__builtin_prefetch(&here->table##_tags[home / GROUP], 1);              \
		p->bytes = (weight).bytes; /* on the fast path, each is one packet */  \
		p->hook = hook_;                                                       \
		p->swapped = swapped_;                                                 \
		p->pairs = pairs_;                                                     \
		p->now = here->now;                                                    \
		p->frame = here->frame;                                                \
		if (unlikely(++waiting.n == MOST_PUT_OFF))                             \
			settle();                                                      \
		return TC_ACT_UNSPEC;                                                  \
	} while (0)
#define PUT_OFF4(hook, meta, outer, inner, weight, swapped, flags)                   \
	do {                                                                         \
		struct put_off *p = &waiting.all[waiting.n];                         \
                                                                                     \
		if (unlikely(flags)) /* needs more than counting */                  \
			break;                                                       \
		p->key[0] = meta;                                                    \
		p->key[1] = outer;                                                   \
		p->key[2] = inner;                                                   \
		PUT_OFF(rows4, cfg_mask4, hash4(meta, outer, inner), hook, weight,   \
			swapped, 0);                                                 \
	} while (0)
#define PUT_OFF6(hook, meta, outer, outer6, inner, inner6, weight, swapped, flags)   \
	do {                                                                         \
		struct put_off *p = &waiting.all[waiting.n];                         \
                                                                                     \
		if (unlikely(flags))                                                 \
			break;                                                       \
		p->key[0] = (meta).ids;                                              \
		p->key[1] = (meta).rest;                                             \
		__builtin_memcpy(&p->key[2], (outer).word, sizeof((outer).word));    \
		__builtin_memcpy(&p->key[6], (inner).word, sizeof((inner).word));    \
		PUT_OFF(rows6, cfg_mask6,                                            \
			hash6(meta, &(outer), outer6, &(inner), inner6), hook,       \
			weight, swapped,                                             \
			PAIRS | (outer6 ? PAIRS_OUTER6 : 0) |                        \
				(inner6 ? PAIRS_INNER6 : 0));                        \
	} while (0)

#define LEFT_TO_JUDGE() (here->part ? (here->note |= NOTE_DEFER, 1) : 0)
#define bpf_ktime_get_ns() 0 /* frames have their own time */

/* A part does not know earlier first fragments: the whole, which knows all, judges this frame. */
static inline void *find_in_host(const void *key)
{
	void *row = here->find(here->host, key, here->frame);

	if (!row && here->part)
		here->note |= NOTE_DEFER;
	return row;
}

/* States are called, at most as many in a row as the kernel allows tail calls. */
#define SEC(name)
#define __uint(name, value)  int *name
#define __array(name, value) typeof(value) *name[]
#define MAX_JUMPS	     33
#define JUMP_TO(skb, state)                                                              \
	do {                                                                             \
		if (unlikely(here->part)) {                                              \
			if ((state) == STATE_OTHER) { /* its own table does not tell */    \
				here->note |= NOTE_DEFER;                                \
				return TC_ACT_UNSPEC;                                    \
			}                                                                \
			if ((state) == STATE_END || (state) == STATE_FRAGMENT ||         \
			    (state) == STATE_ROW4 || (state) == STATE_ROW6)              \
				keep_books();                                            \
		}                                                                        \
		if (states.values[state] && (skb)->jumps++ < MAX_JUMPS)                  \
			return states.values[state](skb);                                \
	} while (0)
#define JUMP(skb, state) JUMP_TO(skb, state)

/* A frame may be in the books before it turns out that it must be deferred. */
static inline void keep_books(void)
{
	if (here->note & NOTE_BOOKS)
		return;
	__builtin_memcpy(here->books, here->cpus, sizeof(here->books));
	here->note |= NOTE_BOOKS;
}

/* No other thread uses these tables. */
#define __sync_fetch_and_or(at, n)         \
	({                                 \
		__u64 was = *(at);         \
					   \
		*(at) = was | (n);         \
		was;                       \
	})
#define __sync_fetch_and_xor(at, n)        \
	({                                 \
		__u64 was = *(at);         \
					   \
		*(at) = was ^ (n);         \
		here->note |= NOTE_MADE; /* the slot got its tag: it is a row */ \
		was;                       \
	})
static inline long bpf_skb_pull_data(struct __sk_buff *skb, __u32 length)
{
	(void)skb, (void)length;
	return -1; /* everything that was captured is there already */
}

#define LOW(word)  ((__u64)(__u32)(word))
#define ADD(at, n) (*(at) += (n))
#define NOW(c, usual) (here->now)

#define PACKET(name, field)                                      \
	static __always_inline void *name(struct __sk_buff *skb) \
	{                                                        \
		return (void *)skb->field;                       \
	}

#endif
