/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* IEEE 802.11 frames, as access points send them to their controller. */
#ifndef TMON_PARSE_DOT11_H
#define TMON_PARSE_DOT11_H

#include "../walk.h"

/* The two bytes of frame control; a data frame has type 2 and, here, a distribution system bit. */
#define DOT11_TYPE	0x0f /* version and type */
#define DOT11_DATA	0x08
#define DOT11_EMPTY	0x40 /* in the first byte: no payload follows the header */
#define DOT11_QOS	0x80
#define DOT11_DS	0x03 /* in the second byte: from or to the distribution system, or both */
#define DOT11_PROTECTED 0x40
#define DOT11_ORDER	0x80
#define DOT11_HEADER	24
#define DOT11_SEQUENCE	22   /* its lowest 4 bits are the fragment number */
#define DOT11_AGGREGATE 0x80 /* in the first byte of QoS control */

/*
 * A data frame: the header's optional parts, then LLC and SNAP. If a frame contains several packets
 * (A-MSDU), each with a header like 802.3's, the first one is read. Some access points swap the two
 * bytes of frame control: the distribution system bits reveal this, because the other byte of a
 * data frame has its version, 0, in the same place. off: the frame.
 */
static __always_inline __u32 dot11(struct __sk_buff *skb, struct walk *w)
{
	__u8 *h = bytes_at(skb, w->off, DOT11_HEADER, w->end);
	__u32 size = DOT11_HEADER, off, kind, flags;
	__u8 *p;

	if (!h)
		return lacking(skb, w, w->off, DOT11_HEADER, w->end, STATE_LINK);
	kind = h[0];
	flags = h[1];
	if ((flags & DOT11_TYPE) == DOT11_DATA && kind & DOT11_DS) {
		kind = h[1];
		flags = h[0];
	}
	if ((kind & DOT11_TYPE) != DOT11_DATA || !(flags & DOT11_DS)) /* management, control */
		return inside_is(w, INNER_REASON | REASON_CONTROL);
	if (flags & DOT11_PROTECTED)
		return inside_is(w, INNER_REASON | REASON_ENCRYPTED);
	if (kind & DOT11_EMPTY)
		return inside_is(w, INNER_REASON | REASON_NONE);
	if (h[DOT11_SEQUENCE] & 0x0f)
		return inside_is(w, INNER_REASON | REASON_FRAGMENT);
	if ((flags & DOT11_DS) == DOT11_DS) /* a fourth address */
		size += 6;
	off = w->off + size;
	if (kind & DOT11_QOS) {
		p = bytes_at(skb, off, 2, w->end);
		if (!p)
			return lacking(skb, w, off, 2, w->end, STATE_LINK);
		off += flags & DOT11_ORDER ? 6 : 2;
		if (p[0] & DOT11_AGGREGATE)
			return next_layer(w, off, w->end, ETHERTYPE_TEB);
	}
	p = bytes_at(skb, off, 8, w->end);
	if (!p)
		return lacking(skb, w, off, 8, w->end, STATE_LINK);
	if (p[0] != 0xaa || p[1] != 0xaa || p[2] != 0x03 || p[3] || p[4] || p[5] ||
	    (p[6] << 8 | p[7]) < ETHERTYPE_MIN)
		return inside_is(w, INNER_REASON | REASON_LLC);
	return next_layer(w, off + 8, w->end, p[6] << 8 | p[7]);
}

#endif
