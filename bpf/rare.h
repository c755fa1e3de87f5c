/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Tunnels that have a state of their own. On entry walk.off is their header and walk.end the end
 * of what carries it (the UDP datagram, the IP packet); walk.port is the port table's entry for
 * those in UDP. A header that does not check out is not the tunnel: suspect in UDP, malformed
 * where an IP protocol number promised it.
 */
#ifndef TMON_RARE_H
#define TMON_RARE_H

#include "ip.h"
#include "link.h"
#include "tunnel.h"

/* VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe: I flag, version 0; without the P flag the inside is
 * Ethernet. */
static __always_inline __u32 vxlan_gpe(struct __sk_buff *skb, struct walk *w)
{
	struct vxlan *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 vni, proto;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h), w->end, KIND_VXLAN_GPE);
	if (!(h->flags & VXLAN_I) || h->flags & GPE_VERSION)
		return suspect(w);
	proto = h->flags & GPE_P ? next_protocol(h->next) : ETHERTYPE_TEB;
	vni = bpf_ntohl(h->vni) >> 8;
	return tunnel(w, KIND_VXLAN_GPE, vni, 1, w->off + sizeof(*h), w->end, proto);
}

/* GTP-U with optional fields and extension headers, 3GPP TS 29.281, section 5.2. */
static __always_inline __u32 gtpu_options(struct __sk_buff *skb, struct walk *w)
{
	struct gtpu *h = bytes_at(skb, w->off, sizeof(*h) + 4, w->end);
	__u32 off = w->off + sizeof(*h), end = w->end, length, teid;
	__u8 *p = (__u8 *)h, next;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h) + 4, end, KIND_GTPU);
	length = bpf_ntohs(h->length);
	if (length < 4)
		return suspect(w);
	narrow(w, off, length, &end);
	teid = bpf_ntohl(h->teid);
	next = h->flags & GTPU_E ? p[11] : 0;
	off += 4;
	for (int i = 0; i < MAX_GTP_EXTS && next; i++) {
		__u32 size;

		p = bytes_at(skb, off, 4, end);
		if (!p)
			return short_of(skb, w, off, 4, end, KIND_GTPU);
		size = p[0] * 4;
		if (!size || (off + size > end && !(w->flags & WALK_CUT)))
			return suspect(w);
		p = bytes_at(skb, off + size - 1, 1, end);
		if (!p)
			return short_of(skb, w, off + size - 1, 1, end, KIND_GTPU);
		next = *p;
		off += size;
	}
	if (next)
		return tunnel_of(w, KIND_GTPU, teid, 1, INNER_REASON | REASON_TOO_DEEP);
	return tunnel(w, KIND_GTPU, teid, 1, off, end, PAYLOAD_GUESS);
}

/* ERSPAN, draft-foschiano-erspan: without a sequence number type I, with one II; 0x22eb is III. */
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
	if (p[0] >> 4 != 1 && p[0] >> 4 != 2) /* implementations do not agree which is whose */
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

/* PPTP, RFC 2637, and EoIP: GRE version 1 with a payload length and an id in the key's place. */
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
 * (RFC 8086), whose kind is walk.port's.
 */
static __always_inline __u32 gre_rest(struct __sk_buff *skb, struct walk *w, __u32 kind)
{
	struct gre *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 off = w->off + sizeof(*h), flags, type, id = 0;
	int in_udp = kind == KIND_GRE_UDP;

	if (!h)
		return in_udp ? short_of(skb, w, w->off, sizeof(*h), w->end, kind) :
				lacking(skb, w, w->off, sizeof(*h), w->end, kind);
	flags = bpf_ntohs(h->flags);
	type = bpf_ntohs(h->type);
	if ((flags & GRE_VERSION) == 1 && !in_udp)
		return gre_one(skb, w, flags, type);
	if (flags & GRE_VERSION)
		return in_udp ? suspect(w) : STOP(MALFORMED);
	if (flags & (GRE_CSUM | GRE_ROUTING))
		off += 4;
	if (flags & GRE_KEY) {
		__be32 *key = bytes_at(skb, off, 4, w->end);

		if (!key)
			return in_udp ? short_of(skb, w, off, 4, w->end, kind) :
					lacking(skb, w, off, 4, w->end, kind);
		id = bpf_ntohl(*key);
		off += 4;
	}
	if (flags & GRE_SEQ)
		off += 4;
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
		if (type == ETHERTYPE_TEB)
			kind = KIND_GRETAP;
	}
	/* in GRE, Cisco metadata has another format than in Ethernet */
	if (type < ETHERTYPE_MIN || type == ETHERTYPE_CMD || off == w->end)
		return tunnel_of(w, kind, id, flags & GRE_KEY,
				 off == w->end ? INNER_REASON | REASON_NONE : type);
	return tunnel(w, kind, id, flags & GRE_KEY, off, w->end, type);
}

/* Teredo, RFC 4380, section 5.1: authentication and origin indications, then IPv6. */
static __always_inline __u32 teredo(struct __sk_buff *skb, struct walk *w)
{
	__u32 off = w->off;
	struct ip6 *ip;

	for (int i = 0; i < 2; i++) {
		__u8 *p = bytes_at(skb, off, 4, w->end);

		if (!p)
			return short_of(skb, w, off, 4, w->end, KIND_TEREDO);
		if (p[0] == 0 &&
		    p[1] == 1) /* client id, authentication value, nonce, confirmation */
			off += 4 + p[2] + p[3] + 9;
		else if (p[0] == 0 && p[1] == 0)
			off += 8;
	}
	ip = bytes_at(skb, off, sizeof(*ip), w->end);
	if (!ip)
		return short_of(skb, w, off, sizeof(*ip), w->end, KIND_TEREDO);
	if (ip->version_class >> 4 != 6 ||
	    (off + sizeof(*ip) + bpf_ntohs(ip->payload) > w->end && !(w->flags & WALK_CUT)))
		return suspect(w);
	return tunnel(w, KIND_TEREDO, 0, 0, off, w->end, ETHERTYPE_IPV6);
}

/*
 * MPLS in UDP, RFC 7510. The length is judged last: a loop behind that branch is one that the
 * verifier of 6.1 does not take ("back-edge").
 */
static __always_inline __u32 mpls_udp(struct __sk_buff *skb, struct walk *w)
{
	__u32 v = mpls(skb, w, KIND_MPLS_UDP, KIND_MPLS_UDP);

	if ((v == STOP(MALFORMED) || v == STOP(TRUNCATED)) && w->off + 4 > w->end &&
	    !(w->flags & WALK_CUT))
		return suspect(w);
	return v;
}

/*
 * GUE, draft-ietf-intarea-gue: variant 1 is IP itself, variant 0 has a header with an IP protocol.
 * On a port of foo-over-UDP there is never a header: IP or GRE.
 */
static __always_inline __u32 gue(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 4, w->end);
	__u32 size, v, proto;

	if (!p)
		return short_of(skb, w, w->off, 4, w->end, KIND_GUE);
	if (p[0] >> 4 == 4 || p[0] >> 4 == 6) { /* or QUIC, for one, which begins like this */
		v = guess(skb, w, w->off, w->end, &proto, KIND_GUE);
		if (v)
			return v;
		return proto == PAYLOAD_UNKNOWN ? suspect(w) :
						  tunnel(w, KIND_GUE, 0, 0, w->off, w->end, proto);
	}
	if (w->port & PORT_FOU) {
		v = p[1] & GRE_VERSION ? suspect(w) : push(w, KIND_GUE, 0, 0);
		w->ip_proto = PROTO_GRE;
		return v ? v : STATE_TRANSPORT;
	}
	size = 4 + (p[0] & 0x1f) * 4;
	if (p[0] >> 6 || (w->off + size > w->end && !(w->flags & WALK_CUT)))
		return suspect(w);
	if (p[0] & 0x20) /* a control message */
		return VERDICT_END;
	if (p[1] == PROTO_IPIP || p[1] == PROTO_IPV6)
		return tunnel(w, KIND_GUE, 0, 0, w->off + size, w->end,
			      p[1] == PROTO_IPIP ? ETHERTYPE_IP : ETHERTYPE_IPV6);
	w->ip_proto = p[1];
	if (p[1] != PROTO_GRE && p[1] != PROTO_MPLS && p[1] != PROTO_ETHERIP)
		return tunnel_of(w, KIND_GUE, 0, 0, INNER_IP | p[1]);
	v = push(w, KIND_GUE, 0, 0);
	w->off += size;
	return v ? v : STATE_TRANSPORT;
}

/* L2TP version 2, RFC 2661, section 3.1: data messages, PPP inside. */
static __always_inline __u32 l2tp(struct __sk_buff *skb, struct walk *w)
{
	__be16 *flags_at = bytes_at(skb, w->off, 6, w->end);
	__u32 off = w->off + 2, end = w->end, flags, session;
	__be16 *p;

	if (!flags_at)
		return short_of(skb, w, w->off, 6, end, KIND_L2TP);
	flags = bpf_ntohs(*flags_at);
	if ((flags & 0x000f) != 2 || flags & 0x34f0) /* version, reserved bits */
		return suspect(w);
	if (flags & 0x8000) /* a control message */
		return flags & 0x4800 ? VERDICT_END : suspect(w);
	if (flags & 0x4000) {
		__u32 length = bpf_ntohs(flags_at[1]);

		if (w->off + length > end && !(w->flags & WALK_CUT))
			return suspect(w);
		narrow(w, w->off, length, &end);
		off += 2;
	}
	p = bytes_at(skb, off, 4, end);
	if (!p)
		return short_of(skb, w, off, 4, end, KIND_L2TP);
	session = bpf_ntohs(p[1]);
	off += flags & 0x0800 ? 8 : 4;
	if (flags & 0x0200) {
		p = bytes_at(skb, off, 2, end);
		if (!p)
			return short_of(skb, w, off, 2, end, KIND_L2TP);
		off += 2 + bpf_ntohs(*p);
	}
	if (off > end)
		return w->flags & WALK_CUT ? STOP(TRUNCATED) : suspect(w);
	if (off == end)
		return tunnel_of(w, KIND_L2TP, session, 1, INNER_REASON | REASON_NONE);
	return tunnel(w, KIND_L2TP, session, 1, off, end, PAYLOAD_PPP);
}

/* LISP data, RFC 9300, section 5.3; the instance id is there if the I flag says so. */
static __always_inline __u32 lisp(struct __sk_buff *skb, struct walk *w)
{
	struct lisp *h = bytes_at(skb, w->off, sizeof(*h) + 1, w->end);
	__u32 off = w->off + sizeof(*h), v, proto;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h) + 1, w->end, KIND_LISP);
	v = guess(skb, w, off, w->end, &proto, KIND_LISP);
	if (v)
		return v;
	if (proto == PAYLOAD_UNKNOWN)
		return suspect(w);
	return tunnel(w, KIND_LISP, bpf_ntohl(h->instance) >> 8, h->flags & LISP_I, off, w->end,
		      proto);
}

/* Ethernet in IP, RFC 3378: version 3, then the frame. */
static __always_inline __u32 etherip(struct __sk_buff *skb, struct walk *w)
{
	__u8 *p = bytes_at(skb, w->off, 2, w->end);

	if (!p)
		return lacking(skb, w, w->off, 2, w->end, KIND_ETHERIP);
	if (p[0] >> 4 != 3)
		return STOP(MALFORMED);
	return tunnel(w, KIND_ETHERIP, 0, 0, w->off + 2, w->end, ETHERTYPE_TEB);
}

/* AYIYA, draft-massar-v6ops-ayiya: identity, signature, then what the next header says. */
static __always_inline __u32 ayiya(struct __sk_buff *skb, struct walk *w)
{
	struct ayiya *h = bytes_at(skb, w->off, sizeof(*h), w->end);
	__u32 size;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h), w->end, KIND_AYIYA);
	size = sizeof(*h) + (1 << (h->id >> 4)) + (h->signature >> 4) * 4;
	if (w->off + size > w->end)
		return short_of(skb, w, w->off, size, w->end, KIND_AYIYA);
	if ((h->opcode & 0x0f) != AYIYA_FORWARD)
		return VERDICT_END;
	if (h->next == PROTO_IPIP || h->next == PROTO_IPV6)
		return tunnel(w, KIND_AYIYA, 0, 0, w->off + size, w->end,
			      h->next == PROTO_IPIP ? ETHERTYPE_IP : ETHERTYPE_IPV6);
	if (h->next != PROTO_NONE)
		return suspect(w);
	return tunnel_of(w, KIND_AYIYA, 0, 0, INNER_REASON | REASON_NONE);
}

/*
 * WireGuard: message types and their lengths, if all of it is there; only the outermost, its inside
 * is encrypted. Transport data has any length from 32 bytes up: padding to 16 bytes stops at the
 * tunnel's MTU, and not every implementation pads.
 */
static __always_inline __u32 wireguard(struct __sk_buff *skb, struct walk *w)
{
	__u32 size = w->end - w->off;
	__u8 *p = bytes_at(skb, w->off, 4, w->end);

	if (w->depth)
		return VERDICT_END;
	if (!p)
		return short_of(skb, w, w->off, 4, w->end, KIND_WIREGUARD);
	if (p[1] || p[2] || p[3])
		return suspect(w);
	if (w->flags & WALK_CUT ? p[0] < 1 || p[0] > 4 :
				  !(p[0] == 1 && size == 148) && !(p[0] == 2 && size == 92) &&
					  !(p[0] == 3 && size == 64) && !(p[0] == 4 && size >= 32))
		return suspect(w);
	return tunnel_of(w, KIND_WIREGUARD, 0, 0, INNER_REASON | REASON_ENCRYPTED);
}

/* ESP in UDP, RFC 3948: not a keepalive, not IKE. Only on ports that were asked for. */
static __always_inline __u32 esp_udp(struct __sk_buff *skb, struct walk *w)
{
	__be32 *spi = bytes_at(skb, w->off, 4, w->end);

	if (w->depth || w->off + 1 == w->end)
		return VERDICT_END;
	if (!spi)
		return short_of(skb, w, w->off, 4, w->end, KIND_ESP);
	return *spi ? tunnel_of(w, KIND_ESP, 0, 0, INNER_REASON | REASON_ENCRYPTED) : VERDICT_END;
}

#endif
