/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Probed rows: their packets, and no others, come here after they have been counted. A prober is a
 * process that examines rows: its expression selects them, and its flags say what it wants. It
 * renews its lease at least once a second. Three seconds after the last renewal it is considered
 * gone, and rows that only it selected are released.
 *
 * Only this code decides which rows a prober selects: for new rows, for rows that user space sends
 * here because they may be selected, and for all probed rows when a prober comes or goes. The
 * decision is kept beside the row; if there is no room for it, it is made again for each packet.
 */
#ifndef TMON_PROBE_H
#define TMON_PROBE_H

#include "beside.h"
#include "meant.h"
#include "probers.h"

#define PROBE_TRIES 16 /* consecutive slots that are searched for a row */

/* Whether the prober's lease has expired. */
static __always_inline int is_gone(const struct prober *p, __u64 now)
{
	__u64 lease = *(volatile __u64 *)&p->lease;

	return (__s64)(now - lease) > (__s64)PROBE_LEASE;
}

/* Stops comparing the prober's expression. Decisions made before this are made again. */
static __always_inline void give_up(__u32 i)
{
	__u32 was = __sync_fetch_and_and(&probing.stops, ~(1U << i));

	barrier_var(was);
	was = __sync_fetch_and_and(&probing.active, ~(1U << i));
	barrier_var(was);
	if (was >> i & 1) {
		was = __sync_fetch_and_add(&probing.generation, 1);
		barrier_var(was);
	}
}

/* The key under which a decision is kept: both directions and all shards are one row. */
static __always_inline struct key6 probed_key(const struct cpu *c)
{
	struct key6 key = c->key;

	key.flags &= ~ROW_DIR;
	key.shard = 0;
	return key;
}

/* Recalls the decision about the packet's row, if it still holds. */
static __always_inline int recall(struct cpu *c)
{
	struct key6 key = probed_key(c);
	__u32 row = c->owner & OWNER_ASK, now = NOW(c, 0);
	struct probe_slot *s;

	if (row >= PROBES)
		return 0;
	s = ELEMENT(probes, row);
	if (!s || !s->tag || s->probe.generation != *(volatile __u32 *)&probing.generation ||
	    !same_words((__u64 *)&s->key, (const __u64 *)&key, WORDS(key)))
		return 0;
	if (s->probe.seen != now)
		s->probe.seen = now;
	c->wanted = s->probe.wanted;
	c->row = row;
	return 1;
}

/* The row's slot in `probes`, found or created; OWNER_ASK if there is no room. */
static __always_inline __u32 probe_place(const struct key6 *key)
{
	__u64 hash = hash_words((const __u64 *)key, WORDS(*key));
	__u32 tag = BESIDE_TAG(hash);

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PROBE_TRIES; i++)
	{
		__u32 place = (BESIDE_HOME(hash) + i) & (PROBES - 1);
		struct probe_slot *s = ELEMENT(probes, place);

		if (!s)
			return OWNER_ASK;
		if (!s->tag) {
			bpf_spin_lock(&s->lock);
			if (!s->tag) {
				s->key = *key;
				s->tag = tag;
			}
			bpf_spin_unlock(&s->lock);
		}
		if (s->tag == tag && same_words((__u64 *)&s->key, (const __u64 *)key, WORDS(*key)))
			return place;
	}
	return OWNER_ASK;
}

/* Sets the owner word of the slot that counted the packet, unless it has changed meanwhile. */
static __always_inline void set_owner(const struct cpu *c, __u32 owner)
{
	__u32 slot = c->place & ((1U << PLACE_TABLE) - 1), table = c->place >> PLACE_TABLE, *word;
	struct slot4 *s4;
	struct slot6 *s6;

	if (table == PLACE_rows4) {
		s4 = ELEMENT(rows4, slot);
		if (!s4)
			return;
		word = &s4->owner;
	} else {
		if (table == PLACE_rows6)
			s6 = ELEMENT(rows6, slot);
		else
			s6 = ELEMENT(others, slot);
		if (!s6)
			return;
		word = &s6->owner;
	}
	owner = __sync_val_compare_and_swap(word, c->owner, owner);
	barrier_var(owner);
}

/* Decides which probers want the packet's row. If none does, the row is released. */
static __always_inline void choose(struct cpu *c)
{
	__u32 generation = *(volatile __u32 *)&probing.generation, now = NOW(c, 0);
	__u32 active = IS_PROBING, wanted = 0, row;
	struct key6 key = probed_key(c);
	__u64 time = bpf_ktime_get_ns();
	struct probe_slot *s;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PROBERS; i++)
	{
		if (!(active >> i & 1))
			continue;
		if (is_gone(&probing.prober[i], time))
			give_up(i);
		else
			wanted |= is_meant(&probing.prober[i], &key) << i;
		barrier_var(wanted);
	}
	c->chosen = 1;
	c->wanted = wanted;
	c->row = OWNER_ASK;
	if (!wanted) {
		set_owner(c, c->owner >> OWNER_BEFORE);
		return;
	}
	row = probe_place(&key);
	if (row < PROBES) {
		s = ELEMENT(probes, row);
		if (s) {
			bpf_spin_lock(&s->lock);
			s->probe.wanted = wanted;
			s->probe.generation = generation;
			s->probe.seen = now;
			bpf_spin_unlock(&s->lock);
		}
	}
	c->row = row;
	if ((c->owner & OWNER_ASK) != row)
		set_owner(c, PROBED(c->owner >> OWNER_BEFORE, row));
}

#define TAG_AT 12 /* the offset of a frame's VLAN tag, which the kernel keeps outside it */

/* Copies the packet's first bytes as they were on the wire. Returns 0 if it is shorter. */
static __always_inline int copy_packet(struct __sk_buff *skb, __u8 *to, __u32 size, __u32 room)
{
	__u32 from = 0;

	if (unlikely(skb->vlan_present)) {
		if (bpf_skb_load_bytes(skb, 0, to, TAG_AT))
			return 0;
		*(__be16 *)(to + TAG_AT) = skb->vlan_proto;
		*(__be16 *)(to + TAG_AT + 2) = bpf_htons(skb->vlan_tci);
		if (size <= TAG_AT + sizeof(struct vlan))
			return 1;
		from = TAG_AT;
		size -= TAG_AT + sizeof(struct vlan);
		room -= TAG_AT + sizeof(struct vlan);
		to += TAG_AT + sizeof(struct vlan);
	}
	size--; /* so that every verifier knows that it is not zero */
	barrier_var(size);
	if (size >= room)
		return 0;
	return !bpf_skb_load_bytes(skb, from, to, size + 1);
}

/* Copies the packet to the ring. The verifier must know the size of the record: one of a few. */
#define CATCH(ring, room)                                                             \
	do {                                                                          \
		struct caught *r = bpf_ringbuf_reserve(ring, sizeof(*r) + (room), 0); \
                                                                                      \
		if (!r)                                                               \
			break;                                                        \
		r->time = now;                                                        \
		r->lost = p->full + p->over_limit;                                    \
		r->length = length;                                                   \
		r->size = size;                                                       \
		r->row = c->row == OWNER_ASK ? CAUGHT_ANY_ROW : c->row;               \
		r->interface = p->interface;                                          \
		r->cpu = c->number - 1;                                               \
		r->hook = c->walk.hook;                                               \
		if (!copy_packet(skb, (__u8 *)(r + 1), size, room)) {                 \
			bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                     \
			break;                                                        \
		}                                                                     \
		bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);                              \
		done = 1;                                                             \
	} while (0)

static __always_inline void catch (struct __sk_buff *skb, struct cpu *c, struct prober *p, __u32 i,
				   __u64 now)
{
	__u32 length = skb->len + (skb->vlan_present ? sizeof(struct vlan) : 0), size = p->snaplen;
	void *ring = bpf_map_lookup_elem(&probe_rings, &i);
	int done = 0;

	ADD(&p->matched, 1);
	if (is_over_limit(p, now)) {
		ADD(&p->over_limit, 1);
		return;
	}
	if (size > length)
		size = length;
	if (!ring)
		done = 0;
	else if (size <= 128)
		CATCH(ring, 128);
	else if (size <= 256)
		CATCH(ring, 256);
	else if (size <= 512)
		CATCH(ring, 512);
	else if (size <= 1600)
		CATCH(ring, 1600);
	else if (size <= 9216)
		CATCH(ring, 9216);
	else if (size <= 65792)
		CATCH(ring, 65792);
	else
		CATCH(ring, SNAPLEN);
	if (done)
		ADD(&p->written, 1);
	else
		ADD(&p->full, 1);
}

/* Does what each prober wants with the packet. */
static __always_inline void look(struct __sk_buff *skb, struct cpu *c)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 wanted = c->wanted;

	c->lens = 0; /* not in a register, whose bits the verifier would follow */
	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PROBERS; i++)
	{
		struct prober *p = &probing.prober[i];

		if (!(wanted >> i & 1))
			continue;
		if (is_gone(p, now)) {
			give_up(i);
			continue;
		}
		if (p->what & (PROBE_CATCH | PROBE_STOPS))
			catch (skb, c, p, i, now);
		if (p->what & PROBE_LENS && !(c->row & CAUGHT_STOP))
			c->lens |= 1U << i;
		if (p->what & PROBE_RTT && !(c->row & CAUGHT_STOP))
			c->lens |= LENS_RTT;
	}
}

#endif
