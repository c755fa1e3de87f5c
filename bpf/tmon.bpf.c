// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The state machine. A packet enters at tmon_ingress or tmon_egress; a verdict either names the
 * next state, which is a tail call, or ends in a row or a stop. STATE_LAYER is the same for the
 * outer and for every inner header, so a tunnel in a tunnel costs what a tunnel costs.
 *
 * Nothing is dropped, changed or redirected: every path returns TC_ACT_UNSPEC.
 */
#include "book.h"
#include "ip.h"
#include "link.h"
#include "rare.h"
#include "tunnel.h"
#include "walk.h"

#define STATE(name) SEC("tc") int name(struct __sk_buff *skb)

STATE(state_layer);
STATE(state_link);
STATE(state_ext);
STATE(state_transport);
STATE(state_fragment);
STATE(state_pull);
STATE(state_end);
STATE(state_row);
STATE(state_row4);
STATE(state_row6);
STATE(state_other);
STATE(state_vxlan_gpe);
STATE(state_gre);
STATE(state_gre_udp);
STATE(state_gtpu);
STATE(state_mpls);
STATE(state_mpls_udp);
STATE(state_teredo);
STATE(state_gue);
STATE(state_l2tp);
STATE(state_lisp);
STATE(state_etherip);
STATE(state_ayiya);
STATE(state_esp_udp);
STATE(state_wireguard);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STATES);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} states SEC(".maps") = {
	.values = {
		[STATE_LAYER] = (void *)&state_layer,
		[STATE_LINK] = (void *)&state_link,
		[STATE_EXT] = (void *)&state_ext,
		[STATE_TRANSPORT] = (void *)&state_transport,
		[STATE_FRAGMENT] = (void *)&state_fragment,
		[STATE_PULL] = (void *)&state_pull,
		[STATE_END] = (void *)&state_end,
		[STATE_ROW] = (void *)&state_row,
		[STATE_ROW4] = (void *)&state_row4,
		[STATE_ROW6] = (void *)&state_row6,
		[STATE_OTHER] = (void *)&state_other,
		[KIND_VXLAN_GPE] = (void *)&state_vxlan_gpe,
		[KIND_GRE] = (void *)&state_gre,
		[KIND_GRE_UDP] = (void *)&state_gre_udp,
		[KIND_GTPU] = (void *)&state_gtpu,
		[KIND_MPLS] = (void *)&state_mpls,
		[KIND_MPLS_UDP] = (void *)&state_mpls_udp,
		[KIND_TEREDO] = (void *)&state_teredo,
		[KIND_GUE] = (void *)&state_gue,
		[KIND_L2TP] = (void *)&state_l2tp,
		[KIND_LISP] = (void *)&state_lisp,
		[KIND_ETHERIP] = (void *)&state_etherip,
		[KIND_AYIYA] = (void *)&state_ayiya,
		[KIND_ESP] = (void *)&state_esp_udp,
		[KIND_WIREGUARD] = (void *)&state_wireguard,
	},
};

static __always_inline struct cpu *this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cpus, &zero);
}

/* The packet is in no row: into the books. */
static __always_inline int stop(struct __sk_buff *skb, struct cpu *c, __u32 reason)
{
	struct walk *w = &c->walk;

	weigh(skb, w);
	book(c, w->hook, CELL_STOP + reason);
	if (unlikely(w->flags & WALK_SUSPECT))
		book(c, w->hook, CELL_SUSPECT);
	forget(w);
	return TC_ACT_UNSPEC;
}

/* The end of the walk: no more headers, or a stop. Inside a tunnel that is a row which says why. */
static __always_inline int end(struct __sk_buff *skb, struct cpu *c, __u32 v)
{
	struct walk *w = &c->walk;

	if (!w->depth) {
		if (v != VERDICT_END)
			return stop(skb, c, v - VERDICT_STOP);
		if (!cfg_plain)
			return stop(skb, c, STOP_PLAIN);
		if (unlikely(w->flags & WALK_SUSPECT)) {
			weigh(skb, w);
			book(c, w->hook, CELL_SUSPECT);
		}
		inside_is(w, INNER_REASON | REASON_NONE);
	} else if (v != VERDICT_END) {
		inside_is(w, v == STOP(TRUNCATED) ? INNER_REASON | REASON_TRUNCATED :
			     v == STOP(MALFORMED) ? INNER_REASON | REASON_MALFORMED :
						    INNER_REASON | REASON_TOO_DEEP);
	}
	if (hit4(skb, c))
		return TC_ACT_UNSPEC;
	bpf_tail_call_static(skb, &states, STATE_ROW);
	return stop(skb, c, STOP_TOO_DEEP); /* more hops than the kernel allows */
}

/* Carries a verdict out, the common ones without another hop or by a direct jump. */
static __always_inline int go(struct __sk_buff *skb, struct cpu *c, __u32 v)
{
	if (v == STATE_LAYER)
		bpf_tail_call_static(skb, &states, STATE_LAYER);
	else if (v < STATES)
		bpf_tail_call(skb, &states, v);
	else
		return end(skb, c, v);
	return stop(skb, c, STOP_TOO_DEEP);
}

/* The same where the way is rare: small rather than fast. */
static __always_inline int hop(struct __sk_buff *skb, struct cpu *c, __u32 v)
{
	c->walk.verdict = v;
	bpf_tail_call(skb, &states, v < STATES ? v : STATE_END);
	return stop(skb, c, STOP_TOO_DEEP);
}

/* Link headers, IP, transport: one layer of the packet, up to the next tunnel's payload. */
static __always_inline __u32 layer(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end, __u32 proto)
{
	__u32 v, ip_proto;

	if (proto == PAYLOAD_IP) {
		__u8 *nibble = bytes_at(skb, w, off, 1, end);

		if (unlikely(!nibble)) {
			if (w->depth && off == end)
				return inside_is(w, INNER_REASON | REASON_NONE);
			return lacking(skb, w, off, 1, end, STATE_LAYER);
		}
		proto = *nibble >> 4 == 4 ? ETHERTYPE_IP : *nibble >> 4 == 6 ? ETHERTYPE_IPV6 : PAYLOAD_UNKNOWN;
	} else {
		v = ethernet(skb, w, &off, end, &proto, INLINE_TAGS, STATE_LAYER);
		if (unlikely(v))
			return w->depth && off == end ? inside_is(w, INNER_REASON | REASON_NONE) : v;
	}
	if (likely(proto == ETHERTYPE_IP)) {
		v = ip4_header(skb, w, &off, &end, &ip_proto, STATE_LAYER);
	} else if (proto == ETHERTYPE_IPV6) {
		v = ip6_header(skb, w, &off, &end, &ip_proto, STATE_LAYER);
	} else {
		next_layer(w, off, end, proto);
		return STATE_LINK;
	}
	if (unlikely(v))
		return v;
	return transport(skb, w, off, end, ip_proto, STATE_LAYER);
}

/* A packet arrives at a hook. In a capture's frame, cb says how long it was and how it starts. */
static __always_inline int enter(struct __sk_buff *skb, __u32 hook)
{
	struct cpu *c = this_cpu();
	__u32 off = 0, frame = skb->len, end = frame, proto = cfg_l3 ? PAYLOAD_IP : ETHERTYPE_TEB;
	struct walk *w;

	if (!c)
		return TC_ACT_UNSPEC;
	w = &c->walk;
	if (cfg_replay) {
		frame = skb->cb[0];
		w->caught = skb->cb[1];
		off = skb->cb[2] & 0xff;
		proto = skb->cb[3];
		end = off + skb->cb[4];
	}
	w->off = off;
	w->end = end;
	w->frame = frame;
	w->proto = proto;
	w->flags = 0;
	w->hook = hook;
	w->depth = 0;
	w->ip_proto = 0;
	w->links = 0;
	w->pulls = 0;
	w->row_flags = 0;
	return go(skb, c, layer(skb, w, off, end, proto));
}

SEC("tc")
int tmon_ingress(struct __sk_buff *skb)
{
	return enter(skb, HOOK_RX);
}

SEC("tc")
int tmon_egress(struct __sk_buff *skb)
{
	return enter(skb, HOOK_TX);
}

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
	return go(skb, c, layer(skb, w, w->off, w->end, w->proto));
}

STATE_IS(link, link_header(skb, w))
STATE_IS(ext, ext_headers(skb, w))
STATE_IS(transport, transport(skb, w, w->off, w->end, w->ip_proto, STATE_TRANSPORT))
STATE_IS(fragment, join_fragment(c, w))
STATE_IS(vxlan_gpe, vxlan_gpe(skb, w))
STATE_IS(gre, gre_rest(skb, w, KIND_GRE))
STATE_IS(gre_udp, gre_rest(skb, w, KIND_GRE_UDP))
STATE_IS(gtpu, gtpu_options(skb, w))
STATE_IS(mpls, mpls(skb, w, KIND_MPLS, KIND_MPLS))
STATE_IS(mpls_udp, mpls_udp(skb, w))
STATE_IS(teredo, teredo(skb, w))
STATE_IS(gue, gue(skb, w))
STATE_IS(l2tp, l2tp(skb, w))
STATE_IS(lisp, lisp(skb, w))
STATE_IS(etherip, etherip(skb, w))
STATE_IS(ayiya, ayiya(skb, w))
STATE_IS(esp_udp, esp_udp(skb, w))
STATE_IS(wireguard, wireguard(skb, w))

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

/* The row in the table of everything else. */
static __always_inline int row6(struct __sk_buff *skb, struct cpu *c)
{
	weigh(skb, &c->walk);
	remember(c);
	if (!count6(&c->walk, &c->key))
		return hop(skb, c, STATE_OTHER);
	book(c, c->walk.hook, CELL_COUNTED);
	return TC_ACT_UNSPEC;
}

/* The walk is over. */
STATE(state_end)
{
	struct cpu *c = this_cpu();

	return c ? end(skb, c, c->walk.verdict) : TC_ACT_UNSPEC;
}

STATE(state_row)
{
	struct cpu *c = this_cpu();

	if (!c)
		return TC_ACT_UNSPEC;
	if (row_key(c, &c->walk) == STATE_ROW4)
		bpf_tail_call_static(skb, &states, STATE_ROW4);
	else
		return row6(skb, c);
	return stop(skb, c, STOP_TOO_DEEP);
}

/* The row in the IPv4 table. */
STATE(state_row4)
{
	struct cpu *c = this_cpu();
	struct key6 *key;

	if (!c)
		return TC_ACT_UNSPEC;
	key = &c->key;
	weigh(skb, &c->walk);
	remember(c);
	if (!count4(&c->walk, meta4(key->id[0], key->kind[0], key->flags, key->shard),
		    key->outer[0][0] | (__u64)key->outer[1][0] << 32, key->inner[0][0] | (__u64)key->inner[1][0] << 32))
		return hop(skb, c, STATE_OTHER);
	book(c, c->walk.hook, CELL_COUNTED);
	return TC_ACT_UNSPEC;
}

STATE(state_row6)
{
	struct cpu *c = this_cpu();

	return c ? row6(skb, c) : TC_ACT_UNSPEC;
}

/* No room for the row: the tunnel's `other` row, at worst the overflow. Nothing is lost. */
STATE(state_other)
{
	struct cpu *c = this_cpu();

	(void)skb;
	if (!c)
		return TC_ACT_UNSPEC;
	if (!count_other(&c->walk, &c->key))
		book(c, c->walk.hook, CELL_OVERFLOW + (c->swapped & 1));
	book(c, c->walk.hook, CELL_COUNTED);
	return TC_ACT_UNSPEC;
}

/* What the slots' `seen` is compared with: the time, as user space cannot read it. */
SEC("tc")
int tmon_now(struct __sk_buff *skb)
{
	(void)skb;
	return bpf_jiffies64();
}

char _license[] SEC("license") = "Dual MIT/GPL";
