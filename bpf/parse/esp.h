/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* ESP in UDP. */
#ifndef TMON_PARSE_ESP_H
#define TMON_PARSE_ESP_H

#include "../walk.h"

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
