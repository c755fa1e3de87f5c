// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The state machine. A packet enters at tmon_ingress or tmon_egress; a verdict either names the
 * next state, which is a tail call, or ends in a row or a stop. STATE_LAYER is the same for the
 * outer and for every inner header, so a tunnel in a tunnel costs what a tunnel costs.
 *
 * Nothing is dropped, changed or redirected: every path returns TC_ACT_UNSPEC.
 *
 * Compiled into two objects for the kernel, the states and, with TMON_ENTRY (entry.bpf.c), the
 * entry programs, so that both can be verified in parallel.
 */
#include "beside.h"
#include "count.h"
#include "handshake.h"
#include "parse/ayiya.h"
#include "parse/capwap.h"
#include "parse/esp.h"
#include "parse/etherip.h"
#include "parse/gue.h"
#include "parse/l2tp.h"
#include "parse/layer.h"
#include "parse/lisp.h"
#include "parse/teredo.h"
#include "parse/wireguard.h"
#include "quick.h"
#ifndef TMON_NATIVE
#include "probers.h"
#endif

STATE(state_layer);
STATE(state_headers);
STATE(state_link);
STATE(state_ext);
STATE(state_transport);
STATE(state_guess);
STATE(state_fragment);
STATE(state_pull);
STATE(state_end);
STATE(state_row4);
STATE(state_row6);
STATE(state_other);
STATE(state_quote);
STATE(state_message);
STATE(state_claim);
STATE(state_number);
STATE(state_tcp);

/* The tunnel kinds' own states: declarations here, their places in the jump table below. */
#define DECLARE_INLINE
#define DECLARE_OWN(name)							   STATE(state_##name);
#define SLOT_INLINE								   NULL
#define SLOT_OWN(name)								   (void *)&state_##name
#define KIND(NAME, Variant, number, name, ports, whose, protocols, id, state, ...) DECLARE_##state
KINDS_OF(KIND)
#undef KIND

#ifdef TMON_ENTRY
JUMP_TABLE(states) = {};
#else
/* clang-format off */
JUMP_TABLE(states) = {
	.values = {
		[STATE_LAYER] = (void *)&state_layer,
		[STATE_HEADERS] = (void *)&state_headers,
		[STATE_LINK] = (void *)&state_link,
		[STATE_EXT] = (void *)&state_ext,
		[STATE_TRANSPORT] = (void *)&state_transport,
		[STATE_GUESS] = (void *)&state_guess,
		[STATE_FRAGMENT] = (void *)&state_fragment,
		[STATE_PULL] = (void *)&state_pull,
		[STATE_END] = (void *)&state_end,
		[STATE_ROW4] = (void *)&state_row4,
		[STATE_ROW6] = (void *)&state_row6,
		[STATE_OTHER] = (void *)&state_other,
		[STATE_QUOTE] = (void *)&state_quote,
		[STATE_MESSAGE] = (void *)&state_message,
		[STATE_CLAIM] = (void *)&state_claim,
		[STATE_NUMBER] = (void *)&state_number,
		[STATE_TCP] = (void *)&state_tcp,
		[STATE_LENS] = NULL, /* and other probers': see probe.bpf.c */
#define KIND(NAME, Variant, number, name, ports, whose, protocols, id, state, ...) \
	[number] = SLOT_##state,
		KINDS_OF(KIND)
#undef KIND
	},
};
/* clang-format on */
#endif

#include "next.h"

/*
 * How many of MAX_HOPS it costs to get to a state. The cost is the same with and without the fast
 * path, so that a packet with too many headers ends at the same one: that of STATE_LAYER includes
 * the states to which it may continue.
 */
static __always_inline __u32 hops_to(__u32 proto, __u32 state)
{
	return state == STATE_LAYER ? 2 + (proto == PAYLOAD_GUESS) : 1;
}

/* The cost of getting to STATE_LAYER if the fast path read a tunnel with this payload: the states
 * might have used GTP-U's own state for it. */
static __always_inline __u32 quick_hops(__u32 proto)
{
	return proto == PAYLOAD_GUESS ? 4 : 2;
}

/*
 * Counts hops. If only those reserved for the end of the walk are left, the walk ends: in a stop
 * without a tunnel, or else in a row whose inside is too_deep.
 */
static __always_inline __u32 counted(struct walk *w, __u32 v)
{
	w->hops += hops_to(w->proto, v);
	return unlikely(w->hops > MAX_HOPS) && v < STATES ? STOP(TOO_DEEP) : v;
}

/* Executes a verdict: common ones by a direct jump. */
static __always_inline int go(struct __sk_buff *skb, struct cpu *c, __u32 v)
{
	v = counted(&c->walk, v);
	if (likely(v == STATE_LAYER)) {
		JUMP(skb, STATE_LAYER);
	} else if (v == STATE_HEADERS) {
		JUMP(skb, STATE_HEADERS);
	} else if (v == KIND_GTPU) {
		JUMP(skb, KIND_GTPU);
	} else if (v < STATES) {
		JUMP_TO(skb, v);
	} else {
		c->walk.verdict = v;
		JUMP(skb, STATE_END);
	}
	return stop(skb, c, &c->walk, STOP_TOO_DEEP); /* cannot happen, see MAX_HOPS */
}

/* The same for rare cases: small rather than fast. */
static __always_inline int hop(struct __sk_buff *skb, struct cpu *c, __u32 v)
{
	v = counted(&c->walk, v);
	c->walk.verdict = v;
	if (v == STATE_LAYER)
		JUMP(skb, STATE_LAYER);
	else
		JUMP_TO(skb, v < STATES ? v : STATE_END);
	return stop(skb, c, &c->walk, STOP_TOO_DEEP);
}

/* From STATE_LAYER, or its equivalent in the fast path, to the states; the hops are counted
 * already.
 */
static __always_inline int off_quick(struct __sk_buff *skb, struct cpu *c)
{
	if (c->walk.proto == PAYLOAD_GUESS)
		JUMP(skb, STATE_GUESS);
	else
		JUMP(skb, STATE_HEADERS);
	return stop(skb, c, &c->walk, STOP_TOO_DEEP); /* cannot happen */
}

/* The packet has been counted in its row. */
static __always_inline int placed(struct __sk_buff *skb, struct cpu *c)
{
	in_row(c);
	return beside(skb, c);
}

/* The same for a probed row. */
static __always_inline int probed(struct __sk_buff *skb, struct cpu *c)
{
	in_row(c);
	c->chosen = 0;
	JUMP(skb, STATE_PROBE);
	c->beside[BESIDE_UNPROBED]++;
	return beside(skb, c);
}

/* The packet ended in a stop: passes it on if a prober wants packets that could not be parsed. */
static __always_inline int stopped(struct __sk_buff *skb, struct cpu *c, __u32 reason)
{
	__u32 suspect = c->walk.flags & WALK_SUSPECT;

	if ((suspect || (reason != STOP_PLAIN && reason != STOP_NON_IP)) && unlikely(WANT_STOPS)) {
		c->wanted = WANT_STOPS;
		c->row = CAUGHT_STOP | reason | (suspect ? CAUGHT_SUSPECT : 0);
		c->chosen = 1;
		JUMP(skb, STATE_PROBE);
		c->beside[BESIDE_UNPROBED]++;
	}
	return reason == STOP_PLAIN ? beside(skb, c) : TC_ACT_UNSPEC;
}

/* The row was not found in its first group: continues in the state that finds or creates it. */
static __always_inline int to_table(struct __sk_buff *skb, struct cpu *c, __u32 hook,
				    struct weight weight, __u32 swapped, __u32 flags, __u32 state)
{
	c->walk.hook = hook;
	c->walk.flags = flags;
	c->weight = weight;
	c->swapped = swapped;
	c->common = 0;
	if (state == STATE_ROW4)
		JUMP(skb, STATE_ROW4);
	else
		JUMP(skb, STATE_ROW6);
	book(c, hook, CELL_STOP + STOP_TOO_DEEP, weight, 0); /* cannot happen */
	return TC_ACT_UNSPEC;
}

/* Counts a packet in the row of an IPv4 pair in one tunnel. */
static __always_inline int count4(struct __sk_buff *skb, struct cpu *c, __u32 hook, __u64 tunnel,
				  __u64 outer, __u64 inner, struct weight weight, __u32 flags,
				  int usual)
{
	int swapped = order4(outer);
	__u64 meta;

	if (unlikely(swapped < 0))
		swapped = order4(inner) > 0;
	if (swapped) {
		outer = outer >> 32 | outer << 32;
		inner = inner >> 32 | inner << 32;
	}
	meta = meta4(tunnel, swapped ^ hook ? ROW_DIR : 0, 0);
	PUT_OFF4(hook, meta, outer, inner, weight, swapped, flags);
	if (likely(hit4(c, hook, meta, outer, inner, weight, usual)))
		return flags ? beside(skb, c) : TC_ACT_UNSPEC;
	put_key(c, meta_of(1, meta, 0, 0), (struct pair){ { (__u32)outer, 0, outer >> 32, 0 } },
		(struct pair){ { (__u32)inner, 0, inner >> 32, 0 } });
	return to_table(skb, c, hook, weight, swapped, flags, STATE_ROW4);
}

/* The same for a row of the other table. The key is written only if necessary. */
static __always_inline int count6(struct __sk_buff *skb, struct cpu *c, __u32 hook,
				  const struct around *a, int outer6, const __u64 *inner_at,
				  int inner6, struct weight weight, int usual)
{
	struct pair outer = pair_at(outer6 ? a->pair6 : &a->pair4, outer6);
	struct pair inner = pair_at(inner_at, inner6);
	int swapped = order6(outer.word);
	struct meta6 meta;

	if (unlikely(swapped < 0))
		swapped = order6(inner.word) > 0;
	if (swapped) { /* a branch: the loads do not wait for the order */
		swap(&outer);
		swap(&inner);
	}
	meta = meta_of(a->depth, a->tunnel[0], a->tunnel[1],
		       outer6 * ROW_OUTER6 | inner6 * ROW_INNER6 | (swapped ^ hook) * ROW_DIR);
	PUT_OFF6(hook, meta, outer, outer6, inner, inner6, weight, swapped, a->flags);
	if (likely(hit6(c, hook, meta, outer, outer6, inner, inner6, weight, usual)))
		return a->flags ? beside(skb, c) : TC_ACT_UNSPEC;
	put_key(c, meta, outer, inner);
	return to_table(skb, c, hook, weight, swapped, a->flags, STATE_ROW6);
}

#if defined(TMON_ENTRY) || defined(TMON_NATIVE)
/* A walk that has read nothing yet. */
static __always_inline void begin(struct walk *w, __u32 hook, __u32 frame, __u32 flags)
{
	w->frame = frame;
	w->flags = flags;
	w->hook = hook;
	w->depth = 0;
	w->links = 0;
	w->pulls = 0;
	w->hops = 0;
	w->ip_proto = 0;
	w->tunnel[1] = 0;
}

static __always_inline void copy6(__u64 *to, const __u64 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}
#endif

#ifdef TMON_NATIVE
/* Answers with the row of a packet; l: its innermost IP header. */
static __always_inline int say_row(struct cpu *c, __u32 hook, __u32 frame, const struct around *a,
				   const struct level *l)
{
	struct walk *w = &c->walk;

	begin(w, hook, frame, (a->v6 ? WALK_OUTER6 : 0) | (l->v6 ? WALK_INNER6 : 0) | WALK_INNER);
	w->depth = a->depth;
	w->tunnel[0] = a->tunnel[0];
	w->tunnel[1] = a->tunnel[1];
	if (a->v6)
		copy6(w->outer, a->pair6);
	else
		w->outer[0] = a->pair4;
	if (l->v6)
		copy6(w->inner, l->pair);
	else
		w->inner[0] = l->pair[0];
	row_key(c, w);
	ANSWER(ANSWER_ROW);
	return TC_ACT_UNSPEC;
}
#endif

/* Counts a packet in its row; l: its innermost IP header. */
static __always_inline int to_row(struct __sk_buff *skb, struct cpu *c, __u32 hook, __u32 frame,
				  const struct around *a, const struct level *l, int usual)
{
	struct weight weight = quick_weigh(skb, frame, usual);

#ifdef TMON_NATIVE
	if (ASKED())
		return say_row(c, hook, frame, a, l);
#endif
	if (!(a->v6 | l->v6) && a->depth == 1)
		return count4(skb, c, hook, a->tunnel[0], a->pair4, l->pair[0], weight, a->flags,
			      usual);
	if (a->v6)
		return l->v6 ? count6(skb, c, hook, a, 1, l->pair, 1, weight, usual) :
			       count6(skb, c, hook, a, 1, l->pair, 0, weight, usual);
	return l->v6 ? count6(skb, c, hook, a, 0, l->pair, 1, weight, usual) :
		       count6(skb, c, hook, a, 0, l->pair, 0, weight, usual);
}

#if defined(TMON_ENTRY) || defined(TMON_NATIVE)
/*
 * The most common tunnel with the most common payload: VXLAN with untagged Ethernet and IP inside,
 * and no other tunnel. l: after the outer IP header. The readers are the usual ones; the speed
 * comes from not handling anything else. Returns 0 if it is something else: nothing was counted.
 */
static __always_inline int straight(struct __sk_buff *skb, struct cpu *c, __u32 hook, __u32 frame,
				    const struct level *l, int outer6, int usual)
{
	struct around a = { .v6 = outer6, .depth = 1 };
	struct udp *udp = l->at;
	struct vxlan *vxlan = (void *)(udp + 1);
	struct eth *eth = (void *)(vxlan + 1);
	struct level inner = { .at = eth + 1 };
	struct ip4 *ip = inner.at;
	struct seen s;

	if (inner.at + sizeof(struct ip4) + AHEAD > packet_end(skb))
		return 0;
	/* rule out another tunnel inside early */
	if (likely(eth->type == bpf_htons(ETHERTYPE_IP))) {
		inner.proto = ip->proto;
		inner.at = ip + 1;
		if (unlikely(!is_leaf(inner.proto, inner.at, quick_port(&inner), 0)))
			return 0;
		inner.at = ip;
	} else if (eth->type != bpf_htons(ETHERTYPE_IPV6)) {
		return 0;
	}
	inner.left = bpf_ntohs(udp->length);
	if (inner.left > l->left || !vxlan_read(vxlan, &s))
		return 0;
	inner.left -= sizeof(*udp) + sizeof(*vxlan) + sizeof(*eth);
	a.tunnel[0] = TUNNEL(s.id, KIND_VXLAN, ROW_ID);
	if (outer6)
		a.pair6 = l->at - sizeof(((struct ip6 *)0)->src) * 2;
	else
		a.pair4 = *(__u64 *)(l->at - sizeof(((struct ip4 *)0)->src) * 2);
	if (eth->type == bpf_htons(ETHERTYPE_IPV6)) {
		if (!quick_ip6(skb, &inner) ||
		    unlikely(!is_leaf(inner.proto, inner.at, quick_port(&inner), 0)))
			return 0;
		if (inner.left >= AHEAD && (inner.proto != PROTO_TCP || quick_tcp(skb, &inner))) {
			to_row(skb, c, hook, frame, &a, &inner, usual);
			return 1;
		}
	} else if (quick_ip4(&inner) && inner.left >= AHEAD &&
		   (inner.proto != PROTO_TCP || quick_tcp(skb, &inner))) {
		to_row(skb, c, hook, frame, &a, &inner, usual);
		return 1;
	}
	return 0;
}

/*
 * Makes the verifier forget how a tunnel's payload was reached, by adding `nothing`, a zero that it
 * does not know to be zero. So it checks what follows once, not once for each path that leads here.
 */
static __always_inline __u32 reach(struct __sk_buff *skb, struct level *l, struct outside *o,
				   __u64 nothing)
{
	__u32 off = (l->at - packet(skb)) & MAX_HEADERS;

	o->tunnel += nothing;
	o->proto += nothing;
	l->at = packet(skb) + off;
	l->left += nothing;
	return off;
}

/* Starts at the first byte of a packet. frame: its length; off, end and proto: what to parse. */
static __always_inline int start(struct __sk_buff *skb, __u32 hook, __u32 frame, __u32 off,
				 __u32 end, __u32 proto, int quick, int usual)
{
	struct level l = { .at = packet(skb) + off, .left = end - off };
	struct cpu *c = this_cpu();
	struct outside o;
	struct walk *w;

	if (!c)
		return TC_ACT_UNSPEC;
	w = &c->walk;
	if (quick && likely(!is_super(skb, usual)) &&
	    likely(quick_level(skb, &l, proto, INLINE_TAGS))) {
		__u32 kind = quick_port(&l);
		struct around a;

		if (quick_leaf(skb, &l, kind, 1)) {
			if (!UNLESS(usual, cfg_plain)) {
				ANSWER(STOP_PLAIN);
				book(c, hook, CELL_STOP + STOP_PLAIN,
				     quick_weigh(skb, frame, usual), usual);
				return TC_ACT_UNSPEC;
			}
			goto states;
		}
		if (likely(kind == KIND_VXLAN)) {
			if (l.v6 ? straight(skb, c, hook, frame, &l, 1, usual) :
				   straight(skb, c, hook, frame, &l, 0, usual))
				return TC_ACT_UNSPEC;
			l.proto = PROTO_UDP;
		}
		a.pair6 = w->outer;
		a.pair4 = l.pair[0];
		a.v6 = l.v6;
		a.depth = 1;
		a.flags = 0;
		a.tunnel[1] = 0;
		if (l.v6)
			copy6(w->outer, l.pair);
		if (quick_tunnel(skb, &l, &o, kind, 0)) {
			__u64 nothing = w->nothing;
			struct level first;
			__u32 hops = 0;

			a.v6 += nothing;
			off = reach(skb, &l, &o, nothing);
			a.tunnel[0] = o.tunnel;
			proto = o.proto;
			first = l;
			if (unlikely(!quick_level(skb, &l, proto, 0)))
				goto layer;
			kind = quick_port(&l);
			if (unlikely(!quick_leaf(skb, &l, kind, 0))) {
				/* another tunnel */
				if (!quick_tunnel(skb, &l, &o, kind, 0))
					goto layer;
				o.tunnel += (o.tunnel & (__u64)ROW_ID << 40); /* ROW_ID1 */
				off = reach(skb, &l, &o, nothing);
				a.tunnel[1] = o.tunnel;
				a.depth = 2;
				hops = quick_hops(proto);
				proto = o.proto;
				first = l;
				if (unlikely(!quick_level(skb, &l, proto, 0)) ||
				    unlikely(!quick_leaf(skb, &l, quick_port(&l), 0)))
					goto layer;
			}
			return to_row(skb, c, hook, frame, &a, &l, usual);
		layer:
			SETTLE();
			begin(w, hook, frame, a.v6 ? WALK_NARROW | WALK_OUTER6 : WALK_NARROW);
			w->depth = a.depth;
			w->tunnel[0] = a.tunnel[0];
			w->tunnel[1] = a.tunnel[1];
			if (!a.v6)
				w->outer[0] = a.pair4;
			w->off = off;
			w->end = off + first.left;
			w->proto = proto;
			w->hops = hops_to(proto, STATE_HEADERS) + hops + quick_hops(proto);
			JUMP(skb, STATE_LAYER);
			return stop(skb, c, w, STOP_TOO_DEEP);
		}
	}
states:
	SETTLE();
	begin(w, hook, frame, quick ? 0 : WALK_STATES);
	w->off = off;
	w->end = end;
	w->proto = proto;
	w->tunnel[0] = 0;
	return go(skb, c, STATE_HEADERS);
}
#endif

#ifdef TMON_ENTRY
/*
 * Whether a packet is the host's own that is looped back (a multicast, a broadcast, a packet within
 * a VRF). It was counted when it left; the interface has not received it, and it may have no link
 * header.
 */
static __always_inline int is_heard(struct __sk_buff *skb, __u32 hook)
{
	return hook == HOOK_RX && skb->pkt_type == PACKET_LOOPBACK;
}

/* A packet arrives at a hook with the default configuration (apart from tables and ports). */
static __always_inline int enter_usual(struct __sk_buff *skb, __u32 hook)
{
	if (unlikely(is_heard(skb, hook)))
		return TC_ACT_UNSPEC;
	return start(skb, hook, skb->len, 0, skb->len, ETHERTYPE_TEB, 1, 1);
}

/*
 * The same with any configuration; the verifier removes code for what is not configured. For a
 * frame of a capture, cb gives its length and how it begins.
 */
static __always_inline int enter(struct __sk_buff *skb, __u32 hook)
{
	__u32 how = cfg_begin, off = 0, len = skb->len, end = len;
	__u32 proto = how == BEGIN_IP ? PAYLOAD_IP : ETHERTYPE_TEB;
	struct cpu *c;

	if (how == BEGIN_REPLAY || how == BEGIN_STATES) {
		c = this_cpu();
		if (!c)
			return TC_ACT_UNSPEC;
		c->now = skb->cb[1];
		len = skb->cb[0];
		off = skb->cb[2] & 0xff;
		end = off + skb->cb[4];
		if (end < off) /* a capture can claim up to 2^32 - 1 bytes */
			end = ~0U;
		proto = skb->cb[3];
	} else if (unlikely(is_heard(skb, hook))) {
		return TC_ACT_UNSPEC;
	}
	return start(skb, hook, len, off, end, proto, how != BEGIN_STATES, 0);
}

/* User space loads one of the two pairs. */
STATE(tmon_ingress)
{
	return enter_usual(skb, HOOK_RX);
}

STATE(tmon_egress)
{
	return enter_usual(skb, HOOK_TX);
}

STATE(tmon_in_any)
{
	return enter(skb, HOOK_RX);
}

STATE(tmon_out_any)
{
	return enter(skb, HOOK_TX);
}
#else

/* A state whose function takes the walk as it is. */
#define STATE_IS(name, expression)              \
	STATE(state_##name)                     \
	{                                       \
		struct cpu *c = this_cpu();     \
		struct walk *w;                 \
                                                \
		if (!c)                         \
			return TC_ACT_UNSPEC;   \
		w = &c->walk;                   \
		return hop(skb, c, expression); \
	}

STATE(state_layer)
{
	struct cpu *c = this_cpu();
	struct walk *w;

	if (!c)
		return TC_ACT_UNSPEC;
	w = &c->walk;
	if (w->depth && !(w->flags & (WALK_FIRST | WALK_CUT | WALK_STATES)) &&
	    w->off <= MAX_HEADERS && !is_super(skb, 0)) {
		struct level l = { .at = packet(skb) + (w->off & MAX_HEADERS),
				   .left = w->end - w->off };
		struct around a = { .pair6 = w->outer,
				    .pair4 = w->outer[0],
				    .v6 = w->flags & WALK_OUTER6,
				    .depth = w->depth,
				    .flags = w->flags & WALK_BESIDE };
		struct outside o;

		if (quick_level(skb, &l, w->proto, 0)) {
			a.tunnel[0] = w->tunnel[0];
			a.tunnel[1] = w->tunnel[1];
			__u32 kind = quick_port(&l);

			if (quick_leaf(skb, &l, kind, 0)) {
				return to_row(skb, c, w->hook, w->frame, &a, &l, 0);
			} else if (w->depth < MAX_DEPTH && quick_tunnel(skb, &l, &o, kind, 0)) {
				w->depth++;
				w->flags |= WALK_NARROW;
				w->tunnel[1] =
					o.tunnel + (o.tunnel & (__u64)ROW_ID << 40); /* ROW_ID1 */
				w->off = l.at - packet(skb);
				w->end = w->off + l.left;
				w->proto = o.proto;
				w->hops += quick_hops(o.proto);
				if (likely(w->hops <= MAX_HOPS))
					JUMP(skb, STATE_LAYER);
				return hop(skb, c, STOP(TOO_DEEP));
			}
		}
	}
	return off_quick(skb, c);
}

STATE(state_headers)
{
	struct cpu *c = this_cpu();
	struct walk *w;

	if (!c)
		return TC_ACT_UNSPEC;
	w = &c->walk;
	return go(skb, c, layer(skb, w, w->off, w->end, w->proto));
}

STATE_IS(link, link_header(skb, w))
STATE_IS(ext, ext_headers(skb, w))
STATE_IS(transport, transport(skb, w, w->off, w->end, w->ip_proto, STATE_TRANSPORT))
STATE(state_guess)
{
	struct cpu *c = this_cpu();
	__u32 v;

	if (!c)
		return TC_ACT_UNSPEC;
	v = guessed(skb, &c->walk);
	if (v == STATE_HEADERS) /* counted with STATE_LAYER */
		JUMP(skb, STATE_HEADERS);
	return hop(skb, c, v);
}

#include "states.h"

/* Headers are not in the linear part: copy more of them there and run the state again. */
STATE(state_pull)
{
	struct cpu *c = this_cpu();
	__u32 want;

	if (!c)
		return TC_ACT_UNSPEC;
	c->walk.pulls++;
	want = c->walk.off + 512;
	bpf_skb_pull_data(skb, want < skb->len ? want : skb->len);
	return hop(skb, c, c->walk.resume);
}

/* Continues in the table of c->key. */
static __always_inline int find(struct __sk_buff *skb, struct cpu *c)
{
	if (ASKED()) {
		ANSWER(ANSWER_ROW);
		return TC_ACT_UNSPEC;
	}
	c->weight = weigh(skb, &c->walk);
	c->common = 0;
	if (is_small(&c->key))
		JUMP(skb, STATE_ROW4);
	else
		JUMP(skb, STATE_ROW6);
	return stop(skb, c, &c->walk, STOP_TOO_DEEP);
}

/*
 * The walk is over: no more headers, or a stop. A stop inside a tunnel becomes a row with that
 * reason. Makes the row's key.
 */
STATE(state_end)
{
	struct cpu *c = this_cpu();
	struct walk *w;
	__u32 v;

	if (!c)
		return TC_ACT_UNSPEC;
	w = &c->walk;
	v = w->verdict;
	if (unlikely(w->flags & WALK_QUOTED)) {
		JUMP(skb, STATE_CLAIM);
		return TC_ACT_UNSPEC;
	}
	if (!w->depth) {
		if (v != VERDICT_END || !cfg_plain) {
			forget(w);
			v = v == VERDICT_END ? STOP_PLAIN : v - VERDICT_STOP;
			stop(skb, c, w, v);
			return stopped(skb, c, v);
		}
		if (unlikely(w->flags & WALK_SUSPECT))
			book(c, w->hook, CELL_SUSPECT, weigh(skb, w), 0);
		inside_is(w, INNER_REASON | REASON_NONE);
	} else if (v != VERDICT_END) {
		inside_is(w, v == STOP(TRUNCATED) ? INNER_REASON | REASON_TRUNCATED :
			     v == STOP(MALFORMED) ? INNER_REASON | REASON_MALFORMED :
						    INNER_REASON | REASON_TOO_DEEP);
	}
	if (unlikely(w->flags & WALK_TCP) && LEFT_TO_JUDGE())
		return TC_ACT_UNSPEC;
	row_key(c, w);
	remember(c);
	return find(skb, c);
}

STATE(state_fragment)
{
	struct cpu *c = this_cpu();

	if (!c)
		return TC_ACT_UNSPEC;
	if (c->walk.flags & WALK_QUOTED)
		return TC_ACT_UNSPEC;
	if (!join_fragment(c, &c->walk)) {
		stop(skb, c, &c->walk, STOP_FRAGMENT);
		return stopped(skb, c, STOP_FRAGMENT);
	}
	return find(skb, c);
}

/*
 * Finds or creates the row in its table; if that is full, full() continues, so that nothing is
 * lost. If many CPUs count in the row, this is repeated for the slot of this CPU or, if there is no
 * room for that, for the shared one.
 */
#define STATE_TABLE(NAME, count, full)                                                            \
	STATE(state_##count)                                                                      \
	{                                                                                         \
		struct cpu *c = this_cpu();                                                       \
		enum found found;                                                                 \
                                                                                                  \
		if (!c)                                                                           \
			return TC_ACT_UNSPEC;                                                     \
		found = count_##count(c);                                                         \
		if (found == FOUND)                                                               \
			return placed(skb, c);                                                    \
		if (found == FOUND_CROWD || (found != FOUND_PROBE && c->key.shard & SHARD_CPU)) { \
			c->common = found != FOUND_CROWD;                                         \
			c->key.shard ^= c->number;                                                \
			JUMP(skb, STATE_##NAME);                                                  \
		} else if (found == FOUND_PROBE) {                                                \
			return probed(skb, c);                                                    \
		} else {                                                                          \
			full;                                                                     \
		}                                                                                 \
		book(c, c->walk.hook, overflow(c), c->weight, 0);                                 \
		return placed(skb, c);                                                            \
	}

#define TO_OTHER                        \
	do {                            \
		other_key(&c->key);     \
		c->common = 0;          \
		JUMP(skb, STATE_OTHER); \
	} while (0)

STATE_TABLE(ROW4, row4, TO_OTHER)
STATE_TABLE(ROW6, row6, TO_OTHER)
STATE_TABLE(OTHER, other, (void)skb)

STATE(state_quote)
{
	struct cpu *c = this_cpu();
	__u32 v;

	if (!c)
		return TC_ACT_UNSPEC;
	v = quote(skb, &c->walk);
	return v ? hop(skb, c, v) : TC_ACT_UNSPEC;
}

STATE(state_claim)
{
	struct cpu *c = this_cpu();

	if (c)
		claim(skb, c);
	return TC_ACT_UNSPEC;
}

STATE(state_message)
{
	struct cpu *c = this_cpu();

	if (c)
		message(skb, c);
	return TC_ACT_UNSPEC;
}

STATE(state_number)
{
	struct cpu *c = this_cpu();

	if (!c)
		return TC_ACT_UNSPEC;
	if (c->walk.depth)
		number(skb, c);
	if (unlikely(c->walk.flags & WALK_TCP)) {
		JUMP(skb, STATE_TCP);
		c->beside[BESIDE_UNFOLLOWED]++;
	}
	return TC_ACT_UNSPEC;
}

STATE(state_tcp)
{
	struct cpu *c = this_cpu();

	if (c)
		handshake(skb, c);
	return TC_ACT_UNSPEC;
}

#ifndef TMON_NATIVE
/* The time with which the slots' `seen` is compared, which user space cannot read. */
SEC("tc")
int tmon_now(struct __sk_buff *skb)
{
	(void)skb;
	return bpf_jiffies64();
}
#endif
#endif

#ifndef TMON_NATIVE
char _license[] SEC("license") = "Dual MIT/GPL";
#endif
