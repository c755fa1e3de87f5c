/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* UDP and the meaning of its ports. */
#ifndef TMON_PARSE_UDP_H
#define TMON_PARSE_UDP_H

#include "geneve.h"
#include "gtpu.h"
#include "vxlan.h"

/* The meaning of a UDP port. */
static __always_inline __u32 port_entry(__be16 port)
{
	return UDP_PORTS.kind[port];
}

/*
 * The port table's entry for a datagram: that of its destination, or that of its source if servers
 * answer from their port. 0: no tunnel.
 */
static __always_inline __u32 udp_port(const struct udp *h)
{
	__u32 port = port_entry(h->dst);

	if (likely(port))
		return port;
	port = port_entry(h->src);
	return port & PORT_EITHER ? port : 0;
}

/*
 * UDP, RFC 768. The port table says whether it may contain a tunnel; only then does the length
 * matter. walk.ip_proto is UDP. off: the header.
 */
static __always_inline __u32 udp(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				 __u32 state)
{
	struct udp *h = bytes_at(skb, off, sizeof(*h), end);
	__u32 port, length;

	if (unlikely(!h))
		return lacking(skb, w, off, sizeof(*h), end, state);
	port = udp_port(h);
	if (likely(!port))
		return VERDICT_END;
	length = bpf_ntohs(h->length);
	if (likely(length)) { /* 0: larger than fits the field */
		if (unlikely(length < sizeof(*h)))
			return STOP(MALFORMED);
		narrow(w, off, length, &end);
	}
	off += sizeof(*h);
	switch (port & PORT_KIND) {
	case KIND_VXLAN:
		return vxlan(skb, w, off, end, state);
	case KIND_GENEVE:
		return geneve(skb, w, off, end, state);
	case KIND_GTPU:
		return gtpu(skb, w, off, end, state);
	}
	w->off = off;
	w->end = end;
	w->ip_proto = 0;
	w->port = port;
	return port & PORT_KIND;
}

#endif
