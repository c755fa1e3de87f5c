/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* ESP in UDP. */
#ifndef TMON_PARSE_ESP_H
#define TMON_PARSE_ESP_H

#include "../walk.h"

#define ESP_KEEPALIVE 0xff
#define ESP_LEAST     12  /* SPI, sequence number, the last word of the ciphertext */
#define ESP_SPI_LEAST 256 /* below: reserved */

/*
 * ESP in UDP, RFC 3948. IKE begins with four zero bytes where ESP has its SPI, and a keepalive is
 * one byte; both are plain traffic. ESP needs a valid SPI (RFC 4303, section 2.1), and the sender
 * pads everything to whole words: sequence number, ciphertext, ICV.
 */
static __always_inline __u32 esp_udp(struct __sk_buff *skb, struct walk *w)
{
	__be32 *spi = bytes_at(skb, w->off, ESP_LEAST, w->end);
	__u32 size = w->end - w->off;
	__u8 *first;

	if (w->depth)
		return VERDICT_END;
	if (size == 1 && !(w->flags & WALK_CUT)) {
		first = bytes_at(skb, w->off, 1, w->end);
		if (!first)
			return lacking(skb, w, w->off, 1, w->end, KIND_ESP);
		return *first == ESP_KEEPALIVE ? VERDICT_END : suspect(w);
	}
	if (!spi)
		return short_of(skb, w, w->off, ESP_LEAST, w->end, KIND_ESP);
	if (!*spi)
		return VERDICT_END;
	if (bpf_ntohl(*spi) < ESP_SPI_LEAST || (size % 4 && !(w->flags & WALK_CUT)))
		return suspect(w);
	note_number(w, bpf_ntohl(spi[1]), 32, bpf_ntohl(spi[0]));
	return tunnel_of(w, KIND_ESP, 0, 0, INNER_REASON | REASON_ENCRYPTED);
}

/* ESP in IP, RFC 4303: the outermost tunnel, whatever follows it. off: the header. */
static __always_inline __u32 esp(struct __sk_buff *skb, struct walk *w, __u32 off, __u32 end,
				 __u32 state)
{
	__be32 *spi = bytes_at(skb, off, 8, end);

	if (w->depth)
		return VERDICT_END;
	if (spi)
		note_number(w, bpf_ntohl(spi[1]), 32, bpf_ntohl(spi[0]));
	else if (pull_for(skb, w, off, 8, end, state))
		return STATE_PULL;
	return tunnel_of(w, KIND_ESP, 0, 0, INNER_REASON | REASON_ENCRYPTED);
}

#endif
