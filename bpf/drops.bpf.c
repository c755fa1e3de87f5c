// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * Packets that the kernel drops, counted by its reason and by the row that they belong to. Nothing
 * here is on a delivered packet's way.
 *
 * A dropped skb may be anywhere on its way. Before decapsulation its network header is the outer
 * one, and the parser reads on from there as it does at a hook. Afterwards the network header is
 * the inner one, and the outer headers are where the receiver left them, in front of it in the same
 * buffer. They are believed if an IP header there is right (checksum, length) and the parser, from
 * there, arrives at the network header.
 *
 * The readers of bpf/parse work on a copy of the bytes around the network header; a state is
 * called, not jumped to, and verified by itself.
 *
 * Where somebody captures dropped packets, those that he means also go to a ring: what of them is
 * in one piece of memory, which are the headers at least.
 */
#define TMON_WINDOW
#include "drops.h"
#include "key.h"
#include "meant.h"
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

/* The fields that are read here; where they are, the running kernel says. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct net_device {
	char name[16];
	int ifindex;
	possible_net_t nd_net;
};
struct sock_common {
	possible_net_t skc_net;
};
struct sock {
	struct sock_common __sk_common;
};
struct dst_entry {
	struct net_device *dev;
};
struct skb_shared_info {
	__u16 gso_size;
	__u16 gso_segs;
};
struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst;
	unsigned int len;
	int skb_iif;
	__be16 protocol;
	__u16 network_header;
	__u16 mac_header;
	unsigned int tail;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
};
#pragma clang attribute pop

#define NOT_A_DST 1UL /* of _skb_refdst: the reference is not counted */

CONFIG(__u8, cfg_all);	 /* in all namespaces */
CONFIG(__u8, cfg_catch); /* somebody captures them */

/* Which ones, and what became of them. */
ARRAY(catcher, struct prober);

/* Where they go. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} drop_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DROPS);
	__type(key, struct drop_key);
	__type(value, struct drop_value);
} drops SEC(".maps");

/* What the table had no room for. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, REASON_SLOTS *DROPS_OF);
	__type(key, __u32);
	__type(value, struct drop_count);
} others SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct scope_key);
	__type(value, struct scope);
} scopes SEC(".maps");

/*
 * One CPU's work. A drop that interrupts another on its CPU does not come here: the kernel keeps it
 * away and counts it (recursion_misses).
 */
struct work {
	struct drop_books books;
	struct cpu cpu;
	struct drop_key key;
	struct drop_value value;
	struct window window;
	struct drop_caught caught;
	__u32 met;    /* the walk came through where it was to */
	__u32 inside; /* so far in front of the network header the packet begins */
	__u32 length; /* its bytes from there */
	__u32 begins; /* what is at the network header */
};

PER_CPU(works, struct work);

static __always_inline struct work *this_work(void)
{
	return ELEMENT(works, 0);
}

/* The states, each a function of its own: the verifier looks at it once, whatever leads to it. */
#define STATE_IS(name, expression)              \
	__noinline int state_##name(void)       \
	{                                       \
		struct work *k = this_work();   \
		struct window *skb;             \
		struct walk *w;                 \
                                                \
		if (!k)                         \
			return STOP(TRUNCATED); \
		skb = &k->window;               \
		w = &k->cpu.walk;               \
		return expression;              \
	}

STATE_IS(headers, layer(skb, w, w->off, w->end, w->proto))
STATE_IS(link, link_header(skb, w))
STATE_IS(ext, ext_headers(skb, w))
STATE_IS(transport, transport(skb, w, w->off, w->end, w->ip_proto, STATE_TRANSPORT))
STATE_IS(guess, guessed(skb, w))
#include "states.h"

#define CASE_INLINE goto over;
#define CASE_OWN(name)      \
	v = state_##name(); \
	break;

/*
 * Walks from what proto says at off to the verdict that ends it. work.met: a layer inside a tunnel
 * began at `through`, or the Ethernet header before it did.
 */
__noinline int walk_from(__u32 off, __u32 end, __u32 proto, __u32 through)
{
	struct work *k = this_work();
	__u32 v = STATE_HEADERS, hops = 0, before;
	struct walk *w;

	if (!k)
		return STOP(TRUNCATED);
	w = &k->cpu.walk;
	__builtin_memset(w, 0, sizeof(*w));
	w->off = off;
	w->end = end;
	w->proto = proto;
	k->met = 0;
	do { /* the condition at the end: see ext_headers() */
		switch (v) {
		case STATE_LAYER:
		case STATE_HEADERS:
			v = state_headers();
			break;
		case STATE_LINK:
			v = state_link();
			break;
		case STATE_EXT:
			v = state_ext();
			break;
		case STATE_TRANSPORT:
			v = state_transport();
			break;
		case STATE_GUESS:
			v = state_guess();
			break;
#define KIND(NAME, Variant, number, name, ports, whose, protocols, id, state, ...) \
	case number:                                                               \
		CASE_##state
			KINDS_OF(KIND)
#undef KIND
		default:
			goto over;
		}
		before = through - w->off;
		if (w->depth && (!before || before == sizeof(struct eth) ||
				 before == sizeof(struct eth) + sizeof(struct vlan)))
			k->met = 1;
	} while (++hops < MAX_HOPS);
	v = STOP(TOO_DEEP);
over:
	w->verdict = v;
	return v;
}

/* Whether a walk that ended so was a tunnel's; what cannot be read further is said as at a hook. */
static __always_inline __u32 drop_of(struct walk *w)
{
	__u32 v = w->verdict;

	if (w->depth) {
		if (v != VERDICT_END)
			inside_is(w, v == STOP(TRUNCATED) ? INNER_REASON | REASON_TRUNCATED :
				     v == STOP(MALFORMED) ? INNER_REASON | REASON_MALFORMED :
							    INNER_REASON | REASON_TOO_DEEP);
		return DROP_TUNNEL;
	}
	return v == VERDICT_END || v == STOP(NON_IP) ? DROP_PLAIN : DROP_UNKNOWN;
}

/* Whether an IP header at `at` may be that of a tunnel that carries what is `inside` bytes behind
 * it, `rest` bytes of it. 0, or how long its packet is. */
static __always_inline __u32 is_outer(struct window *skb, __u32 at, __u32 inside, __u32 rest)
{
	struct ip4 *ip = bytes_at(skb, at, sizeof(*ip), skb->len);
	struct ip6 *ip6 = bytes_at(skb, at, sizeof(*ip6), skb->len);
	__u32 length, least = inside + rest;

	if (!ip || !ip6)
		return 0;
	if (ip->version_ihl == IP4_PLAIN) {
		length = bpf_ntohs(ip->length);
		if (!sum_is_right(sum_of(ip)))
			return 0;
	} else if (ip->version_ihl >> 4 == 6 && inside >= sizeof(*ip6)) {
		length = bpf_ntohs(ip6->payload) + sizeof(*ip6);
		if (length == sizeof(*ip6)) /* larger than the field can say */
			return least;
	} else {
		return 0;
	}
	if (!length)
		return least;
	return length >= least && length - least <= ETHERNET_PADDING ? length : 0;
}

/*
 * The outer headers that a receiver took off, in front of the network header (at `net` in the
 * window). Returns how far in front, 0 if there are none.
 */
__noinline int remains(__u32 net, __u32 rest, __u32 mac)
{
	struct work *k = this_work();

	if (!k)
		return 0;
	/* Tunnels' headers are multiples of 4, and an Ethernet header is 2 more. */
	for (__u32 inside = sizeof(struct ip4) + mac; inside <= WINDOW_BEHIND; inside += 4) {
		__u32 length, at = net - inside;

		if (inside > net)
			break;
		length = is_outer(&k->window, at, inside, rest);
		if (!length)
			continue;
		walk_from(at, at + length, PAYLOAD_IP, net);
		if (k->cpu.walk.depth &&
		    (k->met || k->cpu.walk.inside == (INNER_REASON | REASON_ENCRYPTED)))
			return inside;
	}
	return 0;
}

/* What is at the network header. */
static __always_inline __u32 begins(__be16 protocol, __u8 first)
{
	__u32 proto = bpf_ntohs(protocol);

	if (proto == ETHERTYPE_MPLS || proto == ETHERTYPE_MPLS_MC || tag_size(proto))
		return proto;
	if (first >> 4 == 4 || first >> 4 == 6)
		return PAYLOAD_IP;
	return ETHERTYPE_MIN; /* nothing that there is anything in */
}

/* Copies what is around the network header, which is then at the returned place; 0: it is not at
 * hand. */
static __always_inline __u32 copy(struct window *window, struct sk_buff *skb)
{
	__u32 net = skb->network_header, tail = skb->tail, behind, size;

	if (!net || net >= tail)
		return 0;
	behind = net < WINDOW_BEHIND ? net : WINDOW_BEHIND;
	size = tail - net + behind;
	if (size > WINDOW)
		size = WINDOW;
	window->len = size;
	if (bpf_probe_read_kernel(window->bytes, size, skb->head + net - behind))
		return 0;
	return behind;
}

/* How many packets that is on the wire, and their bytes; see weigh() in count.h. */
static __always_inline void weigh(struct work *k, struct sk_buff *skb, __u32 start, __u32 length)
{
	struct skb_shared_info *shared = (void *)(skb->head + skb->end);
	struct walk *w = &k->cpu.walk;
	__u32 headers = w->off - start, size, segments;
	__u16 gso[2];

	if (cfg_skb || bpf_probe_read_kernel(gso, sizeof(gso),
					     __builtin_preserve_access_index(&shared->gso_size)))
		return;
	size = gso[0];
	segments = gso[1];
	if (!size || segments < 2)
		return;
	if (w->ip_proto == PROTO_TCP) {
		struct tcp *tcp = bytes_at(&k->window, w->off, sizeof(*tcp), w->end);

		headers += tcp ? (tcp->offset >> 4) * 4 : sizeof(*tcp);
	} else if (w->ip_proto == PROTO_UDP) {
		headers += sizeof(struct udp);
	}
	k->value.count.packets = segments;
	if (headers < length)
		k->value.count.bytes += (__u64)(segments - 1) * headers;
}

/* The row of what was dropped at a tunnel device, where nothing says between whom: its pair, or
 * what it is instead. */
static __always_inline void row_of_device(struct key6 *row, const struct walk *w,
					  const struct scope *device, __be16 protocol)
{
	__u32 flags = device->flags | ROW_NO_OUTER;

	row->kind[0] = device->kind;
	row->id[0] = device->id;
	row->depth = 1;
	if (w->verdict == VERDICT_END) {
		int v6 = w->flags & WALK_OUTER6;
		struct pair pair = pair_at(w->outer, v6);
		int swapped = order6(pair.word) > 0;

		if (swapped)
			swap(&pair);
		*(struct pair *)row->inner = pair;
		flags |= (v6 ? ROW_INNER6 : 0) | (swapped ? ROW_DIR : 0);
	} else {
		row->inner[0][0] = bpf_ntohs(protocol);
		flags |= ROW_NO_PAIR;
	}
	row->flags = flags;
}

/* Says in work.key what was dropped, and in work.value how much. */
static __always_inline void identify(struct work *k, struct sk_buff *skb, struct scope *device)
{
	struct walk *w = &k->cpu.walk;
	struct drop_count *n = &k->value.count;
	__u32 net = copy(&k->window, skb), inside = 0, of;
	__u32 mac = (skb->network_header - skb->mac_header) & 2;
	long rest = skb->data - skb->head;
	__u8 *first;

	barrier_var(rest); /* pointers until here, which the verifier lets nobody truncate */
	rest += (long)skb->len - skb->network_header;

	k->inside = 0;
	n->packets = 1;
	n->bytes = skb->len;
	k->key.of = DROP_UNKNOWN;
	if (!net || rest <= 0)
		return;
	n->bytes = rest;
	first = bytes_at(&k->window, net, 1, k->window.len);
	if (!first)
		return;
	k->begins = begins(skb->protocol, *first);
	if (device)
		inside = remains(net, rest, mac);
	if (!inside) {
		walk_from(net, net + rest, k->begins, 0);
		if (!w->depth && !device && skb->skb_iif) {
			__u32 verdict = w->verdict;

			inside = remains(net, rest, mac);
			if (!inside) {
				w->depth = 0;
				w->verdict = verdict;
			}
		}
	}
	n->bytes += inside;
	k->inside = inside;
	k->length = n->bytes;
	of = drop_of(w);
	if (of == DROP_TUNNEL) {
		row_key(&k->cpu, w);
		k->key.row = k->cpu.key;
		k->key.row.shard = 0;
		k->key.of = inside ? DROP_REMAINS : DROP_TUNNEL;
	} else if (of == DROP_PLAIN && device) {
		row_of_device(&k->key.row, w, device, skb->protocol);
		k->key.of = DROP_TUNNEL;
	} else {
		k->key.of = of;
	}
	weigh(k, skb, net - inside, n->bytes);
}

static __always_inline __u32 namespace_of(struct sk_buff *skb, struct net_device *dev)
{
	struct net_device *routed;
	__u32 netns = dev ? dev->nd_net.net->ns.inum : 0;
	unsigned long dst;
	struct sock *sk;

	if (likely(netns))
		return netns;
	/* In a socket's queue other things are where the device was. */
	sk = skb->sk;
	netns = sk ? sk->__sk_common.skc_net.net->ns.inum : 0;
	if (netns)
		return netns;
	dst = skb->_skb_refdst & ~NOT_A_DST;
	if (!dst ||
	    bpf_probe_read_kernel(&routed, sizeof(routed),
				  __builtin_preserve_access_index(&((struct dst_entry *)dst)->dev)))
		return 0;
	{
		struct net *net;
		__u32 inum;

		if (bpf_probe_read_kernel(&net, sizeof(net),
					  __builtin_preserve_access_index(&routed->nd_net.net)) ||
		    bpf_probe_read_kernel(&inum, sizeof(inum),
					  __builtin_preserve_access_index(&net->ns.inum)))
			return 0;
		return inum;
	}
}

/* Where a reason's drops are counted that no key has room for. */
static __always_inline __u32 slot_of(__u32 reason)
{
	__u32 subsystem = reason >> 16, number = (__u16)reason;

	if (reason < CORE_REASONS)
		return reason;
	if (subsystem < SUBSYSTEMS && number < SUBSYSTEM_REASONS)
		return CORE_REASONS + subsystem * SUBSYSTEM_REASONS + number;
	return 0; /* no drop has this reason */
}

static __always_inline void add(struct drop_count *to, const struct drop_count *n)
{
	ADD(&to->packets, n->packets);
	ADD(&to->bytes, n->bytes);
	if (!to->first)
		to->first = n->last;
	to->last = n->last;
}

/* The packet goes to the ring, whose records are reserved as one of a few sizes that the verifier
 * knows. */
#define CATCH(room)                                                                              \
	do {                                                                                     \
		struct drop_caught *r = bpf_ringbuf_reserve(&drop_ring, sizeof(*r) + (room), 0); \
                                                                                                 \
		if (!r)                                                                          \
			break;                                                                   \
		if (size > (room))                                                               \
			size = (room);                                                           \
		n->size = size;                                                                  \
		*r = *n;                                                                         \
		if (bpf_probe_read_kernel(r + 1, size, skb->head + start)) {                     \
			bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                                \
			break;                                                                   \
		}                                                                                \
		bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);                                         \
		done = 1;                                                                        \
	} while (0)

/* From its Ethernet header on, if that is in front of its network header. */
static __always_inline void catch (struct work *k, struct sk_buff *skb, struct net_device *dev)
{
	__u32 net = skb->network_header, mac = net - skb->mac_header, tail = skb->tail;
	__u32 start = net - k->inside, size;
	struct drop_caught *n = &k->caught;
	struct prober *p = ELEMENT(catcher, 0);
	int done = 0;

	if (!p || (k->key.of != DROP_TUNNEL && k->key.of != DROP_REMAINS) ||
	    !is_meant(p, &k->key.row))
		return;
	ADD(&p->matched, 1);
	if (is_over_limit(p, k->value.count.last)) {
		ADD(&p->over_limit, 1);
		return;
	}
	n->time = k->value.count.last;
	n->lost = p->full + p->over_limit;
	n->length = k->length;
	n->cpu = bpf_get_smp_processor_id();
	n->what = k->key;
	__builtin_memset(n->device, 0, sizeof(n->device));
	if (dev)
		bpf_probe_read_kernel(n->device, sizeof(n->device), dev->name);
	n->begins = k->begins == ETHERTYPE_MIN ? bpf_ntohs(skb->protocol) : k->begins;
	if (k->inside)
		n->begins = PAYLOAD_IP;
	if (!k->inside &&
	    (mac == sizeof(struct eth) || mac == sizeof(struct eth) + sizeof(struct vlan) ||
	     mac == sizeof(struct eth) + 2 * sizeof(struct vlan))) {
		start -= mac;
		n->length += mac;
		n->begins = ETHERTYPE_TEB;
	}
	size = tail - start;
	if (size > p->snaplen)
		size = p->snaplen;
	if (size <= 256)
		CATCH(256);
	else if (size <= 1600)
		CATCH(1600);
	else if (size <= 9216)
		CATCH(9216);
	else
		CATCH(65792);
	if (done)
		ADD(&p->written, 1);
	else
		ADD(&p->full, 1);
}

/* net/core/skbuff.c: kfree_skb(skb, location, reason) */
SEC("tp_btf/kfree_skb")
int tmon_drop(__u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct net_device *dev = skb->dev;
	struct work *k = this_work();
	struct scope_key at = {};
	struct scope *scope;
	struct drop_value *v;
	struct drop_count *n;
	__u32 slot;

	if (!k)
		return 0;
	k->books.seen++;
	at.netns = namespace_of(skb, dev);
	scope = bpf_map_lookup_elem(&scopes, &at);
	if (!cfg_all && !scope) {
		k->books.elsewhere++;
		return 0;
	}
	at.ifindex = dev ? dev->ifindex : 0;
	scope = at.ifindex ? bpf_map_lookup_elem(&scopes, &at) : NULL;
	__builtin_memset(&k->key, 0, sizeof(k->key));
	k->key.reason = ctx[2];
	k->key.netns = at.netns;
	k->key.ifindex = at.ifindex;
	identify(k, skb, scope);
	n = &k->value.count;
	n->first = n->last = bpf_ktime_get_ns();
	if (cfg_catch)
		catch (k, skb, dev);
	v = bpf_map_lookup_elem(&drops, &k->key);
	if (!v) {
		__builtin_memset(k->value.device, 0, sizeof(k->value.device));
		if (at.ifindex)
			bpf_probe_read_kernel(k->value.device, sizeof(k->value.device), dev->name);
		if (!bpf_map_update_elem(&drops, &k->key, &k->value, BPF_NOEXIST))
			return 0;
		v = bpf_map_lookup_elem(&drops, &k->key); /* another CPU was first */
	}
	if (v) {
		add(&v->count, n);
		return 0;
	}
	slot = slot_of(k->key.reason) * DROPS_OF + k->key.of;
	n = bpf_map_lookup_elem(&others, &slot);
	if (n)
		add(n, &k->value.count);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
