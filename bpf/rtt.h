/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Round-trip times inside tunnels: the time from here until a TCP segment or an ICMP echo request
 * is answered, and what TCP retransmits. Only packets of probed rows get here.
 *
 * The two directions of a connection may be in different rows, if each has its own tunnel id or if
 * mirrored traffic has one outer direction for both. Therefore a connection is identified by its
 * addresses and ports, without an id, and a sample is counted in the row of the answered segment.
 *
 * A sample is taken if an acknowledgement ends exactly at the end of a segment that was sent once,
 * and does not echo an older timestamp. Pure acknowledgements are never timed, because nothing
 * answers them.
 */
#ifndef TMON_RTT_H
#define TMON_RTT_H

#include "beside.h"

#define RTT_FLOWS    4096 /* connections; a power of two */
#define RTT_ROWS     1024 /* rows; a power of two */
#define RTT_SEGMENTS 8	  /* in each direction that may be answered; a power of two */
#define RTT_TRIES    8
#define RTT_OPTIONS  12 /* of a TCP header that are looked at */

/*
 * Buckets of times: each power of two of ns from 2^RTT_LEAST on has 2^RTT_PARTS_BITS of them.
 * Shorter times are in the first bucket, longer ones in the last.
 */
#define RTT_PARTS_BITS 3
#define RTT_LEAST      10
#define RTT_BUCKETS    224 /* up to 2^38 ns: 4.5 minutes */

#define RTT_OOO \
	3000000ULL /* ns: so soon behind another, a segment was overtaken and not sent again */
#define RTT_FAST 20000000ULL /* so soon behind duplicate ACKs it was sent again */

/*
 * Bytes are stuck from this retransmission on, counted from when a smaller packet behind them was
 * known to have arrived: by then they have been sent at least three times, in vain.
 */
#define RTT_STUCK  3
#define RTT_MINUTE 60000000000ULL /* ns */

struct rtt_key {
	__u64 outer[4]; /* the lower address first, whoever sends */
	__u64 inner[4];
	__u32 ports; /* of the inner addresses; of an echo its identifier */
	__u32 proto;
};

struct rtt_segment {
	__u64 time; /* ns */
	__u32 begin;
	__u32 end; /* the sequence number behind it */
	__u32 stamp;
	__u32 state; /* RTT_WAITS, and from RTT_SIZE on the payload of each packet on the wire */
};

#define RTT_WAITS   1
#define RTT_STAMPED 2 /* it has a time stamp */
#define RTT_SIZE    8

struct rtt_way {
	__u64 advanced; /* when its sequence numbers did */
	__u64 acked;	/* when it acknowledged something */
	__u32 next;	/* the highest sequence number so far, and one */
	__u32 ack;	/* the last acknowledgement */
	__u32 row; /* its rows: their place, twice, and one if it is the row's reverse direction */
	__u32 window;
	__u32 duplicates; /* of the last acknowledgement */
	__u32 state;
	__u32 place; /* of the next segment */
	__u32 again; /* retransmissions of the same bytes, and which ones */
	__u32 again_begin;
	__u32 again_size;
	__u32 hole; /* where bytes are missing, though later ones have arrived ... */
	__u32 over; /* ... in packets with up to this payload; 0: none have */
	struct rtt_segment segment[RTT_SEGMENTS];
};

#define RTT_SENT       1 /* next is known */
#define RTT_ACKED      2 /* ack and window are */
#define RTT_KEPT_ALIVE 4 /* the last segment was a probe for life */

struct rtt_flow {
	struct bpf_spin_lock lock;
	__u32 tag; /* as number_slot's */
	struct rtt_key key;
	__u64 seen;
	__u64 opened;	/* when it was asked for; 0: not seen */
	__u64 shaken;	/* how long the handshake took; 0: not known */
	__u32 sequence; /* of the SYN */
	__u32 opener;	/* which way it went */
	struct rtt_way way[2];
};

/* Of one direction of a row. */
struct rtts {
	__u64 samples;
	__u64 nanoseconds; /* of all of them */
	__u64 least;
	__u64 most;
	__u64 retransmitted; /* segments */
	__u64 out_of_order;
	__u64 duplicate_acks;
	__u64 zero_windows;
	__u64 stuck;	  /* retransmissions of what is stuck, see RTT_STUCK */
	__u64 stuck_at;	  /* the last one, ns */
	__u64 minute;	  /* in which something was acknowledged last */
	__u32 too_big;	  /* the smallest payload that is stuck; 0: none */
	__u32 passed;	  /* the largest one that arrived behind what is stuck */
	__u32 arrived[2]; /* the largest one that was acknowledged in that minute, and before it */
	__u32 bucket[RTT_BUCKETS];
};

struct rtt_row {
	struct bpf_spin_lock lock;
	__u32 tag;
	struct key6
		key; /* without ROW_DIR; its shard is for whoever sees packets at several places */
	struct rtts way[2];
};

/* What could not be measured. */
struct rtt_lost {
	__u64 unread;	 /* packets whose headers were cut */
	__u64 displaced; /* connections that made room for others */
	__u64 no_row;	 /* packets of rows that there was no room for */
};

LOCKED(rtt_flows, RTT_FLOWS, struct rtt_flow);
LOCKED(rtt_rows, RTT_ROWS, struct rtt_row);
LOCKED(rtt_lost, 1, struct rtt_lost);

/* The fields of the current packet that matter here. */
struct rtt_packet {
	__u64 now;
	__u32 begin; /* sequence numbers that it takes */
	__u32 end;
	__u32 ack;
	__u32 stamp; /* time stamps, if there are some */
	__u32 echo;
	__u32 stamped;
	__u32 data;
	__u32 size;  /* of it in each packet on the wire */
	__u32 extra; /* what else was received, behind a hole: the first block of a SACK */
	__u32 extra_end;
	__u32 flags; /* TCP's */
	__u32 window;
	__u32 way; /* which of the two ends sends it */
	__u32 row; /* as rtt_way's */
};

/* What it reveals. */
struct rtt_found {
	__u64 time; /* until a segment was answered */
	__u32 row;  /* that segment's */
	__u32 sample;
	__u32 retransmitted;
	__u32 out_of_order;
	__u32 duplicate;
	__u32 zero_window;
	__u32 stuck;  /* the payload of a packet that is */
	__u32 over;   /* the largest payload that arrived behind it */
	__u32 passed; /* the largest payload that was acknowledged */
};

static __always_inline __u32 rtt_bucket(__u64 ns)
{
	__u32 power = 0;
	__u64 n = ns;

	for (__u32 by = 32; by; by >>= 1) { /* the place of the highest bit */
		if (n >> by) {
			n >>= by;
			power += by;
		}
	}
	if (power < RTT_LEAST)
		return 0;
	n = ns >> ((power - RTT_PARTS_BITS) & 63) & ((1 << RTT_PARTS_BITS) - 1);
	n += (power - RTT_LEAST) << RTT_PARTS_BITS;
	return n < RTT_BUCKETS ? n : RTT_BUCKETS - 1;
}

static __always_inline int before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

/* The flow with this key, found or created; the least recently seen one is evicted. */
static __always_inline struct rtt_flow *rtt_flow(const struct rtt_key *key, __u64 now)
{
	__u64 hash = hash_words((const __u64 *)key, WORDS(*key)), oldest = ~0ULL;
	__u32 home = BESIDE_HOME(hash), tag = BESIDE_TAG(hash), place = 0;
	struct rtt_lost *lost;
	struct rtt_flow *f;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < RTT_TRIES; i++)
	{
		f = ELEMENT(rtt_flows, (home + i) & (RTT_FLOWS - 1));
		if (!f)
			return NULL;
		if (f->tag == tag &&
		    same_words((const __u64 *)&f->key, (const __u64 *)key, WORDS(*key)))
			return f;
		if (!f->tag) {
			place = i;
			break;
		}
		if (f->seen < oldest) {
			oldest = f->seen;
			place = i;
		}
	}
	f = ELEMENT(rtt_flows, (home + place) & (RTT_FLOWS - 1));
	if (!f)
		return NULL;
	lost = ELEMENT(rtt_lost, 0);
	if (f->tag && lost)
		ADD(&lost->displaced, 1);
	bpf_spin_lock(&f->lock);
	f->tag = tag;
	f->key = *key;
	f->seen = now;
	f->opened = 0;
	f->shaken = 0;
	__builtin_memset(f->way, 0, sizeof(f->way));
	bpf_spin_unlock(&f->lock);
	return f;
}

/* The slot of a row, found or created; RTT_ROWS if there is no room. */
static __always_inline __u32 rtt_row(const struct key6 *key)
{
	__u64 hash = hash_words((const __u64 *)key, WORDS(*key));
	__u32 home = BESIDE_HOME(hash), tag = BESIDE_TAG(hash);

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < RTT_TRIES; i++)
	{
		__u32 place = (home + i) & (RTT_ROWS - 1);
		struct rtt_row *r = ELEMENT(rtt_rows, place);

		if (!r)
			return RTT_ROWS;
		if (!r->tag) {
			bpf_spin_lock(&r->lock);
			if (!r->tag) {
				r->key = *key;
				r->tag = tag;
			}
			bpf_spin_unlock(&r->lock);
		}
		if (r->tag == tag &&
		    same_words((const __u64 *)&r->key, (const __u64 *)key, WORDS(*key)))
			return place;
	}
	return RTT_ROWS;
}

/* A new connection begins on ports that were used before. */
static __always_inline void rtt_begin(struct rtt_flow *f, const struct rtt_packet *p)
{
	__builtin_memset(f->way, 0, sizeof(f->way));
	f->opened = p->now;
	f->shaken = 0;
	f->sequence = p->begin;
	f->opener = p->way;
}

/*
 * In the loops below, conditions are numbers, 0 or 1, because the verifier explores each branch and
 * everything after it separately.
 */
static __always_inline __u32 is_before(__u32 a, __u32 b)
{
	return (a - b) >> 31;
}

static __always_inline __u32 is_same(__u32 a, __u32 b)
{
	__u32 differ = a ^ b;

	return ((differ | -differ) >> 31) ^ 1;
}

/* Clocks of captures may go back. */
static __always_inline __u32 is_later(const struct rtt_packet *p, const struct rtt_segment *s)
{
	return (p->now - s->time) >> 63 ^ 1;
}

/* b, if condition is 1, otherwise a. */
static __always_inline __u32 choice(__u32 condition, __u32 a, __u32 b)
{
	return a ^ ((a ^ b) & -condition);
}

/*
 * The largest payload of a packet, of those that a waiting segment was sent in, with the bytes from
 * begin on and before end: only the last packet of a segment is smaller than the others.
 */
static __always_inline __u32 rtt_size(const struct rtt_segment *s, __u32 begin, __u32 end)
{
	__u32 size = s->state >> RTT_SIZE & -(s->state & RTT_WAITS), bytes;

	begin = choice(is_before(begin, s->begin), begin, s->begin);
	end = choice(is_before(s->end, end), end, s->end);
	bytes = (end - begin) & -is_before(begin, end);
	return choice(is_before(bytes, size), size, bytes);
}

/* Finds the acknowledged segment, and forgets segments that no longer wait. */
static __always_inline void rtt_answer(struct rtt_way *of, const struct rtt_packet *p,
				       struct rtt_found *found)
{
	__u32 arrived, size, over = 0;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < RTT_SEGMENTS; i++)
	{
		struct rtt_segment *s = &of->segment[i];
		__u32 state = s->state;
		__u32 done = state & RTT_WAITS & ~is_before(p->ack, s->end);
		__u32 older = state >> 1 & p->stamped & is_before(p->echo, s->stamp);
		__u32 hit = done & is_same(p->ack, s->end) & (older ^ 1) & is_later(p, s);
		__u64 all = -(__u64)hit;

		size = rtt_size(s, s->begin, p->ack);
		found->passed = choice(is_before(found->passed, size), found->passed, size);
		size = rtt_size(s, p->extra, p->extra_end);
		over = choice(is_before(over, size), over, size);
		found->sample |= hit;
		found->time = (found->time & ~all) | ((p->now - s->time) & all);
		s->state = state & (done - 1);
	}
	arrived = (is_same(of->again, 0) ^ 1) & is_before(of->again_begin, p->ack);
	size = of->again_size & -arrived;
	found->passed = choice(is_before(found->passed, size), found->passed, size);
	of->again &= arrived - 1;
	of->over &= is_before(of->hole, p->ack) - 1;
	found->row = of->row;
	if (!over)
		return;
	if (over > found->passed)
		found->passed = over;
	if (!of->over || of->hole != p->ack) {
		of->hole = p->ack;
		of->over = 0;
		of->again = 0;
	}
	if (over > of->over)
		of->over = over;
}

/* Bytes are retransmitted: it is unknown which transmission will be answered (Karn). */
static __always_inline void rtt_void(struct rtt_way *w, const struct rtt_packet *p)
{
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < RTT_SEGMENTS; i++)
	{
		struct rtt_segment *s = &w->segment[i];

		s->state &= (is_before(p->begin, s->end) & is_before(s->begin, p->end)) - 1;
	}
}

static __always_inline void rtt_wait(struct rtt_way *w, const struct rtt_packet *p)
{
	struct rtt_segment *s = &w->segment[w->place++ & (RTT_SEGMENTS - 1)];

	s->time = p->now;
	s->begin = p->begin;
	s->end = p->end;
	s->stamp = p->stamp;
	s->state = RTT_WAITS | (p->stamped ? RTT_STAMPED : 0) | p->size << RTT_SIZE;
}

/* The same bytes are sent again, as far as that is known, and not in smaller packets. */
static __always_inline void rtt_again(struct rtt_way *w, const struct rtt_packet *p,
				      struct rtt_found *found)
{
	__u32 fresh = is_same(w->again, 0) | (is_same(p->begin, w->again_begin) ^ 1) |
		      is_before(p->size, w->again_size);

	w->again = choice(fresh, w->again, 0) + 1;
	w->again_begin = p->begin;
	w->again_size = choice(fresh, w->again_size, p->size);
	if (w->again >= RTT_STUCK && w->over && w->hole == p->begin && w->over < w->again_size) {
		found->stuck = w->again_size;
		found->over = w->over;
	}
}

/* A TCP segment of a flow, whose lock is held. */
static __always_inline void rtt_segment(struct rtt_flow *f, const struct rtt_packet *p,
					struct rtt_found *found)
{
	struct rtt_way *w = &f->way[p->way & 1], *o = &f->way[~p->way & 1];
	__u32 signs = p->flags & (TCP_SYN | TCP_FIN | TCP_RST), takes = p->begin != p->end;
	__u32 behind, alive, same;

	if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
	    (!f->opened || f->sequence != p->begin || f->opener != p->way))
		rtt_begin(f, p);
	f->seen = p->now;
	w->row = p->row;
	behind = w->state & RTT_SENT && before(p->begin, w->next);
	alive = !signs && p->data <= 1 && w->state & RTT_SENT && p->begin == w->next - 1;
	same = w->state & RTT_ACKED && p->flags & TCP_ACK && p->ack == w->ack;
	found->zero_window += !signs && !p->window;
	if (!takes && !signs && same && p->window && p->window == w->window &&
	    w->state & RTT_SENT && p->begin == w->next && !(o->state & RTT_KEPT_ALIVE)) {
		found->duplicate++;
		w->duplicates++;
	}
	if (takes && !alive && behind && !(p->flags & TCP_RST)) {
		__u64 soon = f->shaken ? f->shaken : RTT_OOO;

		if (o->duplicates >= 2 && o->ack == p->begin && p->now - o->acked < RTT_FAST)
			found->retransmitted++;
		else if (p->now - w->advanced < soon && p->end != w->next)
			found->out_of_order++;
		else
			found->retransmitted++;
		if (found->retransmitted)
			rtt_again(w, p, found);
	}
	if (p->flags & TCP_ACK) {
		if (!f->shaken && f->opened && !(p->flags & TCP_SYN) && p->way == f->opener &&
		    o->state & RTT_SENT)
			f->shaken = p->now - f->opened;
		rtt_answer(o, p, found);
		if (!same)
			w->duplicates = 0;
		w->ack = p->ack;
		w->window = p->window;
		w->acked = p->now;
		w->state |= RTT_ACKED;
	}
	if (takes && behind)
		rtt_void(w, p);
	else if (takes && !alive && !(p->flags & TCP_RST))
		rtt_wait(w, p);
	w->state = alive ? w->state | RTT_KEPT_ALIVE : w->state & ~RTT_KEPT_ALIVE;
	if (!(w->state & RTT_SENT) || before(w->next, p->end)) {
		w->next = p->end;
		w->advanced = p->now;
		w->state |= RTT_SENT;
	}
}

/* An echo request, or its reply, of a flow whose lock is held. */
static __always_inline void rtt_echo(struct rtt_flow *f, const struct rtt_packet *p, __u32 answers,
				     struct rtt_found *found)
{
	struct rtt_way *w = &f->way[(p->way ^ answers) & 1];
	__u32 again = 0;

	f->seen = p->now;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < RTT_SEGMENTS; i++)
	{
		struct rtt_segment *s = &w->segment[i];
		__u32 hit = s->state & RTT_WAITS & is_same(s->end, p->end) & is_later(p, s);
		__u64 all = -(__u64)hit;

		again |= hit;
		found->time = (found->time & ~all) | ((p->now - s->time) & all);
		s->state &= hit - 1;
	}
	found->sample = again & answers;
	found->row = w->row;
	if (answers)
		return;
	w->row = p->row;
	if (!again)
		rtt_wait(w, p);
}

/* The largest payload that was acknowledged in this minute, and in the one before. */
static __always_inline void rtt_turn(struct rtts *n, __u64 now)
{
	__u64 minute = now / RTT_MINUTE;

	if (minute <= n->minute) /* clocks of captures go back, too */
		return;
	n->arrived[1] = minute == n->minute + 1 ? n->arrived[0] : 0;
	n->arrived[0] = 0;
	n->minute = minute;
}

/* Adds what was found to the rows. */
static __always_inline void rtt_add(const struct rtt_packet *p, const struct rtt_found *found)
{
	struct rtt_row *r;
	struct rtts *n;

	if (found->sample | found->passed) {
		__u32 bucket = rtt_bucket(found->time);

		r = ELEMENT(rtt_rows, (found->row >> 1) & (RTT_ROWS - 1));
		if (!r)
			return;
		n = &r->way[found->row & 1];
		bpf_spin_lock(&r->lock);
		rtt_turn(n, p->now);
		if (found->passed > n->arrived[0])
			n->arrived[0] = found->passed;
		if (found->passed >= n->too_big)
			n->too_big = n->passed = 0;
		if (found->sample) {
			if (!n->samples || found->time < n->least)
				n->least = found->time;
			if (found->time > n->most)
				n->most = found->time;
			n->samples++;
			n->nanoseconds += found->time;
			if (bucket < RTT_BUCKETS)
				n->bucket[bucket]++;
		}
		bpf_spin_unlock(&r->lock);
	}
	if (!(found->retransmitted | found->out_of_order | found->duplicate | found->zero_window))
		return;
	r = ELEMENT(rtt_rows, (p->row >> 1) & (RTT_ROWS - 1));
	if (!r)
		return;
	n = &r->way[p->row & 1];
	bpf_spin_lock(&r->lock);
	n->retransmitted += found->retransmitted;
	n->out_of_order += found->out_of_order;
	n->duplicate_acks += found->duplicate;
	n->zero_windows += found->zero_window;
	rtt_turn(n, p->now);
	if (found->stuck > n->arrived[0] && found->stuck > n->arrived[1]) {
		if (p->now - n->stuck_at > RTT_MINUTE)
			n->too_big = n->passed = 0;
		if (!n->too_big || found->stuck < n->too_big)
			n->too_big = found->stuck;
		if (found->over > n->passed)
			n->passed = found->over;
		n->stuck++;
		n->stuck_at = p->now;
	}
	bpf_spin_unlock(&r->lock);
}

/*
 * The time stamps of a TCP header, RFC 7323, and the first block of a selective acknowledgement,
 * RFC 2018: the one with what arrived last. off: its options; end: behind them.
 */
static __always_inline void rtt_options(struct __sk_buff *skb, const struct walk *w, __u32 off,
					__u32 end, struct rtt_packet *p)
{
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < RTT_OPTIONS; i++)
	{
		__u8 *option = bytes_at(skb, off, 1, end);
		__u32 kind, size = 1;

		if (!option || !*option) /* it is the end */
			return;
		kind = *option;
		if (kind != 1) { /* which is one byte, and nothing */
			option = bytes_at(skb, off, 2, end);
			if (!option || option[1] < 2)
				return;
			size = option[1];
		}
		if ((kind == 8 && size == 10) || (kind == 5 && size >= 10)) {
			__be32 *word = bytes_at(skb, off + 2, 8, end);

			if (!word)
				return;
			if (kind == 8) {
				p->stamp = bpf_ntohl(word[0]);
				p->echo = bpf_ntohl(word[1]);
				p->stamped = unknown(w, 1);
			} else {
				p->extra = bpf_ntohl(word[0]);
				p->extra_end = bpf_ntohl(word[1]);
			}
		}
		off = unknown(w, off + size);
	}
}

/* What a TCP header at off says. 0: it is cut. */
static __always_inline int rtt_read_tcp(struct __sk_buff *skb, const struct walk *w, __u32 off,
					__u32 end, struct rtt_packet *p, __u32 *ports)
{
	struct tcp *tcp = bytes_at(skb, off, sizeof(*tcp), end);
	__u32 header, length = end - off;

	if (!tcp)
		return 0;
	header = (tcp->offset >> 4) * 4;
	if (header < sizeof(*tcp) || header > length)
		return 0;
	*ports = *(__u32 *)tcp;
	p->flags = tcp->flags;
	p->begin = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack);
	p->window = bpf_ntohs(tcp->window);
	p->data = length - header;
	p->end = p->begin + p->data + !!(p->flags & TCP_SYN) + !!(p->flags & TCP_FIN);
	if (header > sizeof(*tcp))
		rtt_options(skb, w, off + sizeof(*tcp), off + header, p);
	return 1;
}

/* What an ICMP header at off says: 1 is a request, 2 an answer, 0 neither. */
static __always_inline int rtt_read_echo(struct __sk_buff *skb, __u32 off, __u32 end, int v6,
					 struct rtt_packet *p, __u32 *ports)
{
	struct icmp *h = bytes_at(skb, off, sizeof(*h), end);
	__u32 rest;

	if (!h || h->code)
		return 0;
	rest = bpf_ntohl(h->rest);
	*ports = rest >> 16;
	p->begin = rest & 0xffff;
	p->end = p->begin + 1;
	if (h->type == (v6 ? ICMPV6_ECHO : ICMP_ECHO))
		return 1;
	return h->type == (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY) ? 2 : 0;
}

/*
 * The packet in hand, whose row's key is at hand, has this protocol behind its innermost IP header,
 * at off; it ends at end.
 */
static __always_inline void rtt(struct __sk_buff *skb, struct cpu *c, __u32 off, __u32 end,
				__u32 proto, __u32 shard)
{
	struct walk *w = &c->walk;
	int v6 = !!(c->key.flags & ROW_INNER6), echo = 0;
	struct pair outer = *(struct pair *)c->key.outer, inner = *(struct pair *)c->key.inner;
	__u32 none = unknown(w, 0);
	struct rtt_packet p = {
		.now = time_of(skb),
		.stamp = none,
		.echo = none,
		.stamped = none,
		.extra = none,
		.extra_end = none,
	};
	struct rtt_found found = { none, none, none, none, none, none, none, none, none, none };
	struct rtt_lost *lost = ELEMENT(rtt_lost, 0);
	struct key6 row = c->key;
	struct rtt_key key = { .proto = proto };
	__u32 ports = 0, place;
	struct rtt_flow *f;
	int order;

	if (!lost || c->key.flags & (ROW_NO_OUTER | ROW_NO_PAIR))
		return;
	if (proto == PROTO_TCP) {
		/* nobody has said how long a first fragment's packet is */
		if (w->declared == NOT_DECLARED || !rtt_read_tcp(skb, w, off, end, &p, &ports)) {
			ADD(&lost->unread, 1);
			return;
		}
	} else if (proto == (v6 ? PROTO_ICMPV6 : PROTO_ICMP)) {
		echo = rtt_read_echo(skb, off, end, v6, &p, &ports);
		if (!echo)
			return;
	} else {
		return;
	}
	/* from here on once for all of them */
	echo = unknown(w, echo);
	ports = unknown(w, ports);
	p.begin = unknown(w, p.begin);
	p.end = unknown(w, p.end);
	p.ack = unknown(w, p.ack);
	p.data = unknown(w, p.data);
	p.size = unknown(w, skb->gso_size && skb->gso_size < p.data ? skb->gso_size : p.data);
	p.flags = unknown(w, p.flags);
	p.window = unknown(w, p.window);
	p.extra = unknown(w, p.extra);
	/* what is not behind the acknowledgement was received twice */
	p.extra_end = choice(is_before(p.ack, p.extra), p.extra, unknown(w, p.extra_end));
	row.flags &= ~ROW_DIR;
	row.shard = shard;
	place = unknown(w, rtt_row(&row));
	if (place >= RTT_ROWS) {
		ADD(&lost->no_row, 1);
		return;
	}
	p.row = place * 2 + (c->swapped & 1);
	if (c->swapped)
		swap(&inner); /* as on the wire */
	if (order6(outer.word) > 0)
		swap(&outer);
	order = order6(inner.word);
	p.way = order > 0 || (order < 0 && !echo && (ports & 0xffff) > ports >> 16);
	if (p.way) {
		swap(&inner);
		if (!echo)
			ports = ports >> 16 | ports << 16;
	}
	*(struct pair *)key.outer = outer;
	*(struct pair *)key.inner = inner;
	key.ports = unknown(w, ports);
	p.way = unknown(w, p.way);
	f = rtt_flow(&key, p.now);
	if (!f)
		return;
	bpf_spin_lock(&f->lock);
	if (echo)
		rtt_echo(f, &p, echo >> 1 & 1, &found);
	else
		rtt_segment(f, &p, &found);
	bpf_spin_unlock(&f->lock);
	rtt_add(&p, &found);
}

#endif
