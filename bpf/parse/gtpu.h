/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* GTP-U. */
#ifndef TMON_PARSE_GTPU_H
#define TMON_PARSE_GTPU_H

#include "../walk.h"

enum gtpu_is {
	GTPU_IS_NOT,
	GTPU_IS_SIGNALLING, /* plain traffic between the tunnel's endpoints */
	GTPU_IS_PAYLOAD,
};

/* GTP-U version 1, 3GPP TS 29.281, section 5: T-PDUs. s->size excludes optional fields. */
static __always_inline enum gtpu_is gtpu_read(const struct gtpu *h, struct seen *s)
{
	__be16 first = *(const __be16 *)h; /* flags and type */

	s->id = bpf_ntohl(h->teid);
	s->size = sizeof(*h);
	s->length = bpf_ntohs(h->length);
	s->proto = PAYLOAD_GUESS;
	if (likely((first & bpf_htons(0xf0ff)) == bpf_htons(0x3000 | GTPU_TPDU)))
		return GTPU_IS_PAYLOAD;
	return h->flags >> 4 == 3 ? GTPU_IS_SIGNALLING : GTPU_IS_NOT;
}

/* The type of the first extension header, from the four bytes of optional fields. */
static __always_inline __u32 gtpu_extension(__u32 flags, const __u8 *fields)
{
	return flags & GTPU_E ? fields[3] : 0;
}

/* The size of an extension header, section 5.2. Its last byte is the type of the next one. */
static __always_inline __u32 gtpu_extension_size(const __u8 *header)
{
	return header[0] * 4;
}

/* off: the header. If it has optional fields, it goes to STATE KIND_GTPU. */
static __always_inline __u32 gtpu(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				  __u32 state)
{
	struct gtpu *h = bytes_at(skb, off, sizeof(*h), end);
	enum gtpu_is is;
	struct seen s;

	if (unlikely(!h))
		return short_of(skb, w, off, sizeof(*h), end, state);
	is = gtpu_read(h, &s);
	if (unlikely(is == GTPU_IS_NOT ||
		     (off + s.size + s.length > end && !(w->flags & WALK_CUT))))
		return suspect(w);
	if (unlikely(is == GTPU_IS_SIGNALLING)) {
		if (!w->depth) {
			w->end = end;
			w->flags |= WALK_MESSAGE;
		}
		return VERDICT_END;
	}
	if (unlikely(h->flags & GTPU_OPTIONS)) {
		w->off = off;
		w->end = end;
		return KIND_GTPU;
	}
	w->hops++; /* as for the transition to STATE KIND_GTPU */
	narrow(w, off + s.size, s.length, &end);
	return tunnel(w, KIND_GTPU, s.id, 1, off + s.size, end, s.proto);
}

/* STATE KIND_GTPU: a T-PDU with optional fields. */
static __always_inline __u32 gtpu_options(struct __sk_buff *skb, struct walk *w)
{
	struct gtpu *h = bytes_at(skb, w->off, sizeof(*h) + 4, w->end);
	__u32 off = w->off + sizeof(*h), end = w->end, next;
	struct seen s;
	__u8 *p;

	if (!h)
		return short_of(skb, w, w->off, sizeof(*h) + 4, end, KIND_GTPU);
	gtpu_read(h, &s);
	if (s.length < 4)
		return suspect(w);
	if (h->flags & GTPU_S)
		note_number(w, bpf_ntohs(*(__be16 *)(h + 1)), 16, 0);
	narrow(w, off, s.length, &end);
	next = gtpu_extension(h->flags, (__u8 *)(h + 1));
	off += 4;
	for (int i = 0; i < MAX_GTP_EXTS && next; i++) {
		__u32 size;

		p = bytes_at(skb, off, 4, end);
		if (!p)
			return short_of(skb, w, off, 4, end, KIND_GTPU);
		size = gtpu_extension_size(p);
		if (!size || (off + size > end && !(w->flags & WALK_CUT)))
			return suspect(w);
		p = bytes_at(skb, off + size - 1, 1, end);
		if (!p)
			return short_of(skb, w, off + size - 1, 1, end, KIND_GTPU);
		next = *p;
		off = unknown(w, off + size);
		end = unknown(w, end);
	}
	if (next)
		return tunnel_of(w, KIND_GTPU, s.id, 1, INNER_REASON | REASON_TOO_DEEP);
	return tunnel(w, KIND_GTPU, s.id, 1, off, end, s.proto);
}

#endif
