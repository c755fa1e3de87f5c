// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The programs that tmon is compared with, for the benchmark only.
 *
 * The ancestor's method, as in bcc's tunnel_monitor example: three programs joined by a program
 * array, state in skb->cb, every header field by a legacy packet load (which the kernel turns into
 * a call of bpf_skb_load_helper_*), IPv4, UDP, VXLAN and Ethernet only, one hash map.
 *
 * Another peer is the method of netobserv's agent. It does not know tunnels, so its key is the
 * outer 5-tuple with the interface; a flow has times, flags and counters, under a lock.
 *
 * The driver: the kernel's test run repeats one frame, so the driver writes the next row's inner
 * addresses into it and tail-calls the program under test; it is the same for all of them. The
 * floor is the driver with an empty program.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

unsigned long long load_byte(void *skb, unsigned long long off) asm("llvm.bpf.load.byte");
unsigned long long load_half(void *skb, unsigned long long off) asm("llvm.bpf.load.half");
unsigned long long load_word(void *skb, unsigned long long off) asm("llvm.bpf.load.word");

enum { CB_FLAGS, CB_SIP, CB_DIP, CB_VNI, CB_OFFSET };
enum { PROGRAM_OUTER = 1, PROGRAM_INNER };

struct key {
	__u32 outer_sip;
	__u32 outer_dip;
	__u32 inner_sip;
	__u32 inner_dip;
	__u32 vni;
};

struct counters {
	__u64 tx_pkts;
	__u64 rx_pkts;
	__u64 tx_bytes;
	__u64 rx_bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); /* set to what the case needs */
	__type(key, struct key);
	__type(value, struct counters);
} stats SEC(".maps");

int ancestor_outer(struct __sk_buff *skb);
int ancestor_inner(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} parser SEC(".maps") = {
	.values = {
		[PROGRAM_OUTER] = (void *)&ancestor_outer,
		[PROGRAM_INNER] = (void *)&ancestor_inner,
	},
};

SEC("tc")
int ancestor_ingress(struct __sk_buff *skb)
{
	skb->cb[CB_FLAGS] = 1;
	bpf_tail_call_static(skb, &parser, PROGRAM_OUTER);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int ancestor_egress(struct __sk_buff *skb)
{
	skb->cb[CB_FLAGS] = 0;
	bpf_tail_call_static(skb, &parser, PROGRAM_OUTER);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int ancestor_outer(struct __sk_buff *skb)
{
	if (load_half(skb, 12) != 0x0800)
		return TC_ACT_UNSPEC;
	skb->cb[CB_SIP] = load_word(skb, 26);
	skb->cb[CB_DIP] = load_word(skb, 30);
	if (load_byte(skb, 23) != 17)
		return TC_ACT_UNSPEC;
	if (load_half(skb, 36) != 4789)
		return TC_ACT_UNSPEC;
	skb->cb[CB_VNI] = load_word(skb, 46) >> 8;
	skb->cb[CB_OFFSET] = 50;
	bpf_tail_call_static(skb, &parser, PROGRAM_INNER);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int ancestor_inner(struct __sk_buff *skb)
{
	__u32 off = skb->cb[CB_OFFSET], ingress = skb->cb[CB_FLAGS] & 1;
	__u32 sip = skb->cb[CB_SIP], dip = skb->cb[CB_DIP], src, dst;
	struct key key = { .vni = skb->cb[CB_VNI] };
	struct counters zero = {}, *leaf;

	if (load_half(skb, off + 12) != 0x0800)
		return TC_ACT_UNSPEC;
	src = load_word(skb, off + 26);
	dst = load_word(skb, off + 30);
	key.outer_sip = ingress ? dip : sip;
	key.outer_dip = ingress ? sip : dip;
	key.inner_sip = ingress ? dst : src;
	key.inner_dip = ingress ? src : dst;
	leaf = bpf_map_lookup_elem(&stats, &key);
	if (!leaf) {
		bpf_map_update_elem(&stats, &key, &zero, BPF_NOEXIST);
		leaf = bpf_map_lookup_elem(&stats, &key);
		if (!leaf)
			return TC_ACT_UNSPEC;
	}
	if (ingress) {
		__sync_fetch_and_add(&leaf->rx_pkts, 1);
		__sync_fetch_and_add(&leaf->rx_bytes, skb->len);
	} else {
		__sync_fetch_and_add(&leaf->tx_pkts, 1);
		__sync_fetch_and_add(&leaf->tx_bytes, skb->len);
	}
	return TC_ACT_UNSPEC;
}

struct flow_id {
	__u8 src[16], dst[16];
	__be16 sport, dport;
	__u8 proto, icmp_type, icmp_code, pad;
	__u32 ifindex;
};

struct flow {
	struct bpf_spin_lock lock;
	__u32 packets;
	__u64 bytes, first, last;
	__u16 ether_type, tcp_flags;
	__u8 src_mac[6], dst_mac[6], dscp, hook;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); /* set to what the case needs */
	__type(key, struct flow_id);
	__type(value, struct flow);
} flows SEC(".maps");

SEC("tc")
int five_tuple(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *ip, *l4;
	__u64 now = bpf_ktime_get_ns();
	struct flow_id id = {};
	struct flow *flow, new = {};

	if (data + 34 > end)
		return TC_ACT_UNSPEC;
	ip = data + 14;
	new.ether_type = bpf_ntohs(*(__be16 *)(data + 12));
	__builtin_memcpy(new.dst_mac, data, 12);
	if (new.ether_type == 0x0800) {
		id.src[10] = id.src[11] = id.dst[10] = id.dst[11] = 0xff;
		__builtin_memcpy(id.src + 12, ip + 12, 4);
		__builtin_memcpy(id.dst + 12, ip + 16, 4);
		id.proto = ip[9];
		new.dscp = ip[1] >> 2;
		l4 = ip + 20;
	} else if (new.ether_type == 0x86dd && ip + 40 <= end) {
		__builtin_memcpy(id.src, ip + 8, 32);
		id.proto = ip[6];
		new.dscp = (bpf_ntohs(*(__be16 *)ip) >> 6) & 0x3f;
		l4 = ip + 40;
	} else {
		return TC_ACT_UNSPEC;
	}
	if (id.proto == 6 && l4 + 20 <= end) {
		id.sport = *(__be16 *)l4;
		id.dport = *(__be16 *)(l4 + 2);
		new.tcp_flags = l4[13];
	} else if (id.proto == 17 && l4 + 8 <= end) {
		id.sport = *(__be16 *)l4;
		id.dport = *(__be16 *)(l4 + 2);
	}
	id.ifindex = skb->ifindex;
	flow = bpf_map_lookup_elem(&flows, &id);
	if (flow) {
		bpf_spin_lock(&flow->lock);
		flow->packets++;
		flow->bytes += skb->len;
		flow->last = now;
		flow->tcp_flags |= new.tcp_flags;
		flow->dscp = new.dscp;
		bpf_spin_unlock(&flow->lock);
	} else {
		new.packets = 1;
		new.bytes = skb->len;
		new.first = new.last = now;
		bpf_map_update_elem(&flows, &id, &new, BPF_NOEXIST);
	}
	return TC_ACT_UNSPEC;
}

SEC("tc")
int empty(struct __sk_buff *skb)
{
	(void)skb;
	return TC_ACT_UNSPEC;
}

#define TARGETS 4
#define ORDER	(1 << 20)

/* The sequence of rows; each target goes through it independently. */
__u32 order[ORDER] SEC(".data.order");

struct {
	__u32 at;   /* of the sequence: a power of two minus one */
	__u32 mask; /* of the order: a power of two minus one */
	__u32 next[TARGETS];
	__u32 zero;
} drive SEC(".data.drive");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TARGETS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} targets SEC(".maps");

static __always_inline void vary(struct __sk_buff *skb, __u32 target)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 at = drive.at & 0x1ff, i = drive.next[target]++;

	if (data + at + 8 <= end) {
		__u32 row = bpf_htonl(order[i & drive.mask & (ORDER - 1)]);

		/* for a pair of IPv4 addresses, the checksum stays the same */
		*(__u64 *)(data + at) = (__u64)row << 32 | (__u32)~row;
	}
}

/* One per target: a tail call with a constant index is a direct jump. */
#define DRIVER(target)                                       \
	SEC("tc")                                            \
	int drive_##target(struct __sk_buff *skb)            \
	{                                                    \
		vary(skb, target);                           \
		bpf_tail_call_static(skb, &targets, target); \
		return TC_ACT_SHOT;                          \
	}

DRIVER(0)
DRIVER(1)
DRIVER(2)
DRIVER(3)

char _license[] SEC("license") = "Dual MIT/GPL";
