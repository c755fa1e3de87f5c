/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Ethernet, its tags, 802.3, and the headers between it and IP: below the first IP header, MPLS,
 * PPPoE, PBB and NSH are skipped; inside a tunnel they are tunnels themselves. Tags never are.
 */
#ifndef TMON_PARSE_LINK_H
#define TMON_PARSE_LINK_H

#include "../walk.h"

#define INLINE_TAGS 2 /* tags that STATE_HEADERS reads itself; more go to STATE_LINK */

static __always_inline int is_tag(__u32 type)
{
	return type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ || type == ETHERTYPE_QINQ1;
}

/*
 * The size of a tag after its own EtherType; its last two bytes are the EtherType of what follows.
 * 0: not a tag.
 */
static __always_inline __u32 tag_size(__u32 type)
{
	if (type >= ETHERTYPE_VLAN) { /* the smallest of them; ARP is below */
		switch (type) {
		case ETHERTYPE_VLAN:
		case ETHERTYPE_QINQ:
		case ETHERTYPE_QINQ1:
			return 4;
		case ETHERTYPE_VNTAG:
		case ETHERTYPE_HSR:
		case ETHERTYPE_RTAG:
			return 6;
		case ETHERTYPE_ETAG:
		case ETHERTYPE_CMD:
			return 8;
		}
	}
	if (cfg_tpid[0]) /* otherwise there are none */
		for (int i = 0; i < MAX_TPIDS; i++)
			if (cfg_tpid[i] && type == cfg_tpid[i])
				return 4;
	return 0;
}

/* Reads a type field of Ethernet or of a tag: below ETHERTYPE_MIN it is an 802.3 length. */
static __always_inline __u32 type_of(__be16 type)
{
	__u32 host = bpf_ntohs(type);

	return unlikely(host < ETHERTYPE_MIN) ? PAYLOAD_LLC | host : host;
}

/* An Ethernet header and up to `most` VLAN tags, IEEE 802.1Q. Sets *off to their end, *proto to the
 * type.
 */
static __always_inline __u32 ethernet(struct __sk_buff *skb, struct walk *w, __u32 *off, __u32 end,
				      __u32 *proto, int most, __u32 state)
{
	if (likely(*proto == ETHERTYPE_TEB)) {
		struct eth *eth = bytes_at(skb, *off, sizeof(*eth), end);

		if (unlikely(!eth))
			return lacking(skb, w, *off, sizeof(*eth), end, state);
		NOTE_PAYLOAD(w, *off, end, ETHERTYPE_TEB);
		*proto = type_of(eth->type);
		*off += sizeof(*eth);
	}
	for (int i = 0; i < most && unlikely(is_tag(*proto)); i++) {
		struct vlan *tag = bytes_at(skb, *off, sizeof(*tag), end);

		if (unlikely(!tag))
			return lacking(skb, w, *off, sizeof(*tag), end, state);
		*proto = type_of(tag->type);
		*off += sizeof(*tag);
	}
	return 0;
}

/* Skips a link header, or, inside a tunnel, pushes it as one. What follows is at off. */
static __always_inline __u32 pass(struct walk *w, __u32 kind, __u32 id, __u32 off, __u32 end,
				  __u32 proto)
{
	if (w->depth)
		return tunnel(w, kind, id, 1, off, end, proto);
	if (w->links++ >= MAX_LINKS)
		return STOP(TOO_DEEP);
	return next_layer(w, off, end, proto);
}

/* Provider backbone bridging, IEEE 802.1ah: the I-TAG, then the customer's frame. off: the I-TAG.
 */
static __always_inline __u32 pbb(struct __sk_buff *skb, struct walk *w)
{
	__be32 *tag = bytes_at(skb, w->off, sizeof(*tag), w->end);

	if (!tag)
		return lacking(skb, w, w->off, sizeof(*tag), w->end, STATE_LINK);
	return pass(w, KIND_PBB, bpf_ntohl(*tag) & 0xffffff, w->off + sizeof(*tag), w->end,
		    ETHERTYPE_TEB);
}

/* An 802.3 frame. off: after its length. SNAP (RFC 1042) gives the payload type; other LLC is not
 * IP. */
static __always_inline __u32 llc(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 8, w->end);
	__u32 end = w->end, length = w->proto & ~PAYLOAD_LLC;

	if (!p && length >= 8 && w->depth)
		return lacking(skb, w, w->off, 8, w->end, STATE_LINK);
	if (p && p[0] == 0xaa && p[1] == 0xaa && p[2] == 0x03 && !p[3] && !p[4] && !p[5] &&
	    (p[6] << 8 | p[7]) >= ETHERTYPE_MIN) {
		narrow(w, w->off, length, &end);
		return next_layer(w, w->off + 8, end, p[6] << 8 | p[7]);
	}
	return w->depth ? inside_is(w, INNER_REASON | REASON_LLC) : STOP(NON_IP);
}

#endif
