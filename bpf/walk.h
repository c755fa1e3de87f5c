/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The state of one packet's walk: the next header, and what has been read. It lives in this CPU's
 * record, which every state finds with one lookup; nothing of the skb is written, so the next
 * program on the hook finds mark and cb unchanged.
 *
 * A state is a function that returns a verdict: the number of the next state, or a stop. It commits
 * to the walk only what it has checked, and pushes a tunnel last, so that it can be run again from
 * its start if the packet's head was too short.
 */
#ifndef TMON_WALK_H
#define TMON_WALK_H

#include "machine.h"
#include "tmon.h"
#include "wire.h"

/* States below 64 belong to the tunnel kinds. */
enum state {
	STATE_LAYER = 64, /* inside a tunnel, the fast path; otherwise STATE_HEADERS */
	STATE_HEADERS,	  /* link headers, IP, transport and the common tunnels */
	STATE_LINK,	  /* MPLS, PPPoE, PBB, NSH, PPP ... between the link header and IP */
	STATE_EXT,	  /* IPv6 extension headers, AH */
	STATE_TRANSPORT,  /* what STATE_HEADERS does after IP, for packets that got there otherwise
			   */
	STATE_GUESS,	  /* a payload whose type no header gives: is it IP? */
	STATE_FRAGMENT,	  /* a later fragment of an outer packet */
	STATE_PULL,	  /* the head is too short: make more of it linear, run the state again */
	STATE_END,	  /* the walk is over: a row, or a stop for the reason in walk.verdict */
	STATE_ROW4,	  /* find or create the row, IPv4 table */
	STATE_ROW6,	  /* the other table */
	STATE_OTHER,	  /* no room: the tunnel's `other` row */
	STATE_QUOTE,	  /* after counting: an ICMP error, whose quote is read like a packet */
	STATE_CLAIM,	  /* the quote has been read: which tunnel the claim is about */
	STATE_NUMBER,	  /* after counting: the packet has a sequence number */
	STATE_TCP,	  /* after counting: the packet opens or resets a connection */
	STATE_PROBE,	  /* after counting: the row is examined more closely */
	STATE_CHOOSE,	  /* before that: determine which probers want it, if any */
	STATE_LENS,	  /* after that: the contents of the packet */
	STATE_MESSAGE,	  /* after counting: a message of a tunnel's endpoint about the tunnel */
	STATE_RTT,	  /* after STATE_LENS: the time until the packet is answered */
	STATES,
	VERDICT_STOP = 128, /* + enum stop */
	VERDICT_END = 144,  /* no more headers: a row, or plain */
};

_Static_assert((int)STATE_RTT == RTT_STATE, "user space takes it out of the table");
_Static_assert((int)KINDS <= (int)STATE_LAYER, "a kind's number is its state's");
_Static_assert(STATES <= VERDICT_STOP && VERDICT_STOP + (int)STOPS <= VERDICT_END,
	       "verdicts differ");

/*
 * The kernel allows 33 tail calls per packet. The last of them are reserved for the end of the
 * walk: STATE_END, and up to three tries in each of two tables. A packet with more headers than
 * hops is therefore still counted in its tunnel's row.
 */
#define TAIL_CALLS 33
#define TO_THE_END 7
#define MAX_HOPS   (TAIL_CALLS - TO_THE_END)

#define STOP(reason) (VERDICT_STOP + STOP_##reason)

/* A state's program, and the jump table: every object with states adds them to the same table. */
#define STATE(name) SEC("tc") int name(struct __sk_buff *skb)
#define JUMP_TABLE(name)                               \
	struct {                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY); \
		__uint(max_entries, STATES);           \
		__uint(key_size, sizeof(__u32));       \
		__array(values, int(void *));          \
	} name SEC(".maps")

/* walk.flags */
#define WALK_OUTER6  0x01  /* the outermost pair is IPv6 */
#define WALK_INNER6  0x02  /* the inner pair is */
#define WALK_INNER   0x04  /* there is an inner pair */
#define WALK_CUT     0x08  /* lengths may exceed the end: the frame is truncated or a fragment */
#define WALK_NARROW  0x10  /* end was set by a length field */
#define WALK_FIRST   0x20  /* the outer packet is a first fragment */
#define WALK_SRH     0x40  /* a segment routing header precedes what follows */
#define WALK_AH	     0x80  /* an authentication header does */
#define WALK_LAST    0x100 /* the inner packet is a later fragment: nothing after IP is read */
#define WALK_SUSPECT 0x200 /* a tunnel's port without its header */
#define WALK_HERE6   0x400 /* the IP header in hand is IPv6 */
#define WALK_JUMBO                                                                    \
	0x800 /* a jumbo payload option, as in BIG TCP: segments are still one packet \
	       */
#define WALK_LATER   0x1000  /* the outer packet is a later fragment of a packet that is in a row */
#define WALK_STATES  0x2000  /* the fast path is skipped */
#define WALK_NUMBER  0x4000  /* number is the sequence number of the outermost tunnel */
#define WALK_QUOTE   0x8000  /* the packet is an ICMP error */
#define WALK_QUOTED  0x10000 /* the walk reads the quote of such an error: it counts nowhere */
#define WALK_TCP     0x20000 /* the innermost header is TCP's, with a SYN or a RST */
#define WALK_MESSAGE 0x40000 /* the packet is a GTP-U message, after UDP at off */
/* there is more to do once it has been counted */
#define WALK_BESIDE (WALK_NUMBER | WALK_QUOTE | WALK_TCP | WALK_MESSAGE)
#define WALK_LEVEL  (WALK_SRH | WALK_AH | WALK_HERE6) /* of the current IP header only */

/* walk.declared of a first fragment: the length of the whole packet is unknown. */
#define NOT_DECLARED (~0U)

#define SAID_V6 0x10000

struct walk {
	__u32 off;   /* next byte to read, from the start of the frame */
	__u32 end;   /* end (exclusive) of what the headers so far declare */
	__u32 frame; /* length of the frame on the wire */
	__u32 proto; /* EtherType of what is at off, or PAYLOAD_ */
	__u32 flags;
	__u8 hook;
	__u8 depth;    /* tunnels so far */
	__u8 ip_proto; /* IP protocol of what is at off, for GSO and STATE_TRANSPORT */
	__u8 port;     /* the port table's entry, if it led to a state of its own */
	__u8 links;
	__u8 pulls;
	__u8 resume;	 /* state to continue with after STATE_PULL */
	__u8 hops;	 /* tail calls so far */
	__u32 declared;	 /* the end according to the last length field, even if beyond the
			    packet */
	__u64 tunnel[2]; /* outermost, innermost: see TUNNEL() */
	__u32 fragment_id;
	__u32 fragment_proto;
	__u32 inside;	/* what the row contains instead of an inner pair */
	__u32 verdict;	/* for STATE_END */
	__u64 nothing;	/* always 0, unknown to the verifier: see unknown() */
	__u64 outer[4]; /* addresses in network byte order; an IPv4 pair is in the first word */
	__u64 inner[4];
	__u64 number;	   /* of the packet, if WALK_NUMBER is set */
	__u32 number_id;   /* the number of its stream, if the tunnel has no id */
	__u32 number_bits; /* its width, after which it wraps to zero */
	__u64 who[2];	   /* with WALK_QUOTED: the sender of the claim */
	__u32 said;	   /* type and code; SAID_V6: by ICMPv6 */
	__u32 mtu;
};

/*
 * A number about which the verifier forgets what it knew. Where paths through the program join, it
 * continues once for all of them if they differ in nothing that it knows and needs.
 */
#define unknown(w, number) ((number) + (w)->nothing)

/* A tunnel of the walk: its id, its kind, and ROW_ID or ROW_ID1 if it has an id. */
#define TUNNEL(id, kind, flag) ((id) | (__u64)(kind) << 32 | (__u64)(flag) << 40)

CONFIG(__u8, cfg_begin);  /* enum begin */
CONFIG(__u8, cfg_replay); /* frames are those of a capture */
CONFIG(__u8, cfg_skb);	  /* count skbs, not the packets on the wire */
CONFIG(__u8, cfg_plain);  /* create rows for packets without a tunnel */
/* additional EtherTypes of VLAN tags; 0: none */
CONFIG(__u16, cfg_tpid[MAX_TPIDS]);

CONFIG(__u8, cfg_preempt); /* the books need atomic adds: PREEMPT_RT */

/* A configuration byte if it is not known to be 0 from the start: saves a load. */
#define UNLESS(usual, cfg) (!(usual) && (cfg))

PORT_TABLE(ports);

/*
 * The result of reading one tunnel header, from bytes that are available. A reader knows neither
 * where they came from nor what follows: the fast path and the states check lengths, and decide
 * what missing bytes mean.
 */
struct seen {
	__u32 id;
	__u32 size;   /* of the header */
	__u32 proto;  /* of its payload: EtherType or PAYLOAD_ */
	__u32 length; /* of what follows the header, if it has a length field */
};

#ifndef TMON_WINDOW
/* The bytes [off, off + size) of the frame, or NULL if they are beyond end or not linear. */
static __always_inline void *bytes_at(struct __sk_buff *skb, __u32 off, __u32 size, __u32 end)
{
	void *data = packet(skb);

	if (!__builtin_constant_p(off))
		barrier_var(
			off); /* the verifier must see the checks on the register that is used */
	if (off > MAX_HEADERS || off + size > end)
		return NULL;
	if (data + off + size > packet_end(skb))
		return NULL;
	return data + off;
}
#endif

/*
 * Why [off, off + size) is not available: the declared lengths exclude it (a contradiction, unless
 * the frame is known to be truncated), it is not linear yet, or it never existed.
 */
static __always_inline __u32 lacking(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 size,
				     __u32 end, __u32 state)
{
	if (off + size > end)
		return (w->flags & WALK_NARROW) && !(w->flags & WALK_CUT) ? STOP(MALFORMED) :
									    STOP(TRUNCATED);
	if (off > MAX_HEADERS)
		return STOP(TOO_DEEP);
	if (cfg_replay || off + size > skb->len || w->pulls >= MAX_PULLS)
		return STOP(TRUNCATED);
	w->resume = state;
	return STATE_PULL;
}

/*
 * Narrows *end to the length that a header at off declares for itself and its payload. If it
 * declares more than there is, the rest is missing: whatever runs into that end is truncated.
 */
static __always_inline void narrow(struct walk *w, __u32 off, __u32 length, __u32 *end)
{
	w->declared = off + length;
	if (likely(w->declared <= *end))
		*end = w->declared;
	else
		w->flags |= WALK_CUT;
	w->flags |= WALK_NARROW;
}

/* Continues with what follows at off: the payload of an EtherType. */
static __always_inline __u32 next_layer(struct walk *w, __u32 off, __u32 end, __u32 proto)
{
	w->off = off;
	w->end = end;
	w->proto = proto;
	return STATE_LAYER;
}

/*
 * The outermost tunnel's header numbers the packet. Noted before the tunnel is pushed, and only
 * used if there is a tunnel in the end.
 */
static __always_inline void note_number(struct walk *w, __u64 number, __u32 bits, __u32 id)
{
	if (w->depth)
		return;
	w->number = number;
	w->number_bits = bits;
	w->number_id = id;
	w->flags |= WALK_NUMBER;
}

/* For bytes that are useful but not linear: STATE_PULL, or 0 if they are not available. */
static __always_inline __u32 pull_for(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 size,
				      __u32 end, __u32 state)
{
	__u32 v = w->depth ? 0 : lacking(skb, w, off, size, end, state);

	return v == STATE_PULL ? v : 0;
}

/* The same for a number of four bytes at off. */
static __always_inline __u32 note_word(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				       __u32 state)
{
	__be32 *word = bytes_at(skb, off, sizeof(*word), end);

	if (!word)
		return pull_for(skb, w, off, sizeof(*word), end, state);
	note_number(w, bpf_ntohl(*word), 32, 0);
	return 0;
}

/* A tunnel header was recognised; its id is valid if has_id. The last action of a state. */
static __always_inline __u32 push(struct walk *w, __u32 kind, __u32 id, int has_id)
{
	if (w->depth == 0) {
		w->tunnel[0] = TUNNEL(id, kind, has_id ? ROW_ID : 0);
	} else if (w->depth < MAX_DEPTH) {
		w->tunnel[1] = TUNNEL(id, kind, has_id ? ROW_ID1 : 0);
	} else {
		w->flags &= ~WALK_INNER;
		return STOP(TOO_DEEP);
	}
	NOTE_TUNNEL(w, kind, id, has_id);
	w->depth++;
	w->flags &= ~(WALK_INNER | WALK_INNER6 | WALK_LEVEL);
	return 0;
}

/* A tunnel whose payload starts at off, with an EtherType. */
static __always_inline __u32 tunnel(struct walk *w, __u32 kind, __u32 id, int has_id, __u32 off,
				    __u32 end, __u32 proto)
{
	__u32 v = push(w, kind, id, has_id);

	return v ? v : next_layer(w, off, end, proto);
}

/* The row ends here: its inside is not an address pair. */
static __always_inline __u32 inside_is(struct walk *w, __u32 what)
{
	w->flags &= ~WALK_INNER;
	w->inside = what;
	return VERDICT_END;
}

/* A tunnel whose inside cannot be read, or that carries nothing. */
static __always_inline __u32 tunnel_of(struct walk *w, __u32 kind, __u32 id, int has_id,
				       __u32 inside)
{
	__u32 v = push(w, kind, id, has_id);

	return v ? v : inside_is(w, inside);
}

/* The packet has a tunnel's port but not its header: it counts as without the tunnel. */
static __always_inline __u32 suspect(struct walk *w)
{
	w->flags |= WALK_SUSPECT;
	return VERDICT_END;
}

/*
 * A tunnel's header in UDP is not available: if the datagram is too short for it, this is other
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
