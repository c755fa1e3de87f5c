/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * TCP connection requests, their answers, and resets: kept beside the rows (see beside.h), for
 * packets with SYN or RST. No other packets get here.
 */
#ifndef TMON_HANDSHAKE_H
#define TMON_HANDSHAKE_H

#include "beside.h"

#define WAITING_TRIES 8 /* slots in a row that are searched for a SYN */

struct handshake_slot {
	struct bpf_spin_lock lock;
	__u32 tag; /* as in number_slot */
	struct key6 key;
	struct handshakes n;
};

LOCKED(handshakes, HANDSHAKES, struct handshake_slot);

/*
 * A SYN awaiting its answer. The answer is matched by addresses, ports and sequence number alone,
 * because it may be in another row: with an id for each direction, or another outer pair.
 */
struct waiting_slot {
	struct bpf_spin_lock lock;
	__u32 pair; /* part of the hash of addresses and ports, sender first */
	__u32 ports;
	__u32 sequence;
	__u64 since; /* ns */
	__u64 row;   /* hash of the key in `handshakes` */
	__u16 data;  /* payload bytes of the SYN */
	__u8 hook;
	__u8 again; /* it was retransmitted: which transmission is answered is unknown */
	__u32 used;
};

LOCKED(waiting, WAITING, struct waiting_slot);

static __always_inline struct handshake_slot *handshake_slot(const struct key6 *key, __u64 hash)
{
	FIND_OR_MAKE_AT(handshakes, HANDSHAKES, key, hash);
}

/* The slot of a key with this hash that existed before. */
static __always_inline struct handshake_slot *handshake_again(__u64 hash)
{
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < BESIDE_TRIES; i++)
	{
		struct handshake_slot *s =
			ELEMENT(handshakes, (BESIDE_HOME(hash) + i) & (HANDSHAKES - 1));

		if (!s)
			return NULL;
		if (s->tag == BESIDE_TAG(hash))
			return s;
	}
	return NULL;
}

/* What is examined of the current packet. */
struct opening {
	__u64 now;
	__u64 hash; /* of the SYN's addresses and ports, sender first */
	__u32 ports;
	__u32 sequence; /* the SYN's; for an answer, the acknowledged number minus one */
	__u32 hook;
	__u32 data;
};

/* Advances the epochs of young attempts, which do not count as unanswered yet. */
static __always_inline void grow(struct handshakes *n, __u64 now)
{
	__u32 epoch = now >> EPOCH_BITS;
	__s32 by = epoch - n->epoch;

	if (by <= 0)
		return;
	n->young[epoch & 1] = 0;
	if (by > 1)
		n->young[~epoch & 1] = 0;
	n->epoch = epoch;
}

/* An attempt from this time no longer awaits its answer. */
static __always_inline void not_young(struct handshakes *n, __u64 since)
{
	__u32 epoch = since >> EPOCH_BITS;

	if (n->epoch - epoch < 2 && n->young[epoch & 1])
		n->young[epoch & 1]--;
}

static __always_inline int is_waiting(const struct waiting_slot *s, const struct opening *o)
{
	return s->used && s->pair == (__u32)(o->hash >> 32) && s->ports == o->ports;
}

#define WAITING_AT(o, i) ELEMENT(waiting, ((__u32)((o)->hash >> 40) + (i)) & (WAITING - 1))

/* A SYN is seen in this row: the first time, or a retransmission. */
static __always_inline void ask(struct cpu *c, const struct opening *o)
{
	__u64 row = hash_words((const __u64 *)&c->key, WORDS(c->key)), oldest = ~0ULL, since, lost;
	__u32 now = NOW(c, 0), place = 0, again = 0, used;
	struct waiting_slot *w;
	struct handshake_slot *s;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < WAITING_TRIES; i++)
	{
		w = WAITING_AT(o, i);
		if (!w)
			return;
		if (is_waiting(w, o) && w->sequence == o->sequence && w->hook == o->hook) {
			w->again = 1;
			again = 1;
			break;
		}
		since = w->used ? w->since : 0;
		if (since < oldest) {
			oldest = since;
			place = i;
		}
	}
	s = handshake_slot(&c->key, row);
	if (!s) {
		c->beside[BESIDE_UNFOLLOWED] += c->weight.packets;
		return;
	}
	bpf_spin_lock(&s->lock);
	s->n.syns += c->weight.packets;
	s->n.seen = now;
	if (again) {
		s->n.retries++;
	} else {
		s->n.opened++;
		grow(&s->n, o->now);
		s->n.young[s->n.epoch & 1]++;
	}
	bpf_spin_unlock(&s->lock);
	if (again)
		return;
	w = WAITING_AT(o, place & (WAITING_TRIES - 1));
	if (!w)
		return;
	bpf_spin_lock(&w->lock);
	used = w->used;
	since = w->since;
	lost = w->row;
	w->pair = o->hash >> 32;
	w->ports = o->ports;
	w->sequence = o->sequence;
	w->since = o->now;
	w->row = row;
	w->data = o->data;
	w->hook = o->hook;
	w->again = 0;
	w->used = 1;
	bpf_spin_unlock(&w->lock);
	/* one that has waited this long was unanswered, whatever happens to it now */
	if (!used || o->now - since >= 2ULL << EPOCH_BITS)
		return;
	c->beside[BESIDE_DISPLACED]++;
	s = handshake_again(lost);
	if (!s)
		return;
	bpf_spin_lock(&s->lock);
	s->n.displaced++;
	not_young(&s->n, since);
	bpf_spin_unlock(&s->lock);
}

/*
 * A SYN is answered, by another SYN or by a reset. If a packet passes both hooks, each hook has its
 * own SYN; that of the other hook takes precedence, so that each is answered once.
 */
static __always_inline void answer(const struct opening *o, int accepted)
{
	__u32 place = WAITING_TRIES, used, again;
	struct handshake_slot *s;
	struct waiting_slot *w;
	__u64 since, row;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < WAITING_TRIES; i++)
	{
		w = WAITING_AT(o, i);
		if (!w)
			return;
		if (!is_waiting(w, o) || o->sequence - w->sequence > w->data)
			continue;
		place = i;
		if (w->hook != o->hook)
			break;
	}
	if (place >= WAITING_TRIES)
		return;
	w = WAITING_AT(o, place);
	if (!w)
		return;
	bpf_spin_lock(&w->lock);
	used = is_waiting(w, o);
	since = w->since;
	again = w->again;
	row = w->row;
	if (used)
		w->used = 0;
	bpf_spin_unlock(&w->lock);
	if (!used)
		return;
	s = handshake_again(row);
	if (!s)
		return;
	bpf_spin_lock(&s->lock);
	s->n.answered++;
	not_young(&s->n, since);
	if (accepted && !again && o->now >= since) {
		s->n.timed++;
		s->n.nanoseconds += o->now - since;
	}
	bpf_spin_unlock(&s->lock);
}

/* A connection is reset. */
static __always_inline void reset(struct cpu *c)
{
	__u64 row = hash_words((const __u64 *)&c->key, WORDS(c->key));
	struct handshake_slot *s = handshake_slot(&c->key, row);
	__u32 now = NOW(c, 0), rev = c->swapped & 1;

	if (!s) {
		c->beside[BESIDE_UNFOLLOWED] += c->weight.packets;
		return;
	}
	bpf_spin_lock(&s->lock);
	if (rev)
		s->n.resets[1] += c->weight.packets;
	else
		s->n.resets[0] += c->weight.packets;
	s->n.seen = now;
	bpf_spin_unlock(&s->lock);
}

/* The current packet, whose row's key is in the record, has SYN or RST. */
static __always_inline void handshake(struct __sk_buff *skb, struct cpu *c)
{
	struct walk *w = &c->walk;
	struct tcp *tcp = bytes_at(skb, w->off, sizeof(*tcp), w->end);
	struct pair pair = pair_at(w->inner, !!(w->flags & WALK_INNER6));
	__u32 ports, header, length, flags, rest;
	struct opening o;

	c->beside[BESIDE_OPENINGS]++;
	if (!tcp) {
		c->beside[BESIDE_UNFOLLOWED]++;
		return;
	}
	flags = tcp->flags;
	ports = *(__u32 *)tcp;
	header = (tcp->offset >> 4) * 4;
	length = w->end - w->off;
	rest = length > header ? length - header : 0;
	o.now = time_of(skb);
	o.hook = w->hook & 1;
	o.data = rest < 0xffff ? rest : 0xffff;
	o.sequence = bpf_ntohl(tcp->seq);
	o.ports = ports;
	if (flags & TCP_ACK) { /* an answer: identified from the SYN's point of view */
		o.sequence = bpf_ntohl(tcp->ack) - 1;
		o.ports = ports >> 16 | ports << 16;
		swap(&pair);
	}
	o.hash = spread(nh(pair.word[0], 0) + nh(pair.word[1], 1) + nh(pair.word[2], 2) +
			nh(pair.word[3], 3) + nh(o.ports, 4));
	/* both directions are one row, and each hook's counts are kept separately */
	c->key.flags &= ~ROW_DIR;
	c->key.shard = w->hook;
	if (flags & TCP_ACK)
		answer(&o, !(flags & TCP_RST));
	if (flags & TCP_RST)
		reset(c);
	else if (!(flags & TCP_ACK))
		ask(c, &o);
}

#endif
