/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* GRE, and the protocols identified by its type: PPTP, EoIP, ERSPAN, WCCP. */
#ifndef TMON_PARSE_GRE_H
#define TMON_PARSE_GRE_H

#include "../walk.h"

static __always_inline __u32 gre_type(const struct gre *h)
{
	return bpf_ntohs(h->type);
}

/*
 * GRE version 0, RFC 2784 and 2890, by its flags: s->size includes all fields except source routes.
 * Returns the offset of the key, if there is one.
 */
static __always_inline __u32 gre_read(const struct gre *h, __u32 flags, struct seen *s)
{
	__u32 key = sizeof(*h) + (flags & (GRE_CSUM | GRE_ROUTING) ? 4 : 0);

	s->size = key + (flags & GRE_KEY ? 4 : 0) + (flags & GRE_SEQ ? 4 : 0);
	s->proto = gre_type(h);
	return key;
}

/* GRE's kind, by its payload. */
static __always_inline __u32 gre_kind(__u32 type)
{
	return type == ETHERTYPE_TEB ? KIND_GRETAP : KIND_GRE;
}

/* Whether the payload of GRE is read without STATE KIND_GRE. */
static __always_inline int gre_is_common(__u32 type)
{
	return type == ETHERTYPE_TEB || type == ETHERTYPE_IP || type == ETHERTYPE_IPV6;
}

/* off: the header. Anything but version 0 with IP or Ethernet inside goes to STATE KIND_GRE. */
static __always_inline __u32 gre(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				 __u32 state)
{
	struct gre *h = bytes_at(skb, off, sizeof(*h), end);
	__u32 flags, key_at, id = 0;
	struct seen s;

	if (unlikely(!h))
		return lacking(skb, w, off, sizeof(*h), end, state);
	flags = bpf_ntohs(h->flags);
	key_at = gre_read(h, flags, &s);
	if (unlikely(flags & (GRE_VERSION | GRE_ROUTING) || !gre_is_common(s.proto))) {
		w->off = off;
		w->end = end;
		return KIND_GRE;
	}
	if (flags & GRE_KEY) {
		__be32 *key = bytes_at(skb, off + key_at, sizeof(*key), end);

		if (unlikely(!key))
			return lacking(skb, w, off + key_at, sizeof(*key), end, state);
		id = bpf_ntohl(*key);
	}
	if (unlikely(off + s.size > end))
		return lacking(skb, w, off, s.size, end, state);
	if (unlikely(flags & GRE_SEQ) && note_word(skb, w, off + s.size - 4, end, state))
		return STATE_PULL;
	return tunnel(w, gre_kind(s.proto), id, flags & GRE_KEY, off + s.size, end, s.proto);
}

/* ERSPAN, draft-foschiano-erspan: type I without a sequence number, II with one; 0x22eb is III. */
static __always_inline __u32 erspan(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 type,
				    int sequence)
{
	__u32 size = 8, session, frame = 0;
	__u8 *p;

	if (type == ETHERTYPE_ERSPAN && !sequence)
		return tunnel(w, KIND_ERSPAN, 0, 0, off, w->end, ETHERTYPE_TEB);
	p = bytes_at(skb, off, size, w->end);
	if (!p)
		return lacking(skb, w, off, size, w->end, KIND_GRE);
	if (p[0] >> 4 != 1 && p[0] >> 4 != 2) /* implementations disagree about which is whose */
		return STOP(MALFORMED);
	session = (p[2] & 3) << 8 | p[3];
	if (type == ETHERTYPE_ERSPAN3) {
		size = 12;
		p = bytes_at(skb, off, 12, w->end);
		if (!p)
			return lacking(skb, w, off, 12, w->end, KIND_GRE);
		frame = p[10] >> 2 & 0x1f; /* 0: Ethernet, 2: IP */
		if (p[11] & 1)
			size += 8;
	}
	return tunnel(w, KIND_ERSPAN, session, 1, off + size, w->end,
		      frame == 0 ? ETHERTYPE_TEB :
		      frame == 2 ? PAYLOAD_GUESS :
				   PAYLOAD_UNKNOWN);
}

/* PPTP, RFC 2637, and EoIP: GRE version 1 with a payload length and an id in place of the key. */
static __always_inline __u32 gre_one(struct __sk_buff *skb, struct walk *w, __u32 flags, __u32 type)
{
	__u32 off = w->off + sizeof(struct gre), end = w->end, length, id;
	__be16 *key = bytes_at(skb, off, 4, end);

	if (!(flags & GRE_KEY) || flags & (GRE_CSUM | GRE_ROUTING) ||
	    (type != ETHERTYPE_PPP && type != ETHERTYPE_EOIP))
		return STOP(MALFORMED);
	if (!key)
		return lacking(skb, w, off, 4, end, KIND_GRE);
	length = bpf_ntohs(key[0]);
	id = type == ETHERTYPE_EOIP ? __builtin_bswap16(bpf_ntohs(key[1])) : bpf_ntohs(key[1]);
	off += 4;
	if (type == ETHERTYPE_PPP && flags & GRE_SEQ && note_word(skb, w, off, end, KIND_GRE))
		return STATE_PULL;
	if (type == ETHERTYPE_PPP)
		off += (flags & GRE_SEQ ? 4 : 0) + (flags & GRE_ACK ? 4 : 0);
	if (off > end)
		return lacking(skb, w, off - 4, 4, end, KIND_GRE);
	narrow(w, off, length, &end);
	if (type == ETHERTYPE_EOIP)
		return tunnel(w, KIND_EOIP, id, 1, off, end, ETHERTYPE_TEB);
	if (!(flags & GRE_SEQ) || !length)
		return tunnel_of(w, KIND_PPTP, id, 1, INNER_REASON | REASON_CONTROL);
	return tunnel(w, KIND_PPTP, id, 1, off, end, PAYLOAD_PPP);
}

/*
 * The rest of GRE: version 1, source routes (RFC 1701), every other payload type, and GRE in UDP
 * (RFC 8086), whose kind is in walk.port.
 */
static __always_inline __u32 gre_rest(struct __sk_buff *skb, struct walk *w, __u32 kind)
{
	struct gre *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 off = w->off, flags, type, key_at, id = 0;
	int in_udp = kind == KIND_GRE_UDP;
	struct seen s;

	if (!h)
		return in_udp ? short_of(skb, w, off, sizeof(*h), w->end, kind) :
				lacking(skb, w, off, sizeof(*h), w->end, kind);
	flags = bpf_ntohs(h->flags);
	key_at = off + gre_read(h, flags, &s);
	type = s.proto;
	if ((flags & GRE_VERSION) == 1 && !in_udp)
		return gre_one(skb, w, flags, type);
	if (flags & GRE_VERSION)
		return in_udp ? suspect(w) : STOP(MALFORMED);
	if (flags & GRE_KEY) {
		__be32 *key = bytes_at(skb, key_at, 4, w->end);

		if (!key)
			return in_udp ? short_of(skb, w, key_at, 4, w->end, kind) :
					lacking(skb, w, key_at, 4, w->end, kind);
		id = bpf_ntohl(*key);
	}
	off += s.size;
	if (flags & GRE_SEQ && note_word(skb, w, off - 4, w->end, kind))
		return STATE_PULL;
	if (flags & GRE_ROUTING) {
		__u32 length = 1, family = 1;

		for (int i = 0; i < MAX_ROUTES && (length || family); i++) {
			struct gre_route *route = bytes_at(skb, off, sizeof(*route), w->end);

			if (!route)
				return in_udp ?
					       short_of(skb, w, off, sizeof(*route), w->end, kind) :
					       lacking(skb, w, off, sizeof(*route), w->end, kind);
			length = route->length;
			family = route->family;
			off += sizeof(*route) + length;
		}
		if (length || family)
			return STOP(TOO_DEEP);
	}
	if (off > w->end)
		return in_udp ? short_of(skb, w, off - 4, 4, w->end, kind) :
				lacking(skb, w, off - 4, 4, w->end, kind);
	if (!in_udp) {
		if (type == ETHERTYPE_ERSPAN || type == ETHERTYPE_ERSPAN3)
			return erspan(skb, w, off, type, flags & GRE_SEQ);
		kind = gre_kind(type);
	}
	/* in GRE, Cisco metadata has a different format than in Ethernet */
	if (type < ETHERTYPE_MIN || type == ETHERTYPE_CMD || off == w->end)
		return tunnel_of(w, kind, id, flags & GRE_KEY,
				 off == w->end ? INNER_REASON | REASON_NONE : type);
	return tunnel(w, kind, id, flags & GRE_KEY, off, w->end, type);
}

/* Cisco's WCCP redirect in GRE: IP after a 4 byte header, which its first version omitted. */
static __always_inline __u32 wccp(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 1, w->end);

	if (!p)
		return lacking(skb, w, w->off, 1, w->end, STATE_LINK);
	return next_layer(w, *p >> 4 == 4 ? w->off : w->off + 4, w->end, PAYLOAD_GUESS);
}

#endif
