/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* CAPWAP data, and the 802.11 frames that access points send in it. */
#ifndef TMON_PARSE_CAPWAP_H
#define TMON_PARSE_CAPWAP_H

#include "../walk.h"

/* RFC 5415, section 4.3 */
struct capwap {
	__u8 preamble;	 /* version, then type: header or DTLS */
	__u8 bits[3];	 /* length in words, radio, binding, flags */
	__be16 fragment; /* id of the fragmented datagram */
	__be16 offset;	 /* in units of 8 bytes, above 3 reserved bits */
};

/* Fields of the first word. */
#define CAPWAP_WORDS(word)   ((word) >> 19 & 0x1f)
#define CAPWAP_RADIO(word)   ((word) >> 14 & 0x1f)
#define CAPWAP_BINDING(word) ((word) >> 9 & 0x1f)
#define CAPWAP_DTLS	     0x01000000 /* the whole word */
#define CAPWAP_NATIVE	     0x100	/* native frames of the binding, not 802.3 */
#define CAPWAP_FRAGMENT	     0x080
#define CAPWAP_WIRELESS	     0x020 /* wireless specific information is present */
#define CAPWAP_MAC	     0x010 /* a radio MAC address is present */
#define CAPWAP_KEEPALIVE     0x008
#define CAPWAP_OFFSET	     0xfff8
#define BINDING_DOT11	     1

/* Optional headers: a length byte, that many bytes, padded to a word. */
#define CAPWAP_OPTION(length) (((length) + 4) & ~3U)

/*
 * CAPWAP data, RFC 5415. Keepalives are the tunnel protocol's own messages. A later CAPWAP fragment
 * reveals only its radio; the lengths in a first fragment may exceed it.
 */
static __always_inline __u32 capwap(struct __sk_buff *skb, struct walk *w)
{
	struct capwap *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 off = w->off, end = w->end, word, size, used = sizeof(*h), radio, offset;
	__u8 *p = (__u8 *)h;

	if (!h)
		return short_of(skb, w, off, sizeof(*h), end, KIND_CAPWAP);
	word = bpf_ntohl(*(__be32 *)h);
	if (word == CAPWAP_DTLS) { /* then a record, RFC 6347: type, version 1.0 or later */
		if (p[4] < 20 || p[4] > 26 || p[5] != 0xfe)
			return suspect(w);
		return tunnel_of(w, KIND_CAPWAP, 0, 0, INNER_REASON | REASON_ENCRYPTED);
	}
	size = CAPWAP_WORDS(word) * 4;
	if (h->preamble || size < sizeof(*h) || (off + size > end && !(w->flags & WALK_CUT)))
		return suspect(w);
	offset = bpf_ntohs(h->offset) & CAPWAP_OFFSET;
	radio = CAPWAP_RADIO(word);
	if (word & CAPWAP_MAC) {
		p = bytes_at(skb, off + used, 1, end);
		if (!p)
			return short_of(skb, w, off + used, 1, end, KIND_CAPWAP);
		if (*p != 6 && *p != 8) /* EUI-48, EUI-64 */
			return suspect(w);
		used += CAPWAP_OPTION(*p);
	}
	if (word & CAPWAP_WIRELESS) {
		p = bytes_at(skb, off + used, 1, end);
		if (!p)
			return short_of(skb, w, off + used, 1, end, KIND_CAPWAP);
		used += CAPWAP_OPTION(*p);
	}
	if (used > size || (offset && !(word & CAPWAP_FRAGMENT)))
		return suspect(w);
	if (word & CAPWAP_KEEPALIVE)
		return VERDICT_END;
	off += size;
	if (off == end)
		return tunnel_of(w, KIND_CAPWAP, radio, 1, INNER_REASON | REASON_NONE);
	if (offset)
		return tunnel_of(w, KIND_CAPWAP, radio, 1, INNER_REASON | REASON_FRAGMENT);
	if (word & CAPWAP_FRAGMENT) {
		w->flags |= WALK_CUT;
		w->declared = NOT_DECLARED;
	}
	return tunnel(w, KIND_CAPWAP, radio, 1, off, end,
		      !(word & CAPWAP_NATIVE)		    ? ETHERTYPE_TEB :
		      CAPWAP_BINDING(word) == BINDING_DOT11 ? PAYLOAD_DOT11 :
							      PAYLOAD_UNKNOWN);
}

#endif
