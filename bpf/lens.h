/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The contents of a probed row's packets: protocol, ports, DSCP and ECN, TTL, TCP flags, sizes.
 * Each combination has a sum in a table of the prober's own; packets without room there are
 * counted.
 */
#ifndef TMON_LENS_H
#define TMON_LENS_H

#include "probe.h"
#include "quick.h"

/* DSCP with ECN, and TTL, of the IP header whose addresses are at pair. */
static __always_inline void see_ip(struct lens_key *key, int which, const void *pair, __u64 v6)
{
	const __u8 *ip;

	if (v6) {
		ip = pair - __builtin_offsetof(struct ip6, src);
		key->tos[which] = ip[0] << 4 | ip[1] >> 4;
		key->ttl[which] = ip[7];
	} else {
		ip = pair - __builtin_offsetof(struct ip4, src);
		key->tos[which] = ip[1];
		key->ttl[which] = ip[8];
	}
	key->flags |= which ? LENS_INNER : LENS_OUTER;
}

/* Protocols whose header begins with two ports. */
static __always_inline int has_ports(__u32 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == 132 || proto == 33 ||
	       proto == 136;
}

/* Reads what follows the innermost IP header, from `at` on. Returns the TCP flags. */
static __always_inline __u32 see_l4(struct __sk_buff *skb, struct lens_key *key, void *at,
				    __u32 proto)
{
	struct tcp *tcp = at;
	__u16 a, b;

	key->proto = proto;
	key->flags |= LENS_L4;
	if (!has_ports(proto) || at + 4 > packet_end(skb))
		return 0;
	a = bpf_ntohs(((__be16 *)at)[0]);
	b = bpf_ntohs(((__be16 *)at)[1]);
	key->port[0] = a < b ? a : b;
	key->port[1] = a < b ? b : a;
	key->flags |= LENS_PORTS;
	if (proto != PROTO_TCP || (void *)&tcp->window > packet_end(skb))
		return 0;
	return tcp->flags;
}

/* The group policy id of VXLAN-GBP, draft-smith-vxlan-group-policy. */
static __always_inline void see_group(struct lens_key *key, const __u8 *vxlan)
{
	if (vxlan[0] & VXLAN_G) {
		key->mark = bpf_ntohs(*(__be16 *)(vxlan + 2));
		key->flags |= LENS_GROUP;
	}
}

#define GTPU_PDU_SESSION 0x85 /* an extension header, 3GPP TS 38.415 */

/* The QoS flow, if the first extension header has it. */
static __always_inline void see_flow(struct lens_key *key, const __u8 *gtpu)
{
	if (gtpu[0] & GTPU_E && gtpu[11] == GTPU_PDU_SESSION) {
		key->mark = gtpu[14] & 0x3f;
		key->flags |= LENS_QFI;
	}
}

#define OVN_CLASS   0x0102
#define OVN_PORTS   0x80 /* an option: one bit, 15 of the port in, 16 of the port out */
#define OVN_OPTIONS 4	 /* how many are searched */

/* OVN's logical ports, if one of the first options has them. */
static __always_inline void see_ports(struct __sk_buff *skb, struct lens_key *key,
				      const __u8 *geneve)
{
	__u32 size = (geneve[0] & 0x3f) * 4, off = 0;

	_Pragma("clang loop unroll(disable)") for (int i = 0; i < OVN_OPTIONS; i++)
	{
		const __u8 *option = geneve + sizeof(struct geneve) + off;

		if (off + 8 > size || (void *)option + 8 > packet_end(skb))
			return;
		if (*(__be16 *)option == bpf_htons(OVN_CLASS) && option[2] == OVN_PORTS &&
		    (option[3] & 0x1f) == 1) {
			key->mark = bpf_ntohl(*(__be32 *)(option + 4)) & 0x7fffffff;
			key->flags |= LENS_LOGICAL;
			return;
		}
		off += 4 + (option[3] & 0x1f) * 4;
	}
}

#define MARKED \
	16 /* bytes that are read of a tunnel's header and what follows, except for options */

/* Reads what the outermost tunnel's header contains besides its id; at: after the UDP header. */
static __always_inline void see_mark(struct __sk_buff *skb, struct lens_key *key, __u32 kind,
				     void *at)
{
	if (at + MARKED > packet_end(skb))
		return;
	if (kind == KIND_VXLAN)
		see_group(key, at);
	else if (kind == KIND_GTPU)
		see_flow(key, at);
	else if (kind == KIND_GENEVE)
		see_ports(skb, key, at);
}

/* Reads the innermost IP header, if it ends at `end` and has no options or extension headers. */
static __always_inline void see_before(struct __sk_buff *skb, struct lens_key *key, __u32 end,
				       __u32 proto, __u32 v6)
{
	__u32 size = v6 ? sizeof(struct ip6) : sizeof(struct ip4);
	__u8 *ip = packet(skb) + ((end - size) & MAX_HEADERS);

	if (end < size)
		return;
	if (v6) {
		if ((void *)ip + sizeof(struct ip6) <= packet_end(skb) && ip[0] >> 4 == 6 &&
		    ip[6] == proto)
			see_ip(key, 1, ip + __builtin_offsetof(struct ip6, src), 1);
	} else if ((void *)ip + sizeof(struct ip4) <= packet_end(skb) && ip[0] == IP4_PLAIN &&
		   ip[9] == proto) {
		see_ip(key, 1, ip + __builtin_offsetof(struct ip4, src), 0);
	}
}

/*
 * Parses the headers again as the fast path does, because the walk of a packet that took the fast
 * path does not contain them. Other packets were read by the states, and the walk says where that
 * ended.
 */
static __always_inline __u32 see(struct __sk_buff *skb, struct cpu *c, struct lens_key *key)
{
	struct level l = { .at = packet(skb), .left = skb->len };
	const struct walk *w = &c->walk;
	__u32 depth = c->key.depth;

	if (!quick_level(skb, &l, cfg_begin == BEGIN_IP ? PAYLOAD_IP : ETHERTYPE_TEB, INLINE_TAGS))
		goto states;
	see_ip(key, 0, l.pair, l.v6);
	if (depth && l.proto == PROTO_UDP)
		see_mark(skb, key, c->key.kind[0], l.at + sizeof(struct udp));
	if (w->flags & WALK_INNER)
		goto states;
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < MAX_DEPTH; i++)
	{
		if (i >= depth) {
			see_ip(key, 1, l.pair, l.v6);
			return see_l4(skb, key, l.at, l.proto);
		}
		if (!quick_inner(skb, w, &l))
			return 0;
	}
	if (depth == MAX_DEPTH) {
		see_ip(key, 1, l.pair, l.v6);
		return see_l4(skb, key, l.at, l.proto);
	}
	return 0;
states:
	if (w->flags & WALK_INNER && !(w->flags & WALK_LAST) && w->off <= MAX_HEADERS) {
		void *at = packet(skb) + (w->off & MAX_HEADERS);

		if (at > packet_end(skb))
			return 0;
		see_before(skb, key, w->off, w->ip_proto, w->flags & WALK_INNER6);
		return see_l4(skb, key, at, w->ip_proto);
	}
	return 0;
}

static __always_inline __u8 size_class(__u64 length)
{
	__u8 size = 0;

#pragma unroll
	for (int i = 0; i < LENS_SIZES - 1; i++)
		size += length > 64U << i;
	return size;
}

/* Adds the packet to the sums of the probers with a lens. */
static __always_inline void tell_apart(struct __sk_buff *skb, struct cpu *c)
{
	struct lens_key key = {};
	__u32 wanted = c->lens, tcp = see(skb, c, &key), row = c->row;

	if (!(c->key.flags & ROW_DIR) != !c->walk.hook)
		key.flags |= LENS_REVERSE;
	key.size = size_class(c->weight.packets > 1 ? skb->gso_size : c->weight.bytes);
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PROBERS; i++)
	{
		struct prober *p = &probing.prober[i];
		struct lens first = {}, *sum;
		__u32 at = i; /* in memory, where the verifier forgets it */
		void *sums;

		if (!(wanted >> i & 1))
			continue;
		ADD(&p->looked_at, c->weight.packets);
		sums = bpf_map_lookup_elem(&probe_lenses, &at);
		key.row = p->interface << 16 | (row & LENS_ROW);
		sum = sums ? bpf_map_lookup_elem(sums, &key) : NULL;
		if (sums && !sum) {
			bpf_map_update_elem(sums, &key, &first, BPF_NOEXIST);
			sum = bpf_map_lookup_elem(sums, &key);
		}
		if (!sum) {
			ADD(&p->lens_lost, c->weight.packets);
			continue;
		}
		ADD(&sum->packets, c->weight.packets);
		ADD(&sum->bytes, c->weight.bytes);
		if (tcp & ~sum->tcp) {
			tcp = __sync_fetch_and_or(&sum->tcp, tcp) | tcp;
			barrier_var(tcp);
		}
	}
}

#endif
