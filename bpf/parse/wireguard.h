/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* WireGuard. */
#ifndef TMON_PARSE_WIREGUARD_H
#define TMON_PARSE_WIREGUARD_H

#include "../walk.h"

#define WIREGUARD_DATA 4 /* receiver index and counter follow, little-endian */

/*
 * WireGuard: message types and their lengths, if everything is present; only as the outermost
 * tunnel, since its inside is encrypted. Transport data has any length from 32 bytes up: padding to
 * 16 bytes stops at the tunnel's MTU, and not every implementation pads.
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
	if (p[0] == WIREGUARD_DATA) {
		__u32 *data = bytes_at(skb, w->off, 16, w->end);

		if (data)
			note_number(w, data[2] | (__u64)data[3] << 32, 64, data[1]);
		else if (pull_for(skb, w, w->off, 16, w->end, KIND_WIREGUARD))
			return STATE_PULL;
	}
	return tunnel_of(w, KIND_WIREGUARD, 0, 0, INNER_REASON | REASON_ENCRYPTED);
}

#endif
