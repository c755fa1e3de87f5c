/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * What is kept beside the rows, for packets that have been counted already: other packets pay
 * nothing for it. Each value has a lock, because two CPUs access it whenever a sender's packets
 * arrive on both. A table has a fixed number of slots; entries that find no room are counted, and
 * none is evicted.
 */
#ifndef TMON_BESIDE_H
#define TMON_BESIDE_H

#include "parse/udp.h"
#include "table.h"

#define BESIDE_TRIES 8 /* slots in a row that are searched for a key */

struct number_slot {
	struct bpf_spin_lock lock;
	__u32 tag; /* part of its key's hash, never 0; 0: free */
	struct number_key key;
	struct numbers numbers;
};

LOCKED(numbers, NUMBERS, struct number_slot);

/* A packet that its sender numbered. */
struct numbered {
	struct number_key key;
	__u64 number;
	__u32 bits;
	__u32 count; /* of a super-packet: the number of consecutive numbers from there on */
};

static __always_inline __u64 hash_words(const __u64 *word, int n)
{
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < n; i++)
		sum += nh(word[i], i);
	return spread(sum);
}

static __always_inline int same_words(const __u64 *a, const __u64 *b, int n)
{
	__u64 differ = 0;

#pragma unroll
	for (int i = 0; i < n; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

#define WORDS(of) (sizeof(of) / sizeof(__u64))

/*
 * The body of a function that returns the slot of *key, found or created, or NULL if there is no
 * room. User space frees a slot by its tag; a key whose slot came after a freed one may then be in
 * two slots, which readers add up.
 */
#define BESIDE_HOME(hash) ((__u32)((hash) >> 40))
#define BESIDE_TAG(hash)  ((__u32)((hash) >> 24) | 1)

#define FIND_OR_MAKE(table, most, key)                                \
	__u64 hash = hash_words((const __u64 *)(key), WORDS(*(key))); \
                                                                      \
	FIND_OR_MAKE_AT(table, most, key, hash)

#define FIND_OR_MAKE_AT(table, most, key, hash)                                        \
	__u32 home = BESIDE_HOME(hash), tag = BESIDE_TAG(hash);                        \
                                                                                       \
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < BESIDE_TRIES; i++) \
	{                                                                              \
		POINTER_TO(table) s = ELEMENT(table, (home + i) & ((most)-1));         \
                                                                                       \
		if (!s)                                                                \
			return NULL;                                                   \
		if (!s->tag) {                                                         \
			bpf_spin_lock(&s->lock);                                       \
			if (!s->tag) {                                                 \
				s->key = *(key);                                       \
				s->tag = tag;                                          \
			}                                                              \
			bpf_spin_unlock(&s->lock);                                     \
		}                                                                      \
		if (s->tag == tag &&                                                   \
		    same_words((__u64 *)&s->key, (const __u64 *)(key), WORDS(*(key)))) \
			return s;                                                      \
	}                                                                              \
	return NULL

static __always_inline struct number_slot *number_slot(const struct number_key *key)
{
	FIND_OR_MAKE(numbers, NUMBERS, key);
}

static __always_inline __u32 ones(__u64 word)
{
	word -= word >> 1 & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) + (word >> 2 & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return word * 0x0101010101010101ULL >> 56;
}

/* Moves the window up. What leaves it without having been seen is lost, and so is what it skips. */
static __always_inline void slide(struct numbers *n, __u64 by)
{
	if (by == 1) {
		n->lost += !(n->window >> 63);
		n->window <<= 1;
	} else if (by < 64) {
		n->lost += by - ones(n->window >> (64 - by));
		n->window <<= by;
	} else {
		n->lost += 64 - ones(n->window) + (by - 64);
		n->window = 0;
	}
	if (unlikely(n->since < 64))
		n->since += by < 64 - n->since ? by : 64 - n->since;
}

/*
 * The sender restarted, or this is our first packet: earlier numbers are neither lost nor missing.
 */
static __always_inline void begin_numbers(struct numbers *n, __u64 number)
{
	n->highest = number;
	n->window = ~0ULL;
	n->since = 1;
	n->out_of_place = 0;
}

/*
 * RFC 4303, appendix A2, counting what leaves the window unseen. Numbers wrap around at their
 * width. A number far from all others counts as late; if its successor follows, the sender has
 * restarted (the rule of RFC 3550, appendix A.1), and nothing was lost.
 */
static __always_inline void see_number(struct numbers *n, const struct numbered *p)
{
	__u32 up = (64 - p->bits) & 63;
	__s64 ahead = (__s64)((p->number - n->highest) << up) >> up;
	__u64 behind = -ahead, more = p->count - 1;

	n->packets += p->count;
	if (unlikely(n->packets == p->count)) {
		begin_numbers(n, p->number);
	} else if (likely(ahead > 0 && ahead < 1LL << (p->bits - 4))) {
		slide(n, ahead);
		n->window |= 1;
		n->highest = p->number;
		n->out_of_place = 0;
	} else if (ahead <= 0 && behind < 64) {
		if (behind >= n->since) { /* from before the start */
			n->late += p->count;
		} else if (n->window >> behind & 1) {
			n->duplicate += p->count;
		} else {
			n->window |= 1ULL << behind;
			n->late += p->count;
		}
		return;
	} else if (n->out_of_place && !((p->number - n->resume) << up)) {
		n->restarted++;
		n->late -= n->out_of_place; /* these were the first of the new ones */
		begin_numbers(n, p->number);
		n->since = 2;
	} else {
		n->late += p->count;
		n->resume = p->number + p->count;
		n->out_of_place = p->count;
		return;
	}
	if (unlikely(more)) {
		slide(n, more & 0xffff);
		n->window = more < 64 ? n->window | ((1ULL << (more & 63)) - 1) : ~0ULL;
		if (more > 64) /* these were seen */
			n->lost -= more - 64;
		n->highest += more;
	}
}

/* Enters a number into its stream. */
static __always_inline void take_number(struct cpu *c, const struct numbered *p)
{
	__u32 now = NOW(c, 0);
	struct number_slot *s = number_slot(&p->key);

	if (!s) {
		c->beside[BESIDE_UNNUMBERED] += p->count;
		return;
	}
	bpf_spin_lock(&s->lock);
	see_number(&s->numbers, p);
	s->numbers.seen = now;
	bpf_spin_unlock(&s->lock);
	c->beside[BESIDE_NUMBERED] += p->count;
}

/* The packet's time in ns: from the kernel's clock, or from the capture. */
static __always_inline __u64 time_of(struct __sk_buff *skb)
{
	return cfg_replay ? skb->tstamp : bpf_ktime_get_ns();
}

struct claim_slot {
	struct bpf_spin_lock lock;
	__u32 tag; /* as in number_slot */
	struct claim_key key;
	struct claims claims;
};

LOCKED(claims, CLAIMS, struct claim_slot);

/* A claim about a tunnel's packet. */
struct claimed {
	struct claim_key key;
	__u32 mtu;
	__u32 sequence; /* of an echo request or response */
	__u64 time;	/* its time, ns; 0: it has no sequence number */
};

static __always_inline struct claim_slot *claim_slot(const struct claim_key *key)
{
	FIND_OR_MAKE(claims, CLAIMS, key);
}

/* The same if it existed before. */
static __always_inline struct claim_slot *known_claim(const struct claim_key *key)
{
	__u64 hash = hash_words((const __u64 *)key, WORDS(*key));

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < BESIDE_TRIES; i++)
	{
		struct claim_slot *s = ELEMENT(claims, (BESIDE_HOME(hash) + i) & (CLAIMS - 1));

		if (!s)
			return NULL;
		if (s->tag == BESIDE_TAG(hash) &&
		    same_words((__u64 *)&s->key, (const __u64 *)key, WORDS(*key)))
			return s;
	}
	return NULL;
}

/* An echo request passes: the first time, or a retransmission. The lock is held. */
static __always_inline void echo_asked(struct claims *n, const struct claimed *p)
{
	if (n->waits && n->sequence == (__u16)p->sequence) {
		n->waits = ECHO_AGAIN;
		return;
	}
	n->waits = ECHO_ONCE;
	n->sequence = p->sequence;
	n->sent = p->time;
}

/*
 * An echo response passes. Its request usually passed the other hook; at a mirror port, the same.
 * If it passed both, the other hook's is nearer to the responder.
 */
static __always_inline void echo_answered(const struct claimed *p)
{
	struct claim_key key = p->key;

	key.type = GTPU_ECHO_REQUEST;
	if (key.flags & CLAIM_V6) {
		key.pair[0] = p->key.pair[2];
		key.pair[1] = p->key.pair[3];
		key.pair[2] = p->key.pair[0];
		key.pair[3] = p->key.pair[1];
		key.who[0] = key.pair[0];
		key.who[1] = key.pair[1];
	} else {
		key.pair[0] = p->key.pair[0] >> 32 | p->key.pair[0] << 32;
		key.who[0] = (__u32)key.pair[0];
	}
	_Pragma("clang loop unroll(disable)") for (int i = 0; i < HOOKS; i++)
	{
		struct claim_slot *s;

		key.flags ^= CLAIM_TX;
		s = known_claim(&key);
		if (!s || !s->claims.waits || s->claims.sequence != (__u16)p->sequence)
			continue;
		bpf_spin_lock(&s->lock);
		if (s->claims.waits == ECHO_ONCE && p->time >= s->claims.sent) {
			s->claims.timed++;
			s->claims.nanoseconds += p->time - s->claims.sent;
		}
		s->claims.waits = 0;
		bpf_spin_unlock(&s->lock);
		return;
	}
}

static __always_inline void take_claim(struct cpu *c, const struct claimed *p)
{
	__u32 now = NOW(c, 0);
	struct claim_slot *s = claim_slot(&p->key);

	if (!s) {
		c->beside[BESIDE_UNCLAIMED]++;
		return;
	}
	bpf_spin_lock(&s->lock);
	s->claims.packets++;
	if (p->mtu)
		s->claims.mtu = p->mtu;
	s->claims.seen = now;
	if (p->time && p->key.type == GTPU_ECHO_REQUEST)
		echo_asked(&s->claims, p);
	bpf_spin_unlock(&s->lock);
	c->beside[BESIDE_CLAIMED]++;
	if (p->time && p->key.type == GTPU_ECHO_RESPONSE)
		echo_answered(p);
}

/* The kind of a quoted packet's tunnel if the quote ends before the tunnel header. */
static __always_inline __u32 claimed_kind(struct __sk_buff *skb, const struct walk *w)
{
	struct udp *udp;

	if (w->verdict != STOP(TRUNCATED))
		return KIND_NONE;
	if (w->ip_proto == PROTO_GRE)
		return KIND_GRE;
	if (w->ip_proto != PROTO_UDP)
		return w->port & PORT_KIND;
	udp = bytes_at(skb, w->off, sizeof(*udp), w->end);
	return udp ? udp_port(udp) & PORT_KIND : KIND_NONE;
}

/* A quote has been read: if it is of a tunnel's packet, the claim of its sender is recorded. */
static __always_inline void claim(struct __sk_buff *skb, struct cpu *c)
{
	const struct walk *w = &c->walk;
	__u32 v6 = w->flags & WALK_OUTER6 ? CLAIM_V6 : 0;
	struct claimed p = { .key = { .who = { w->who[0], w->who[1] },
				      .type = w->said >> 8 & 0xff,
				      .code = w->said & 0xff },
			     .mtu = w->mtu };

	if (w->depth) {
		p.key.id = w->tunnel[0];
		p.key.kind = w->tunnel[0] >> 32;
		p.key.flags = w->tunnel[0] >> 40 & ROW_ID ? CLAIM_ID : 0;
	} else {
		p.key.kind = claimed_kind(skb, w);
	}
	/* one IP version quoting the other is invalid */
	if (p.key.kind == KIND_NONE || !w->outer[0] || !v6 != !(w->said & SAID_V6))
		return;
	p.key.flags |= v6 | (w->hook == HOOK_TX ? CLAIM_TX : 0);
	p.key.pair[0] = w->outer[0];
	if (v6) {
		p.key.pair[1] = w->outer[1];
		p.key.pair[2] = w->outer[2];
		p.key.pair[3] = w->outer[3];
	}
	if (!LEFT_TO_WHOLE(BESIDE_CLAIMED, &p))
		take_claim(c, &p);
}

/*
 * STATE_MESSAGE: GTP-U's own messages, 3GPP TS 29.281, section 7. An error indication is about
 * packets that its receiver has sent: it contains their id and their destination.
 */
static __always_inline void message(struct __sk_buff *skb, struct cpu *c)
{
	const struct walk *w = &c->walk;
	__u32 off = w->off + sizeof(struct udp), v6 = w->flags & WALK_OUTER6;
	struct gtpu *h = bytes_at(skb, off, sizeof(*h), w->end);
	struct claimed p = { .key = { .kind = KIND_GTPU } };
	__u8 *element;

	if (!h)
		return;
	p.key.type = h->type;
	p.key.flags = CLAIM_GTPU | (v6 ? CLAIM_V6 : 0) | (w->hook == HOOK_TX ? CLAIM_TX : 0);
	p.key.pair[0] = w->outer[0];
	p.key.who[0] = (__u32)w->outer[0];
	if (v6) {
		p.key.pair[1] = w->outer[1];
		p.key.pair[2] = w->outer[2];
		p.key.pair[3] = w->outer[3];
		p.key.who[0] = w->outer[0];
		p.key.who[1] = w->outer[1];
	}
	switch (h->type) {
	case GTPU_ECHO_REQUEST:
	case GTPU_ECHO_RESPONSE:
		element = bytes_at(skb, off + sizeof(*h), 2, w->end);
		if (element && h->flags & GTPU_S) {
			p.sequence = bpf_ntohs(*(__be16 *)element);
			p.time = time_of(skb);
		}
		break;
	case GTPU_EXTENSIONS:
		break;
	case GTPU_END:
		p.key.id = bpf_ntohl(h->teid);
		p.key.flags |= CLAIM_ID;
		break;
	case GTPU_ERROR:
		off += sizeof(*h) + (h->flags & GTPU_OPTIONS ? 4 : 0);
		if (v6) {
			p.key.pair[0] = w->outer[2];
			p.key.pair[1] = w->outer[3];
			p.key.pair[2] = w->outer[0];
			p.key.pair[3] = w->outer[1];
		} else {
			p.key.pair[0] = w->outer[0] >> 32 | w->outer[0] << 32;
		}
		if (h->flags & GTPU_E) { /* the UDP port of that packet: four bytes */
			element = bytes_at(skb, off, 4, w->end);
			if (!element || element[0] != 1 || element[3])
				break;
			off += 4;
		}
		element = bytes_at(skb, off, 5, w->end);
		if (!element || element[0] != GTPU_IE_TEID)
			break;
		p.key.id = (__u32)element[1] << 24 | element[2] << 16 | element[3] << 8 |
			   element[4];
		p.key.flags |= CLAIM_ID;
		off += 5;
		if (v6) {
			element = bytes_at(skb, off, 3 + 16, w->end);
			if (element && element[0] == GTPU_IE_PEER && !element[1] &&
			    element[2] == 16)
				__builtin_memcpy(&p.key.pair[2], element + 3, 16);
		} else {
			element = bytes_at(skb, off, 3 + 4, w->end);
			if (element && element[0] == GTPU_IE_PEER && !element[1] && element[2] == 4)
				__builtin_memcpy((__u8 *)p.key.pair + 4, element + 3, 4);
		}
		break;
	default:
		return;
	}
	if (!LEFT_TO_WHOLE(BESIDE_CLAIMED, &p))
		take_claim(c, &p);
}

/* Reads the sequence number of the current packet. */
static __always_inline void number(struct __sk_buff *skb, struct cpu *c)
{
	const struct walk *w = &c->walk;
	struct numbered p = { .key = { .id = (__u32)w->tunnel[0] | w->number_id,
				       .kind = w->tunnel[0] >> 32,
				       .hook = w->hook },
			      .number = w->number,
			      .bits = w->number_bits,
			      .count = 1 };

	p.key.pair[0] = w->outer[0];
	if (w->flags & WALK_OUTER6) {
		p.key.v6 = 1;
		p.key.pair[1] = w->outer[1];
		p.key.pair[2] = w->outer[2];
		p.key.pair[3] = w->outer[3];
	}
	if (skb->gso_size && skb->gso_segs)
		p.count = skb->gso_segs & 0xffff;
	if (!LEFT_TO_WHOLE(BESIDE_NUMBERED, &p))
		take_number(c, &p);
}

#endif
