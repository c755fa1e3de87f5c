/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* IPv4, IPv6 and its extension headers: the same code at every level. */
#ifndef TMON_IP_H
#define TMON_IP_H

#include "walk.h"

/* The row's pair that the IP header in hand is: the outermost, or so far the innermost. */
static __always_inline __u64 *pair_of(struct walk *w)
{
	return w->depth ? w->inner : w->outer;
}

/*
 * A fragment at this level. Of an outer packet the first is read on and remembered, a later one
 * belongs where the first one went; of an inner packet a later one has its pair and no more.
 */
static __always_inline __u32 fragment(struct walk *w, __u32 offset, __u32 id, __u32 proto)
{
	if (w->depth) {
		w->flags |= offset ? WALK_LAST : WALK_CUT;
		return 0;
	}
	w->fragment_id = id;
	w->fragment_proto = proto;
	if (offset)
		return STATE_FRAGMENT;
	w->flags |= WALK_FIRST | WALK_CUT;
	return 0;
}

/*
 * IPv4, RFC 791. off: the header. Sets *off behind it, *end to the packet's own end and *proto
 * to what follows. Returns 0, or the verdict that ends here.
 */
static __always_inline __u32 ip4_header(struct __sk_buff *skb, struct walk *w, __u32 *off,
					__u32 *end, __u32 *proto, __u32 state)
{
	struct ip4 *ip = bytes_at(skb, *off, sizeof(*ip), *end);
	__u32 header, length, frag;
	__u64 *pair = pair_of(w);

	if (unlikely(!ip))
		return lacking(skb, w, *off, sizeof(*ip), *end, state);
	header = (ip->version_ihl & 0x0f) * 4;
	length = bpf_ntohs(ip->length);
	if (unlikely(ip->version_ihl >> 4 != 4 || header < sizeof(*ip)))
		return STOP(MALFORMED);
	if (likely(length)) { /* 0: larger than the field can say */
		if (unlikely(length < header))
			return STOP(MALFORMED);
		narrow(w, *off, length, end);
	}
	pair[0] = *(__u64 *)&ip->src;
	w->flags |= w->depth ? WALK_INNER : 0;
	*proto = ip->proto;
	frag = bpf_ntohs(ip->fragment);
	if (unlikely(frag & (IP4_MORE | IP4_OFFSET))) {
		__u32 v = fragment(w, frag & IP4_OFFSET, ip->id, ip->proto);

		if (v)
			return v;
	}
	if (unlikely(header > sizeof(*ip))) { /* options: skipped, but they have to be there */
		if (!bytes_at(skb, *off, header, *end))
			return lacking(skb, w, *off, header, *end, state);
	}
	*off += header;
	return 0;
}

/* IPv6, RFC 8200; as ip4_header(), *proto may be an extension header's. */
static __always_inline __u32 ip6_header(struct __sk_buff *skb, struct walk *w, __u32 *off,
					__u32 *end, __u32 *proto, __u32 state)
{
	struct ip6 *ip = bytes_at(skb, *off, sizeof(*ip), *end);
	__u64 *pair = pair_of(w);
	__u32 length;

	if (unlikely(!ip))
		return lacking(skb, w, *off, sizeof(*ip), *end, state);
	if (unlikely(ip->version_class >> 4 != 6))
		return STOP(MALFORMED);
	length = bpf_ntohs(ip->payload);
	if (likely(length)) /* 0: a jumbogram, or larger than the field can say */
		narrow(w, *off, sizeof(*ip) + length, end);
	pair[0] = *(__u64 *)&ip->src[0];
	pair[1] = *(__u64 *)&ip->src[2];
	pair[2] = *(__u64 *)&ip->dst[0];
	pair[3] = *(__u64 *)&ip->dst[2];
	w->flags |= WALK_HERE6 | (w->depth ? WALK_INNER | WALK_INNER6 : WALK_OUTER6);
	*proto = ip->next;
	*off += sizeof(*ip);
	return 0;
}

static __always_inline int is_ext(struct walk *w, __u32 proto)
{
	if (proto == PROTO_AH)
		return 1;
	return (w->flags & WALK_HERE6) && (proto == PROTO_HOPOPTS || proto == PROTO_ROUTING ||
					   proto == PROTO_FRAGMENT || proto == PROTO_DSTOPTS);
}

/*
 * Extension headers and AH, RFC 8200 and 4302. walk: off at the first of them, ip_proto says which.
 * Ends in STATE_TRANSPORT with the protocol behind them, STATE_FRAGMENT, truncated, malformed or
 * too_deep.
 */
static __always_inline __u32 ext_headers(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off, proto = w->ip_proto, flags = 0, count = 0;
	int more = is_ext(w, proto);

	/* The condition is at the end: 6.1 takes no loop that is entered in its middle
	 * ("back-edge"). */
	while (more) {
		struct ip6_ext *ext;
		__u32 size;

		ext = bytes_at(skb, off, 8, w->end);
		if (!ext)
			return lacking(skb, w, off, 8, w->end, STATE_EXT);
		if (proto == PROTO_FRAGMENT) {
			struct ip6_frag *frag = (void *)ext;
			__u32 where = bpf_ntohs(frag->offset);

			if (where & (IP6_OFFSET | IP6_MORE)) { /* neither: atomic, RFC 6946 */
				__u32 v = fragment(w, where & IP6_OFFSET, frag->id, frag->next);

				if (v)
					return v;
				if (where & IP6_OFFSET) { /* of an inner packet: its pair is all
							     there is to read */
					w->off = off + 8;
					w->ip_proto = frag->next;
					return VERDICT_END;
				}
			}
			size = 8;
		} else if (proto == PROTO_AH) {
			size = (ext->length + 2) * 4;
			flags |= WALK_AH;
		} else {
			size = (ext->length + 1) * 8;
			if (proto == PROTO_ROUTING && ext->type == ROUTING_SEGMENTS)
				flags |= WALK_SRH;
			if (proto == PROTO_HOPOPTS && ext->type == OPTION_JUMBO &&
			    size == JUMBO_HEADER)
				flags |= WALK_JUMBO;
		}
		proto = ext->next;
		if (!bytes_at(skb, off, size, w->end))
			return lacking(skb, w, off, size, w->end, STATE_EXT);
		off += size;
		more = is_ext(w, proto);
		if (more && ++count == MAX_EXTS)
			return STOP(TOO_DEEP);
	}
	w->off = off;
	w->ip_proto = proto;
	w->flags |= flags;
	return STATE_TRANSPORT;
}

#endif
