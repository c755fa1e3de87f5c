/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Accounting: what a packet weighs, which row it belongs to, and the tables. The only file that
 * touches the maps' contents.
 *
 * A table is an array of groups of slots that user space maps into its memory: a hit costs no
 * helper call, a reading no system call. A key is looked for in one group after the other, from a
 * place in the group that its hash says; the search ends at the first group with a free slot.
 */
#ifndef TMON_BOOK_H
#define TMON_BOOK_H

#include "walk.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

#define TABLE(name, group)                         \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, 1);            \
		__type(key, __u32);                \
		__type(value, struct group);       \
	} name SEC(".maps")

TABLE(rows4, group4);
TABLE(rows6, group6);
TABLE(others, group6);

/* Where the later fragments of an outer packet go: forgotten when newer ones need the room. */
struct fragment_key {
	__be32 pair[2][4]; /* as on the wire */
	__u32 id;
	__u16 proto;
	__u16 v6;
};

struct fragment_row {
	struct key6 key;
	__u32 swapped;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment_row);
} fragments SEC(".maps");

/* Groups of each table minus one, set with its size. */
const volatile __u32 cfg_mask4;
const volatile __u32 cfg_mask6;
const volatile __u32 cfg_mask_others;
const volatile __u32 cfg_shards;   /* CPUs are spread over this many copies of a row, minus one */
const volatile __u64 cfg_seed[12]; /* random, so that nobody can choose keys that collide */

/* NH (Black et al., UMAC): one multiplication for each 64-bit word. */
#define NH(word, seed) ((__u64)((__u32)(word) + (__u32)(seed)) * ((__u32)((word) >> 32) + (__u32)((seed) >> 32)))

static __always_inline __u64 spread(__u64 nh)
{
	nh *= cfg_seed[11] | 1;
	return nh ^ nh >> 32;
}

static __always_inline __u64 hash4(__u64 meta, __u64 outer, __u64 inner)
{
	return spread(NH(meta, cfg_seed[0]) + NH(outer, cfg_seed[1]) + NH(inner, cfg_seed[2]));
}

static __always_inline __u64 hash6(const struct key6 *key)
{
	const __u64 *word = (const __u64 *)key;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += NH(word[i], cfg_seed[i]);
	return spread(sum);
}

/* The i-th group of a key, its tag, and where in a group it is looked for first. */
#define GROUP_OF(hash, i, mask) (((__u32)((hash) >> 32) + (i) * ((__u32)((hash) >> 13) | 1)) & (mask))
#define TAG_OF(hash)		((__u32)(hash) | TAG_USED)
#define PLACE_OF(hash)		((__u32)((hash) >> 2) & (GROUP - 1))

static __always_inline __u32 shard(void)
{
	return cfg_shards ? bpf_get_smp_processor_id() & cfg_shards : 0;
}

/*
 * What the packet in hand weighs on the wire. A GSO or GRO super-packet is as many packets as it
 * has segments, each with a copy of the headers: everything up to the payload of the last header
 * that was read. A tag in the metadata is on the wire too.
 */
static __always_inline void weigh(struct __sk_buff *skb, struct walk *w)
{
	__u32 segments = 1, bytes = w->frame, headers;
	__u32 size = skb->gso_size;

	if (unlikely(size) && !cfg_skb) {
		headers = w->off;
		if (w->ip_proto == PROTO_TCP) {
			struct tcp *tcp = bytes_at(skb, w, headers, sizeof(*tcp), w->end);

			headers += tcp ? (tcp->offset >> 4) * 4 : sizeof(*tcp);
		} else if (w->ip_proto == PROTO_UDP) {
			headers += sizeof(struct udp);
		}
		if (w->flags & WALK_JUMBO) { /* the kernel takes it out of what it sends */
			headers -= JUMBO_HEADER;
			bytes -= JUMBO_HEADER;
		}
		segments = skb->gso_segs;
		if (!segments) /* a guest's packet: nobody has counted yet */
			segments = bytes > headers ? (bytes - headers + size - 1) / size : 1;
		if (headers < bytes)
			bytes += (segments - 1) * headers;
	}
	if (!cfg_replay && unlikely(skb->vlan_present))
		bytes += segments * sizeof(struct vlan);
	w->packets = segments;
	w->bytes = bytes;
}

static __always_inline void book(struct cpu *c, __u32 hook, __u32 cell)
{
	__u32 index = hook * CELLS + cell;
	struct cell_count *n;

	barrier_var(index);
	n = &c->books[index & (HOOKS * CELLS - 1)];
	if (cfg_preempt) {
		__sync_fetch_and_add(&n->packets, c->walk.packets);
		__sync_fetch_and_add(&n->bytes, c->walk.bytes);
	} else {
		n->packets += c->walk.packets;
		n->bytes += c->walk.bytes;
	}
}

/* Adds the packet in hand to a row. */
#define ADD_TO(slot, w)                                                          \
	do {                                                                     \
		__u32 now = bpf_jiffies64();                                     \
		__u32 at = (w)->hook & 1;                                        \
                                                                                 \
		if ((slot)->seen != now)                                         \
			(slot)->seen = now;                                      \
		__sync_fetch_and_add(&(slot)->packets[at], (__u64)(w)->packets); \
		__sync_fetch_and_add(&(slot)->bytes[at], (__u64)(w)->bytes);     \
	} while (0)

/*
 * Finds the row or makes it; 0 when there is no room. SAME says whether a slot has the key,
 * COPY writes it. The slot that we claimed is ours alone until its tag is published.
 */
#define FIND_OR_MAKE(table, group, mask, hash, w, SAME, COPY)                                                       \
	({                                                                                                          \
		__u32 tag = TAG_OF(hash), first = PLACE_OF(hash), done = 0;                                         \
                                                                                                                    \
		_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < GROUPS && !done; i++)                   \
		{                                                                                                   \
			__u32 index = GROUP_OF(hash, i, mask), is_free = 0;                                         \
			struct group *g = bpf_map_lookup_elem(&table, &index);                                      \
                                                                                                                    \
			if (!g)                                                                                     \
				break;                                                                              \
			_Pragma("clang loop unroll(disable)") for (__u32 j = 0; j < GROUP && !done; j++)            \
			{                                                                                           \
				typeof(g->slot[0]) *s = &g->slot[(first + j) & (GROUP - 1)];                        \
				__u32 t = *(volatile __u32 *)&s->tag;                                               \
                                                                                                                    \
				if (t == tag && SAME(s)) {                                                          \
					ADD_TO(s, w);                                                               \
					done = 1;                                                                   \
				}                                                                                   \
				is_free |= t == TAG_FREE;                                                           \
			}                                                                                           \
			_Pragma("clang loop unroll(disable)") for (__u32 j = 0; j < GROUP && is_free && !done; j++) \
			{                                                                                           \
				typeof(g->slot[0]) *s = &g->slot[(first + j) & (GROUP - 1)];                        \
                                                                                                                    \
				if (*(volatile __u32 *)&s->tag != TAG_FREE ||                                       \
				    __sync_val_compare_and_swap(&s->tag, TAG_FREE, TAG_BUSY))                       \
					continue;                                                                   \
				COPY(s);                                                                            \
				ADD_TO(s, w);                                                                       \
				__sync_lock_test_and_set(&s->tag, tag);                                             \
				done = 1;                                                                           \
			}                                                                                           \
		}                                                                                                   \
		done;                                                                                               \
	})

/* Two addresses as the row has them. */
static __always_inline int later(const __be32 *a, const __be32 *b)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 x = bpf_ntohl(a[i]), y = bpf_ntohl(b[i]);

		if (x != y)
			return x > y;
	}
	return 0;
}

static __always_inline int same(const __be32 *a, const __be32 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* Writes a pair in the row's order; an IPv4 address fills the first word, the rest is zero. */
static __always_inline void put_pair(__be32 (*to)[4], const __be32 (*from)[4], int swapped)
{
	__u64 *t = (__u64 *)to;
	const __u64 *f = (const __u64 *)from;

	t[0] = swapped ? f[2] : f[0];
	t[1] = swapped ? f[3] : f[1];
	t[2] = swapped ? f[0] : f[2];
	t[3] = swapped ? f[1] : f[3];
}

/* IPv4 pairs are read as two words side by side; rows have each in 16 bytes. */
static __always_inline void widen(__be32 (*pair)[4])
{
	__be32 *p = pair[0];

	p[4] = p[1];
	p[1] = p[2] = p[3] = 0;
	p[5] = p[6] = p[7] = 0;
}

/*
 * The row's key, from the walk: pairs in order, the direction bit, ids. Then the table that it
 * belongs to.
 */
static __always_inline __u32 row_key(struct cpu *c, struct walk *w)
{
	struct key6 *key = &c->key;
	__u32 flags = w->row_flags, swapped;

	if (!(w->flags & WALK_OUTER6))
		widen(w->outer);
	if ((w->flags & (WALK_INNER | WALK_INNER6)) == WALK_INNER)
		widen(w->inner);
	swapped = later(w->outer[0], w->outer[1]);
	if (w->flags & WALK_INNER && same(w->outer[0], w->outer[1]))
		swapped = later(w->inner[0], w->inner[1]);

	key->id[0] = w->depth ? w->id[0] : 0;
	key->id[1] = w->depth > 1 ? w->id[1] : 0;
	key->kind[0] = w->depth ? w->kind[0] : KIND_NONE;
	key->kind[1] = w->depth > 1 ? w->kind[1] : KIND_NONE;
	key->depth = w->depth;
	key->shard = shard();
	key->zero = 0;
	put_pair(key->outer, w->outer, swapped);
	flags |= w->flags & WALK_OUTER6 ? ROW_OUTER6 : 0;
	flags |= swapped ^ w->hook ? ROW_DIR : 0;
	if (w->flags & WALK_INNER) {
		flags |= w->flags & WALK_INNER6 ? ROW_INNER6 : 0;
		put_pair(key->inner, w->inner, swapped);
	} else {
		__builtin_memset(key->inner, 0, sizeof(key->inner));
		key->inner[0][0] = w->inside;
		flags |= ROW_NO_PAIR;
	}
	key->flags = flags;
	c->swapped = swapped;
	return w->depth == 1 && !(flags & (ROW_OUTER6 | ROW_INNER6)) ? STATE_ROW4 : STATE_ROW6;
}

/* The number of a remembered packet is used again for one that is in no row. */
static __always_inline void forget(struct walk *w)
{
	struct fragment_key key = { .id = w->fragment_id,
				    .proto = w->fragment_proto,
				    .v6 = !!(w->flags & WALK_OUTER6) };

	if (likely(!(w->flags & WALK_FIRST)))
		return;
	if (!(w->flags & WALK_OUTER6))
		widen(w->outer);
	__builtin_memcpy(key.pair, w->outer, sizeof(key.pair));
	bpf_map_delete_elem(&fragments, &key);
}

/* Remembers where the later fragments of this packet belong. */
static __always_inline void remember(struct cpu *c)
{
	struct walk *w = &c->walk;
	struct fragment_key key = { .id = w->fragment_id,
				    .proto = w->fragment_proto,
				    .v6 = !!(w->flags & WALK_OUTER6) };
	struct fragment_row row = { .key = c->key, .swapped = c->swapped };

	if (!(w->flags & WALK_FIRST))
		return;
	__builtin_memcpy(key.pair, w->outer, sizeof(key.pair));
	bpf_map_update_elem(&fragments, &key, &row, BPF_ANY);
}

/* A later fragment of an outer packet: to the row of its first one. */
static __always_inline __u32 join_fragment(struct cpu *c, struct walk *w)
{
	struct fragment_key key = { .id = w->fragment_id,
				    .proto = w->fragment_proto,
				    .v6 = !!(w->flags & WALK_OUTER6) };
	struct fragment_row *row;
	__u32 flags;

	if (!(w->flags & WALK_OUTER6))
		widen(w->outer);
	__builtin_memcpy(key.pair, w->outer, sizeof(key.pair));
	row = bpf_map_lookup_elem(&fragments, &key);
	if (!row)
		return STOP(FRAGMENT);
	c->key = row->key;
	c->swapped = row->swapped;
	flags = c->key.flags & ~ROW_DIR;
	c->key.flags = flags | (c->swapped ^ w->hook ? ROW_DIR : 0);
	c->key.shard = shard();
	return c->key.depth == 1 && !(flags & (ROW_OUTER6 | ROW_INNER6)) ? STATE_ROW4 : STATE_ROW6;
}

/* What of an IPv4 row's key is not an address, as one word. */
static __always_inline __u64 meta4(__u32 id, __u32 kind, __u32 flags, __u32 on)
{
	return id | (__u64)kind << 32 | (__u64)flags << 40 | (__u64)on << 48;
}

/* The row in the IPv4 table; 0 when there is no room for it. */
static __always_inline int count4(struct walk *w, __u64 meta, __u64 outer, __u64 inner)
{
	__u64 hash = hash4(meta, outer, inner);

#define SAME4(s) \
	(((__u64 *)&(s)->key)[0] == meta && ((__u64 *)&(s)->key)[1] == outer && ((__u64 *)&(s)->key)[2] == inner)
#define COPY4(s)                                 \
	do {                                     \
		((__u64 *)&(s)->key)[0] = meta;  \
		((__u64 *)&(s)->key)[1] = outer; \
		((__u64 *)&(s)->key)[2] = inner; \
	} while (0)
	return FIND_OR_MAKE(rows4, group4, cfg_mask4, hash, w, SAME4, COPY4);
}

/*
 * The end that most packets have, without another hop: one tunnel, IPv4 in IPv4, its row found in
 * the first group. 0 where it is not so.
 */
static __always_inline int hit4(struct __sk_buff *skb, struct cpu *c)
{
	struct walk *w = &c->walk;
	__u64 outer = *(__u64 *)w->outer, inner = *(__u64 *)w->inner, meta, hash;
	__u32 a = bpf_ntohl((__u32)outer), b = bpf_ntohl(outer >> 32), swapped, index, first;
	struct group4 *g;

	if (w->depth != 1 || (w->flags & (WALK_OUTER6 | WALK_INNER6 | WALK_INNER | WALK_FIRST)) != WALK_INNER)
		return 0;
	if (unlikely(a == b)) {
		a = bpf_ntohl((__u32)inner);
		b = bpf_ntohl(inner >> 32);
	}
	swapped = a > b;
	if (swapped) {
		outer = outer >> 32 | outer << 32;
		inner = inner >> 32 | inner << 32;
	}
	meta = meta4(w->id[0], w->kind[0], w->row_flags | (swapped ^ w->hook ? ROW_DIR : 0), shard());
	hash = hash4(meta, outer, inner);
	index = GROUP_OF(hash, 0, cfg_mask4);
	first = PLACE_OF(hash);
	g = bpf_map_lookup_elem(&rows4, &index);
	if (!g)
		return 0;
	_Pragma("clang loop unroll(disable)") for (__u32 j = 0; j < GROUP; j++)
	{
		struct slot4 *s = &g->slot[(first + j) & (GROUP - 1)];

		if (*(volatile __u32 *)&s->tag == TAG_OF(hash) && SAME4(s)) {
			weigh(skb, w);
			ADD_TO(s, w);
			book(c, w->hook, CELL_COUNTED);
			return 1;
		}
	}
	return 0;
}

static __always_inline int same_key6(const struct slot6 *s, const struct key6 *key)
{
	const __u64 *a = (const __u64 *)&s->key, *b = (const __u64 *)key;
	__u64 differ = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

#define SAME6(s) same_key6(s, key)
#define COPY6(s) ((s)->key = *key)

static __always_inline int count6(struct walk *w, const struct key6 *key)
{
	__u64 hash = hash6(key);

	return FIND_OR_MAKE(rows6, group6, cfg_mask6, hash, w, SAME6, COPY6);
}

/* The tunnel's `other` row: what the row was, without its inside. */
static __always_inline int count_other(struct walk *w, struct key6 *key)
{
	__u64 hash;

	key->flags = (key->flags & ~ROW_INNER6) | ROW_NO_PAIR | ROW_OTHER;
	__builtin_memset(key->inner, 0, sizeof(key->inner));
	key->inner[0][0] = INNER_REASON | REASON_OTHER;
	hash = hash6(key);
	return FIND_OR_MAKE(others, group6, cfg_mask_others, hash, w, SAME6, COPY6);
}

#endif
