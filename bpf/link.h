/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Headers between a link and IP. Below the first IP header they are looked through; inside a
 * tunnel MPLS, PPPoE, PBB and NSH are tunnels themselves. VLAN tags never are.
 */
#ifndef TMON_LINK_H
#define TMON_LINK_H

#include "walk.h"

#define INLINE_TAGS 2 /* tags that STATE_HEADERS reads itself; more are STATE_LINK's */

static __always_inline int is_tag(__u32 type)
{
	return type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ || type == ETHERTYPE_QINQ1;
}

/*
 * Size of a tag behind its own EtherType; the last two bytes are the EtherType of what follows.
 * 0: not a tag.
 */
static __always_inline __u32 tag_size(__u32 type)
{
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

/* An Ethernet header and up to `most` VLAN tags, IEEE 802.1Q. Sets *off behind them, *proto to the
 * type.
 */
static __always_inline __u32 ethernet(struct __sk_buff *skb, struct walk *w, __u32 *off, __u32 end,
				      __u32 *proto, int most, __u32 state)
{
	if (likely(*proto == ETHERTYPE_TEB)) {
		struct eth *eth = bytes_at(skb, *off, sizeof(*eth), end);

		if (unlikely(!eth))
			return lacking(skb, w, *off, sizeof(*eth), end, state);
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

/* Passes a header of the link, or inside a tunnel pushes it as one. What follows is at off. */
static __always_inline __u32 pass(struct walk *w, __u32 kind, __u32 id, __u32 off, __u32 end,
				  __u32 proto)
{
	if (w->depth)
		return tunnel(w, kind, id, 1, off, end, proto);
	if (w->links++ >= MAX_LINKS)
		return STOP(TOO_DEEP);
	return next_layer(w, off, end, proto);
}

/*
 * An MPLS label stack, RFC 3032. off: its top. The payload has no type: IP, or else a
 * pseudowire's. as: the tunnel kind, or KIND_NONE to look through it.
 */
static __always_inline __u32 mpls(struct __sk_buff *skb, struct walk *w, __u32 as, __u32 state)
{
	__u32 off = w->off, top = 0;

	for (int i = 0; i < MAX_LABELS; i++) {
		__be32 *entry = bytes_at(skb, off, sizeof(*entry), w->end);
		__u32 label, v;

		if (!entry)
			return lacking(skb, w, off, sizeof(*entry), w->end, state);
		label = bpf_ntohl(*entry);
		off += sizeof(*entry);
		if (i == 0)
			top = label >> 12;
		if (!(label & MPLS_BOTTOM))
			continue;
		if (as)
			v = push(w, as, top, 1);
		else
			v = w->links++ >= MAX_LINKS ? STOP(TOO_DEEP) : 0;
		if (v)
			return v;
		return next_layer(w, off, w->end, PAYLOAD_GUESS);
	}
	return STOP(TOO_DEEP);
}

/* The next protocol of NSH, which VXLAN-GPE has adopted, as an EtherType. */
static __always_inline __u32 next_protocol(__u32 next)
{
	return next == 1 ? ETHERTYPE_IP :
	       next == 2 ? ETHERTYPE_IPV6 :
	       next == 3 ? ETHERTYPE_TEB :
	       next == 4 ? ETHERTYPE_NSH :
	       next == 5 ? ETHERTYPE_MPLS :
			   PAYLOAD_UNKNOWN;
}

/* NSH, RFC 8300: version 0; the length covers the context headers. off: the header. */
static __always_inline __u32 nsh(struct __sk_buff *skb, struct walk *w)
{
	struct nsh *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 size;

	if (!h)
		return lacking(skb, w, w->off, sizeof(*h), w->end, STATE_LINK);
	size = (bpf_ntohs(h->version_length) & 0x3f) * 4;
	if (bpf_ntohs(h->version_length) >> 14 || size < sizeof(*h))
		return STOP(MALFORMED);
	return pass(w, KIND_NSH, bpf_ntohl(h->path) >> 8, w->off + size, w->end,
		    next_protocol(h->next));
}

/* PPPoE session, RFC 2516: version 1, type 1, code 0. off: the header. */
static __always_inline __u32 pppoe(struct __sk_buff *skb, struct walk *w)
{
	struct pppoe *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 off = w->off, end = w->end;

	if (!h)
		return lacking(skb, w, off, sizeof(*h), end, STATE_LINK);
	if (h->version_type != 0x11 || h->code)
		return STOP(MALFORMED);
	off += sizeof(*h);
	narrow(w, off, bpf_ntohs(h->length), &end);
	return pass(w, KIND_PPPOE, bpf_ntohs(h->session), off, end, PAYLOAD_PPP);
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

/*
 * PPP, RFC 1661 and 1662: address and control bytes and the protocol's first byte may be left
 * out. off: the frame. Only IPv4 and IPv6 are read on.
 */
static __always_inline __u32 ppp(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off, proto;
	__u8 *p = bytes_at(skb, off, 2, w->end);

	if (p && off + 2 <= w->end && p[0] == 0xff && p[1] == 0x03) {
		off += 2;
		p = bytes_at(skb, off, 2, w->end);
	}
	if (!p)
		return lacking(skb, w, off, 2, w->end, STATE_LINK);
	if (p[0] & 1) {
		proto = p[0];
		off += 1;
	} else {
		proto = p[0] << 8 | p[1];
		off += 2;
	}
	if (proto == 0x0021)
		return next_layer(w, off, w->end, ETHERTYPE_IP);
	if (proto == 0x0057)
		return next_layer(w, off, w->end, ETHERTYPE_IPV6);
	return w->depth ? inside_is(w, INNER_PPP | proto) : STOP(NON_IP);
}

/* An 802.3 frame. off: behind its length. SNAP (RFC 1042) says what it carries, other LLC is not
 * IP. */
static __always_inline __u32 llc(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 8, w->end);
	__u32 end = w->end;

	if (p && p[0] == 0xaa && p[1] == 0xaa && p[2] == 0x03 && !p[3] && !p[4] && !p[5] &&
	    (p[6] << 8 | p[7]) >= ETHERTYPE_MIN) {
		narrow(w, w->off, w->proto & ~PAYLOAD_LLC, &end);
		return next_layer(w, w->off + 8, end, p[6] << 8 | p[7]);
	}
	return w->depth ? inside_is(w, INNER_REASON | REASON_LLC) : STOP(NON_IP);
}

/* Cisco's WCCP redirect in GRE: IP behind a 4 byte header, which its first version left out. */
static __always_inline __u32 wccp(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 1, w->end);

	if (!p)
		return lacking(skb, w, w->off, 1, w->end, STATE_LINK);
	return next_layer(w, *p >> 4 == 4 ? w->off : w->off + 4, w->end, PAYLOAD_GUESS);
}

/*
 * What STATE_HEADERS did not know. walk: off at the header, proto says which. A type that nobody
 * knows is non_ip, or what the tunnel carries.
 */
static __always_inline __u32 link_header(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off, proto = w->proto;

	for (int i = 0; i < MAX_TAGS - INLINE_TAGS; i++) {
		__u32 size = tag_size(proto);
		__be16 *type;

		if (!size)
			break;
		type = bytes_at(skb, off + size - sizeof(*type), sizeof(*type), w->end);
		if (!type)
			return lacking(skb, w, off, size, w->end, STATE_LINK);
		proto = type_of(*type);
		off += size;
	}
	if (off != w->off) {
		if (tag_size(proto))
			return STOP(TOO_DEEP);
		w->off = off;
		w->proto = proto;
		/* Anything but IP enters this state again, so that the verifier does not follow
		 * each possible number of tags to the end. */
		return proto == ETHERTYPE_IP || proto == ETHERTYPE_IPV6 ? STATE_HEADERS :
									  STATE_LINK;
	}
	switch (proto) {
	case ETHERTYPE_IP:
	case ETHERTYPE_IPV6:
		return STATE_HEADERS;
	case ETHERTYPE_FABRIC: /* FTAG and TTL, then the frame that the fabric carries */
		w->off += 2;
		w->proto = ETHERTYPE_TEB;
		return w->links++ >= MAX_LINKS ? STOP(TOO_DEEP) : STATE_LAYER;
	case ETHERTYPE_TEB: /* transparent Ethernet bridging on the wire itself */
		return w->links++ >= MAX_LINKS ? STOP(TOO_DEEP) : STATE_LAYER;
	case ETHERTYPE_MPLS:
	case ETHERTYPE_MPLS_MC:
		return w->depth ? KIND_MPLS : mpls(skb, w, KIND_NONE, STATE_LINK);
	case ETHERTYPE_NSH:
		return nsh(skb, w);
	case ETHERTYPE_PPPOE:
		return pppoe(skb, w);
	case ETHERTYPE_PBB:
		return pbb(skb, w);
	case ETHERTYPE_WCCP:
		if (w->depth)
			return wccp(skb, w);
		break;
	case ETHERTYPE_PPP:
	case PAYLOAD_PPP:
		return ppp(skb, w);
	}
	if (proto & PAYLOAD_LLC)
		return llc(skb, w);
	if (!w->depth)
		return STOP(NON_IP);
	return inside_is(w, proto == PAYLOAD_UNKNOWN ? INNER_REASON | REASON_UNKNOWN : proto);
}

#endif
