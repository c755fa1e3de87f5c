/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The contract between the BPF programs and their readers: numbers, limits and the layout of
 * everything that both access. Shared structures have no hidden padding; the Rust side takes its
 * types from the generated bindings and asserts the same sizes.
 */
#ifndef TMON_H
#define TMON_H

#include <linux/types.h>

#include "kinds.h"

/* Changes whenever a pinned table could be misread by another version. */
#define TMON_LAYOUT 2

/* Limits of the parser; exceeding one is always counted (see enum stop and enum reason). */
#define MAX_DEPTH    4	    /* tunnels in a packet */
#define MAX_TAGS     8	    /* tags at one Ethernet header */
#define MAX_LINKS    4	    /* MPLS stacks, PPPoE, PBB, NSH below the first IP header */
#define MAX_EXTS     8	    /* IPv6 extension headers at one level */
#define MAX_TPIDS    4	    /* additional EtherTypes of VLAN tags, by configuration */
#define MAX_LABELS   8	    /* labels in one MPLS stack */
#define MAX_GTP_EXTS 8	    /* GTP-U extension headers */
#define MAX_ROUTES   8	    /* source route entries of one GRE header */
#define MAX_PULLS    4	    /* times a packet's head may be made linear */
#define MAX_HEADERS  0x3fff /* bytes of headers */

/* The tunnel kinds of kinds.h; these are also the numbers of their states. */
#define KIND(NAME, Variant, number, ...) KIND_##NAME = number,
enum kind { KINDS_OF(KIND) KINDS };
#undef KIND

/* A row that is out of place has different numbers in the two enumerations. */
#define KIND(NAME, ...) PLACE_##NAME,
enum { KINDS_OF(KIND) };
#undef KIND
#define KIND(NAME, Variant, number, ...) \
	_Static_assert(PLACE_##NAME == number, "kinds are numbered by their place: append");
KINDS_OF(KIND)
#undef KIND

/* The port table's entry for a UDP port: a kind, and whether the port also identifies a sender. */
#define PORT_KIND   0x3f
#define PORT_FOU    0x40 /* with KIND_GUE: no GUE header, but IP or GRE directly */
#define PORT_EITHER 0x80 /* answers come from this port: match the source port too */

/* What a header does not contain about itself: L2TP version 3. */
#define PARAMETER_COOKIE   0x0f /* bytes of the cookie */
#define PARAMETER_SUBLAYER 0x10 /* there is a sublayer header of four bytes */
#define PARAMETER_KNOWN	   0x80 /* otherwise the inside cannot be read */

/* Why a packet is in no row. */
enum stop {
	STOP_PLAIN,
	STOP_NON_IP,
	STOP_FRAGMENT,
	STOP_TRUNCATED,
	STOP_MALFORMED,
	STOP_TOO_DEEP,
	STOPS,
};

/*
 * What a tunnel carries if not an address pair: an EtherType, or a value of one of these number
 * spaces above it.
 */
#define INNER_REASON 0x10000 /* enum reason */
#define INNER_PPP    0x20000 /* PPP protocol */
#define INNER_IP     0x30000 /* IP protocol */

enum reason {
	REASON_NONE,	  /* the tunnel carries nothing */
	REASON_TRUNCATED, /* the packet ends before its headers do */
	REASON_MALFORMED, /* a header is inconsistent */
	REASON_TOO_DEEP,  /* beyond one of the limits above */
	REASON_ENCRYPTED,
	REASON_LLC,	 /* an 802.3 frame */
	REASON_FRAGMENT, /* later fragment of an outer packet whose first one ended in this row */
	REASON_CONTROL,	 /* the tunnel protocol's own messages */
	REASON_UNKNOWN,	 /* cannot be determined from the packet, for example a pseudowire */
	REASON_OTHER,	 /* packets for whose row the full table had no room */
	REASON_OVERFLOW, /* packets for which there was no room even there (user space) */
	REASON_AGED,	 /* counts of rows that were idle for too long (user space) */
};

/* Books: each packet is in exactly one of counted and the stops; the other cells add detail. */
enum cell {
	CELL_COUNTED,
	CELL_STOP, /* + enum stop */
	CELL_SUSPECT = CELL_STOP + STOPS,
	CELL_OVERFLOW, /* + direction, + 2 for fragments: no room for a row (also in counted) */
	CELL_FRAGMENT = CELL_OVERFLOW + 4, /* fragments of outer packets (also in counted) */
	CELLS = 16,			   /* a power of two, so that a mask bounds an index */
};

/* How packets begin. An enumeration, because comparisons with a constant are optimised away. */
enum begin {
	BEGIN_ETHERNET,
	BEGIN_IP,     /* the interface has no Ethernet header */
	BEGIN_REPLAY, /* given by cb, with the frame's lengths: frames of a capture */
	BEGIN_STATES, /* the same without the fast path, from state to state */
};

enum hook { HOOK_RX, HOOK_TX, HOOKS };

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

struct cell_count {
	__u64 packets;
	__u64 bytes;
};

/*
 * Keys. Addresses are in network byte order, in the row's order (DESIGN section 3). One bit of the
 * key is `swapped XOR hook`: the counters are by hook, so an end host needs one slot for a
 * conversation and a mirror port or a router two, and the direction is always `bit XOR hook`.
 */
#define ROW_DIR	     0x01 /* the bit above */
#define ROW_ID	     0x02 /* id[0] is present */
#define ROW_ID1	     0x04 /* id[1] is present */
#define ROW_NO_PAIR  0x08 /* the inside is not an address pair: its first word says what it is */
#define ROW_OUTER6   0x10 /* the outer pair is IPv6 */
#define ROW_INNER6   0x20 /* the inner pair is IPv6 */
#define ROW_OTHER    0x40 /* the tunnel's `other` row */
#define ROW_NO_OUTER 0x80 /* of all tunnels: no outer pair either */

/* Which part of its row a slot holds, if not all of it: readers add the parts up. */
#define SHARD_FRAGMENT 0x8000 /* packets that arrived in fragments of outer packets */
#define SHARD_CPU      0x7fff /* the packets of this CPU, from 1, if many CPUs count in the row */

struct key4 { /* one tunnel, IPv4 outside, IPv4 or no pair inside */
	__u32 id;
	__u8 kind;
	__u8 flags;
	__u16 shard; /* SHARD_ */
	__be32 outer[2];
	__be32 inner[2];
};

struct key6 {	     /* everything else; an IPv4 address is in the first word of its 16 bytes */
	__u32 id[2]; /* outermost and innermost tunnel */
	__u8 kind[2];
	__u8 flags;
	__u8 depth;
	__u16 shard;
	__u16 zero;
	__be32 outer[2][4];
	__be32 inner[2][4];
};

/*
 * Slots, in groups of 8. A group's tags, one byte for each slot, give the state of the slots: free,
 * a row whose key is being written, a row that is ageing (user space moves its counts to an aged
 * row of `others`), or a row, by seven bits of its key's hash. Every tag but the free one has its
 * lowest bit set: whoever sets it first has claimed the slot. Two CPUs may create a row for the
 * same key at the same time: readers add equal keys up.
 */
#define GROUP  8 /* slots whose tags share a word */
#define GROUPS 6 /* groups that are searched for a key */

/*
 * A slot's owner word: the number, from 1, of the CPU that created the slot. Only that CPU adds to
 * the slot's counters, so it needs no locked instruction; all others add to the second counters.
 * OWNER_CROWD: so many CPUs do so that each, including the owner, counts in a slot of its own.
 *
 * A slot is probed if its owner word has OWNER_PROBE, which no CPU's number has: packets of its row
 * are examined more closely (probe.h). The word then also has OWNER_CROWD, so that every CPU leaves
 * the shortest path by a branch that existed anyway; the number of the probe, or that it is not
 * known yet; and the CPU that owned the slot and will own it again.
 */
#define OWNER_CPU    0x0000ffff
#define OWNER_PROBE  0x00008000
#define OWNER_ASK    0x00007fff /* number of the probe; all set: compare the expressions */
#define OWNER_CROWD  0x00010000
#define OWNER_BEFORE 17 /* from this bit on: the previous owner */
#define TURNS	     32 /* packets of other CPUs in a jiffy that make it a crowd */
#define TURNS_BITS   6

#define TAG_FREE   0
#define TAG_BUSY   1
#define TAG_AGEING 3
#define TAG_ROW	   5 /* the smallest tag of a row; the others are odd as well */

struct slot4 {
	struct key4 key;
	__u32 seen;  /* jiffies */
	__u32 owner; /* OWNER_ */
	__u64 packets[HOOKS];
	__u64 bytes[HOOKS];
};

struct slot6 {
	struct key6 key;
	__u32 seen;
	__u32 owner;
	__u64 zero;
	__u64 packets[HOOKS];
	__u64 bytes[HOOKS];
};

/*
 * A slot's second counters, at the same index of a map beside the slots', for CPUs that do not own
 * the slot: only updated with locked instructions. Readers add both.
 */
struct more {
	__u64 packets[HOOKS];
	__u64 bytes[HOOKS];
	__u32 turns; /* the number of such packets in this jiffy: jiffy << TURNS_BITS | packets */
	__u32 zero;
};

/*
 * What is kept beside the rows, each kind in a table of its own (beside.h).
 *
 * Numbered packets of a tunnel's sender: one stream of numbers, identified by the outer pair in
 * network byte order.
 */
enum beside {
	BESIDE_NUMBERED,   /* packets whose number was processed */
	BESIDE_UNNUMBERED, /* packets whose number was not: no room */
	BESIDE_CLAIMED,	   /* ICMP errors and messages about a tunnel's packets */
	BESIDE_UNCLAIMED,  /* those for which there was no room */
	BESIDE_OPENINGS,   /* packets with SYN or RST */
	BESIDE_UNFOLLOWED, /* those for which there was no room */
	BESIDE_DISPLACED,  /* SYNs evicted for others before they could have been answered */
	BESIDE_UNPROBED,   /* packets of probed rows that were not examined: too many tail calls */
	BESIDES,
};

#define NUMBERS 4096 /* streams; a power of two */

struct number_key {
	__u64 pair[4]; /* an IPv4 pair is in the first word */
	__u32 id;      /* the tunnel id; ESP's SPI, WireGuard's receiver index */
	__u8 kind;
	__u8 hook;
	__u8 v6;
	__u8 zero;
};

/* RFC 4303, appendix A2: the highest number, and which of the 64 up to it have been seen. */
struct numbers {
	__u64 highest;
	__u64 window; /* lowest bit: the highest number; numbers before the start count as seen */
	__u64 resume; /* the successor of a number that was out of place */
	__u64 packets;
	__u64 lost;	    /* left the window without being seen */
	__u64 late;	    /* seen after a higher one */
	__u64 duplicate;    /* seen before */
	__u32 restarted;    /* how often the sender restarted */
	__u32 since;	    /* how many numbers of the window do not precede the start */
	__u32 out_of_place; /* packets before resume, if that number arrives */
	__u32 seen;	    /* jiffies */
};

/*
 * Claims about a tunnel: ICMP errors that quote its packets, and GTP-U's own messages. Nothing
 * authenticates them.
 */
#define CLAIMS	   1024 /* a power of two */
#define CLAIM_V6   0x01
#define CLAIM_ID   0x02 /* the quote includes the tunnel's id */
#define CLAIM_TX   0x04 /* seen on egress */
#define CLAIM_GTPU 0x08 /* type is that of a GTP-U message */

/* GTP-U's own messages. */
#define GTPU_ECHO_REQUEST  1
#define GTPU_ECHO_RESPONSE 2
#define GTPU_ERROR	   26
#define GTPU_EXTENSIONS	   31  /* which extension headers an endpoint supports */
#define GTPU_END	   254 /* the last packet of a tunnel that moves */

struct claim_key {
	__u64 pair[4]; /* of the packet that it is about, as in number_key */
	__u64 who[2];  /* the sender of the claim; IPv4 in the first half of the first word */
	__u32 id;
	__u8 kind;
	__u8 flags; /* CLAIM_ */
	__u8 type;  /* of the error or message */
	__u8 code;
};

struct claims {
	__u64 packets;
	__u32 mtu;	   /* the last one reported; 0: none */
	__u32 seen;	   /* jiffies */
	__u64 sent;	   /* when the last echo request passed, ns */
	__u64 nanoseconds; /* the sum of the times from requests to their answers */
	__u32 timed;	   /* the number of these requests */
	__u16 sequence;	   /* of the last one */
	__u8 waits;	   /* ECHO_ */
	__u8 zero;
};

#define ECHO_ONCE  1 /* the last request is not answered yet */
#define ECHO_AGAIN 2 /* and was retransmitted: which of the two is answered is unknown */

/*
 * TCP handshakes and resets of a row, as seen by one hook. The key is the row's, without ROW_DIR,
 * and with the hook as the shard.
 */
#define HANDSHAKES 16384 /* rows; a power of two */
#define WAITING	   32768 /* SYNs that may still be answered; a power of two */
#define EPOCH_BITS 30	 /* an epoch is about a second: this many bits of ns */

struct handshakes {
	__u64 syns;	   /* packets with SYN but not ACK */
	__u64 opened;	   /* first transmissions */
	__u64 retries;	   /* retransmissions */
	__u64 answered;	   /* by a SYN or by a reset */
	__u64 displaced;   /* evicted before they could have been answered */
	__u64 resets[2];   /* packets with RST: forward, reverse */
	__u64 timed;	   /* answered by a SYN and never retransmitted */
	__u64 nanoseconds; /* the sum of the times from SYN to answer */
	__u32 young[2]; /* opened in `epoch` or the one before it, by parity, and still waiting */
	__u32 epoch;	/* of the last one */
	__u32 seen;	/* jiffies */
};

/*
 * The probers, and which rows they examine more closely. An expression of tests selects rows: the
 * tests up to one with TEST_LAST form a term, of which any test must hold, or none with TEST_NOT;
 * all terms must hold.
 */
#define PROBERS	    16
#define PROBES	    2048 /* rows whose probers are known; a power of two */
#define PROBE_TESTS 32
#define PROBE_LEASE 3000000000 /* ns without a sign of life: the prober is gone */
#define SNAPLEN	    262144

enum test {
	TEST_OUTER, /* an address of the outer pair is in a network */
	TEST_INNER,
	TEST_ID, /* an id is in a range, of a tunnel of a kind */
	TEST_KIND,
	TEST_PROTO, /* the inside is in a range: TEST_IPV4, TEST_IPV6, or a value of a row */
};

#define TEST_V6	  0x01
#define TEST_NOT  0x02
#define TEST_LAST 0x04
#define TEST_IPV4 0xfffffff4
#define TEST_IPV6 0xfffffff6

struct probe_test {
	__u8 what; /* enum test */
	__u8 flags;
	__u16 kind; /* TEST_ID: one more than the number of the kind; 0: any */
	__u32 low;
	__u32 high;
	__be32 net[4];
	__be32 mask[4];
};

#define PROBE_CATCH 0x01 /* packets of rows go to the ring buffer */
#define PROBE_STOPS 0x02 /* so do packets that could not be parsed */
#define PROBE_LENS  0x04 /* packets of rows are counted by their contents */
#define PROBE_RTT   0x08 /* the time until they are answered is measured */
#define RTT_STATE   84	 /* by the state with this number, while somebody wants it */

struct prober {
	__u64 lease;   /* time of the last sign of life, ns; 0: there is no prober */
	__u64 matched; /* packets, as the kernel sees them: each is in one of the next three */
	__u64 written;
	__u64 full;	  /* there was no room in the ring buffer */
	__u64 over_limit; /* the limit for this second was exceeded */
	__u64 looked_at;  /* packets on the wire that the lens saw */
	__u64 lens_lost;  /* those of them that found no room, or could not be read */
	__u32 limit;	  /* packets per second of 2^30 ns; 0: all */
	__u32 second;
	__u32 taken; /* in that second */
	__u32 snaplen;
	__u32 interface; /* the prober's number for this interface */
	__u32 what;	 /* PROBE_ */
	__u32 tests;
	__u32 zero;
	struct probe_test test[PROBE_TESTS];
};

/* May change at any time. */
struct probing {
	__u32 active;	  /* whose expressions are compared, one bit each */
	__u32 generation; /* of these: a change makes earlier comparisons invalid */
	__u32 stops;	  /* probers of packets that could not be parsed, one bit each */
	__u32 zero;
	struct prober prober[PROBERS];
};

/* The state of a probed row. */
struct probe {
	__u32 wanted;	  /* the probers that want it, one bit each */
	__u32 generation; /* when that was determined */
	__u32 seen;	  /* jiffies */
	__u32 zero;
};

/* The header of a packet in the ring buffer. */
#define CAUGHT_STOP    0x80000000 /* with enum stop: the packet is in no row */
#define CAUGHT_SUSPECT 0x00000100 /* and it has a tunnel's port without the tunnel's header */
#define CAUGHT_ANY_ROW 0x7fffffff /* its row is unknown */

struct caught {
	__u64 time;   /* ns, CLOCK_MONOTONIC */
	__u64 lost;   /* packets that matched but have not been written so far */
	__u32 length; /* of the packet */
	__u32 size;   /* of what follows */
	__u32 row;    /* its place among the probes, or CAUGHT_ */
	__u32 interface;
	__u32 cpu;
	__u32 hook;
};

/* Packets of a probed row with the same contents. */
#define LENS	     65536
#define LENS_ROW     0xffff /* the row's place among the probes; the interface is above it */
#define LENS_PORTS   0x01   /* there are ports */
#define LENS_REVERSE 0x02   /* from the second to the first end of the row */
#define LENS_OUTER   0x04   /* the outer IP header was examined */
#define LENS_INNER   0x08   /* the innermost one was */
#define LENS_L4	     0x10   /* its upper layer was */
#define LENS_QFI     0x20   /* the mark is GTP-U's QoS flow */
#define LENS_GROUP   0x40   /* VXLAN's group policy id */
#define LENS_LOGICAL 0x80   /* OVN's logical ports in Geneve: in << 16 | out */
#define LENS_SIZES   8

struct lens_key {
	__u32 row;
	__u16 port[2]; /* lower, higher */
	__u8 proto;
	__u8 flags;
	__u8 tos[2]; /* outer, inner */
	__u8 ttl[2];
	__u8 size; /* class of the packet's length: at most 64 << size, except the last class */
	__u8 zero;
	__u32 mark; /* what the outermost tunnel's header says beside the id, see LENS_QFI */
};

struct lens {
	__u64 packets;
	__u64 bytes;
	__u32 tcp; /* the union of the flags */
	__u32 zero;
};

/*
 * The meaning of ports: enum kind with PORT_ flags, by UDP port in network byte order; and what a
 * header does not contain about itself (PARAMETER_), by the same and then by IP protocol. May
 * change at any time.
 */
struct ports {
	__u8 kind[65536];
	__u8 parameter[65536 + 256];
};

#pragma clang diagnostic pop

_Static_assert(KINDS <= PORT_KIND + 1, "the port table has bits for every kind");
_Static_assert(CELL_FRAGMENT < CELLS, "every cell has its place");
_Static_assert(ROW_ID1 == 2 * ROW_ID, "one bit further");
_Static_assert(sizeof(struct key4) == 24, "three words");
_Static_assert(sizeof(struct slot4) == 64, "one cache line");
_Static_assert(sizeof(struct key6) == 80, "ten words");
_Static_assert(sizeof(struct slot6) == 128, "two cache lines");
_Static_assert(sizeof(struct more) == 40, "five words");
_Static_assert(sizeof(struct number_key) == 40, "five words");
_Static_assert(sizeof(struct numbers) == 72, "nine words");
_Static_assert(sizeof(struct claim_key) == 56, "seven words");
_Static_assert(sizeof(struct claims) == 40, "five words");
_Static_assert(sizeof(struct handshakes) == 88, "eleven words");
_Static_assert(sizeof(struct probe_test) == 44, "eleven half-words");
_Static_assert(sizeof(struct prober) % 8 == 0, "words");
_Static_assert(sizeof(struct caught) == 40, "five words");
_Static_assert(sizeof(struct lens_key) == 20, "five half-words");
_Static_assert(SHARD_CPU < OWNER_PROBE, "a probe is no CPU");
_Static_assert(PROBES < OWNER_ASK, "no probe has the number that stands for none");
_Static_assert(TURNS < 1 << TURNS_BITS, "the counter is wide enough");

#endif
