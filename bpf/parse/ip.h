/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* IPv4, IPv6 and its extension headers, with the same code at every level. IP in IP. */
#ifndef TMON_PARSE_IP_H
#define TMON_PARSE_IP_H

#include "../walk.h"

/* The pair of the row for the current IP header: the outermost, or the innermost so far. */
static __always_inline __u64 *pair_of(struct walk *w)
{
	return w->depth ? w->inner : w->outer;
}

/*
 * A fragment at this level. For an outer packet, the first is read further and remembered, and a
 * later one belongs to the row of the first; for an inner packet, a later one has only its pair.
 */
static __always_inline __u32 fragment(struct walk *w, __u32 offset, __u32 id, __u32 proto)
{
	if (w->depth) {
		w->flags |= offset ? WALK_LAST : WALK_CUT;
		w->declared = NOT_DECLARED;
		return 0;
	}
	w->fragment_id = id;
	w->fragment_proto = proto;
	if (offset)
		return STATE_FRAGMENT;
	w->flags |= WALK_FIRST | WALK_CUT;
	w->declared = NOT_DECLARED;
	return 0;
}

/* The contents of an IP header. */
struct ip_seen {
	__u32 size;
	__u32 length; /* IPv4: of the packet, IPv6: of the payload; 0: exceeds the field */
	__u32 proto;
	__be16 fragment; /* IPv4: nonzero in a fragment */
};

/* IPv4, RFC 791. Returns 0 if it is not a valid header. */
static __always_inline int ip4_read(const struct ip4 *ip, struct ip_seen *s)
{
	__u32 first = ip->version_ihl;

	s->size = sizeof(*ip);
	s->length = bpf_ntohs(ip->length);
	s->proto = ip->proto;
	s->fragment = ip->fragment & bpf_htons(IP4_MORE | IP4_OFFSET);
	if (likely(first == IP4_PLAIN))
		return 1;
	s->size = (first & 0x0f) * 4;
	return first >> 4 == 4 && s->size >= sizeof(*ip);
}

/* IPv6, RFC 8200. The protocol may be that of an extension header. Returns 0 if it is not valid. */
static __always_inline int ip6_read(const struct ip6 *ip, struct ip_seen *s)
{
	s->size = sizeof(*ip);
	s->length = bpf_ntohs(ip->payload);
	s->proto = ip->next;
	s->fragment = 0;
	return ip->version_class >> 4 == 6;
}

/*
 * IPv4, RFC 791. off: the header. Sets *off to its end, *end to the end of the packet and *proto to
 * what follows. Returns 0, or the verdict that ends here.
 */
static __always_inline __u32 ip4_header(struct __sk_buff *skb, struct walk *w, __u32 *off,
					__u32 *end, __u32 *proto, __u32 state)
{
	struct ip4 *ip = bytes_at(skb, *off, sizeof(*ip), *end);
	__u64 *pair = pair_of(w);
	struct ip_seen s;

	if (unlikely(!ip))
		return lacking(skb, w, *off, sizeof(*ip), *end, state);
	if (unlikely(!ip4_read(ip, &s)))
		return STOP(MALFORMED);
	if (likely(s.length)) {
		if (unlikely(s.length < s.size))
			return STOP(MALFORMED);
		narrow(w, *off, s.length, end);
	}
	NOTE_PAYLOAD(w, *off, *end, ETHERTYPE_IP);
	NOTE_IP(w, *off);
	pair[0] = *(__u64 *)&ip->src;
	w->flags |= w->depth ? WALK_INNER : 0;
	*proto = s.proto;
	if (unlikely(s.fragment)) {
		__u32 v = fragment(w, bpf_ntohs(s.fragment) & IP4_OFFSET, ip->id, s.proto);

		if (v)
			return v;
	}
	if (unlikely(s.size > sizeof(*ip))) { /* options are skipped, but must be present */
		if (!bytes_at(skb, *off, s.size, *end))
			return lacking(skb, w, *off, s.size, *end, state);
	}
	*off += s.size;
	return 0;
}

/* IPv6, RFC 8200; like ip4_header(), *proto may be that of an extension header. */
static __always_inline __u32 ip6_header(struct __sk_buff *skb, struct walk *w, __u32 *off,
					__u32 *end, __u32 *proto, __u32 state)
{
	struct ip6 *ip = bytes_at(skb, *off, sizeof(*ip), *end);
	__u64 *pair = pair_of(w);
	struct ip_seen s;

	if (unlikely(!ip))
		return lacking(skb, w, *off, sizeof(*ip), *end, state);
	if (unlikely(!ip6_read(ip, &s)))
		return STOP(MALFORMED);
	if (likely(s.length)) /* 0: a jumbogram, or larger than fits the field */
		narrow(w, *off, s.size + s.length, end);
	NOTE_PAYLOAD(w, *off, *end, ETHERTYPE_IPV6);
	NOTE_IP(w, *off);
	pair[0] = *(__u64 *)&ip->src[0];
	pair[1] = *(__u64 *)&ip->src[2];
	pair[2] = *(__u64 *)&ip->dst[0];
	pair[3] = *(__u64 *)&ip->dst[2];
	w->flags |= WALK_HERE6 | (w->depth ? WALK_INNER | WALK_INNER6 : WALK_OUTER6);
	*proto = s.proto;
	*off += s.size;
	return 0;
}

/*
 * Verifies an IPv4 header checksum (RFC 1071) from the sum of the header's 32-bit words, which must
 * be a multiple of 65535. The constant is the inverse of 65535 modulo 2^64: the product is a small
 * number exactly if the division leaves no remainder.
 */
static __always_inline int sum_is_right(__u64 sum)
{
	return sum * 0xfffefffefffeffffULL <= 0x0001000100010001ULL;
}

/* The sum of the words of an IPv4 header without options. */
static __always_inline __u64 sum_of(const struct ip4 *ip)
{
	const __u32 *word = (const __u32 *)ip;

	return (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
}

/*
 * IPv6 has no checksum. A plausible header has a length that leaves at most Ethernet padding (or an
 * FCS) after the packet, a source that is not multicast, and a destination that is not unspecified.
 * room: bytes after the header, unless unknown.
 */
static __always_inline int is_likely6(const struct ip6 *ip, __u32 room, int unknown)
{
	__u32 length = bpf_ntohs(ip->payload);

	if (*(__u8 *)ip->src == 0xff || !(ip->dst[0] | ip->dst[1] | ip->dst[2] | ip->dst[3]))
		return 0;
	if (unknown || (!length && ip->next == PROTO_HOPOPTS)) /* a jumbogram */
		return 1;
	return length <= room && room - length <= ETHERNET_PADDING &&
	       (length || ip->next == PROTO_NONE);
}

/*
 * Identifies a payload whose type no header gives: that of MPLS (RFC 4928), of GTP-U, of anything
 * that may carry Ethernet as well as IP. The MAC address of a pseudowire's frame can also start
 * with 4 or 6 (RFC 8469), so the first nibble alone proves nothing:
 *  - IPv4 must fit into the packet and have a correct header checksum; a checksum of zero (left to
 *    the hardware) is accepted where the length matches exactly;
 *  - IPv6 must fit into the packet and look plausible, see is_likely6().
 * If the packet was truncated or is a first fragment (WALK_CUT), "the packet" is what the last
 * header declared it to be; if nothing declared that, lengths are not checked. If the header to
 * check is incomplete, the packet is truncated.
 *
 * Sets *proto to ETHERTYPE_IP, ETHERTYPE_IPV6 or PAYLOAD_UNKNOWN and returns 0, or returns the
 * verdict that ends here.
 */
static __always_inline __u32 guess(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				   __u32 *proto, __u32 state)
{
	__u8 *first = bytes_at(skb, off, 1, end);
	__u32 cut = w->flags & WALK_CUT, limit = cut ? w->declared : end, size, room;

	if (!first)
		return lacking(skb, w, off, 1, end, state);
	*proto = PAYLOAD_UNKNOWN;
	if (*first >> 4 == 6)
		size = sizeof(struct ip6);
	else if (*first >= 0x45 && *first <= 0x4f)
		size = (*first & 0x0f) * 4;
	else
		return 0;
	if (off + size > limit)
		return 0;
	if (!bytes_at(skb, off, size, end))
		return lacking(skb, w, off, size, end, state);
	room = limit - off - size;
	if (*first >> 4 == 6) {
		struct ip6 *ip = bytes_at(skb, off, sizeof(*ip), end);

		if (ip && is_likely6(ip, room, limit == NOT_DECLARED))
			*proto = ETHERTYPE_IPV6;
	} else {
		struct ip4 *ip = bytes_at(skb, off, sizeof(*ip), end);
		__u32 length;
		__u64 sum;

		if (!ip)
			return 0;
		length = bpf_ntohs(ip->length);
		sum = sum_of(ip);
		for (__u32 i = sizeof(*ip); i < 60; i += sizeof(__u32)) {
			__u32 *option = bytes_at(skb, off + i, sizeof(*option), end);

			if (i >= size || !option)
				break;
			sum += *option;
		}
		if (ip->check ? sum_is_right(sum) &&
					(!length || (length >= size && length - size <= room)) :
				length == size + room)
			*proto = ETHERTYPE_IP;
	}
	return 0;
}

/* STATE_GUESS. walk: off at a possible IP header. */
static __always_inline __u32 guessed(struct __sk_buff *skb, struct walk *w)
{
	__u32 proto, v;

	if (w->off == w->end)
		return w->depth ? inside_is(w, INNER_REASON | REASON_NONE) : STOP(NON_IP);
	v = guess(skb, w, w->off, w->end, &proto, STATE_GUESS);
	if (v)
		return v;
	if (proto == PAYLOAD_UNKNOWN)
		return w->depth ? inside_is(w, INNER_REASON | REASON_UNKNOWN) : STOP(NON_IP);
	w->proto = proto;
	return STATE_HEADERS;
}

static __always_inline int is_ext(struct walk *w, __u32 proto)
{
	if (proto == PROTO_AH)
		return 1;
	return (w->flags & WALK_HERE6) && (proto == PROTO_HOPOPTS || proto == PROTO_ROUTING ||
					   proto == PROTO_FRAGMENT || proto == PROTO_DSTOPTS);
}

/*
 * Extension headers and AH, RFC 8200 and 4302. walk: off at the first of them, whose type is
 * ip_proto. Ends in STATE_TRANSPORT with the protocol after them, STATE_FRAGMENT, truncated,
 * malformed or too_deep.
 */
static __always_inline __u32 ext_headers(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off, proto = w->ip_proto, flags = 0, count = 0;
	int more = is_ext(w, proto);

	/* The condition is at the end: the verifier of 6.1 rejects loops that are entered
	 * in the middle ("back-edge"). */
	while (more) {
		struct ip6_ext *ext;
		__u32 size;

		ext = bytes_at(skb, off, 8, w->end);
		if (!ext)
			return lacking(skb, w, off, 8, w->end, STATE_EXT);
		if (proto == PROTO_FRAGMENT) {
			struct ip6_frag *frag = (void *)ext;
			__u32 where = bpf_ntohs(frag->offset);

			if (where & (IP6_OFFSET | IP6_MORE)) { /* else it is atomic, RFC 6946 */
				__u32 v = fragment(w, where & IP6_OFFSET, frag->id, frag->next);

				if (v)
					return v;
				if (where & IP6_OFFSET) { /* of an inner packet: only its pair can
							     be read */
					w->off = off + 8;
					w->ip_proto = frag->next;
					NOTE_TRANSPORT(w, off + 8, w->end, frag->next);
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
		off = unknown(w, off + size);
		more = is_ext(w, proto);
		if (more && ++count == MAX_EXTS)
			return STOP(TOO_DEEP);
	}
	w->off = off;
	w->ip_proto = proto;
	w->flags |= flags;
	return STATE_TRANSPORT;
}

/* IP in IP, RFC 2003, 2473, 4213: the kind, by the versions outside and inside. */
static __always_inline __u32 ip_in_ip_kind(int outer6, int inner6)
{
	return outer6 ? (inner6 ? KIND_6IN6 : KIND_4IN6) : (inner6 ? KIND_6IN4 : KIND_IPIP);
}

/* After a segment routing or authentication header, that determines the kind. */
static __always_inline __u32 ip_in_ip(struct walk *w, __u32 off, __u32 end, int v6)
{
	__u32 kind = ip_in_ip_kind(w->flags & WALK_HERE6, v6);

	if (unlikely(w->flags & (WALK_SRH | WALK_AH)))
		kind = w->flags & WALK_AH ? KIND_AH : KIND_SRV6;
	return tunnel(w, kind, 0, 0, off, end, v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
}

#endif
