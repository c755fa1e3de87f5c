/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The tunnel kinds: the one place where a kind is declared. The C enum, the states' slots, the
 * Rust enum, `--port` and docs/ENCAPSULATIONS.md all come from these rows.
 *
 * The numbers are stored in pinned tables, recordings and the jump table: append only. A row that
 * is not at the place of its number does not compile; a row whose number changed fails `cargo test
 * -p contract`.
 *
 * KIND(NAME, Variant, number, name, UDP ports, whose, IP protocols, id, state, reference, title)
 *
 * - UDP ports: PORTS(default ports...), PORTS() for a kind without default ports, or NO_PORTS for
 *   one that does not travel in UDP
 * - whose: TO, only the destination port identifies it; EITHER, servers also answer from the port
 * - IP protocols: PORTS(numbers...) or NO_PORTS
 * - id: what its id is; "" for a kind without one
 * - state: OWN(name), state_name() reads its header; INLINE, it is read where it occurs
 */
#ifndef TMON_KINDS_H
#define TMON_KINDS_H

/* clang-format off */
#define KINDS_OF(KIND) \
	KIND(NONE, None, 0, "none", NO_PORTS, TO, NO_PORTS, "", INLINE, \
	     "", "No tunnel: rows made by `--plain`") \
	KIND(VXLAN, Vxlan, 1, "vxlan", PORTS(4789, 8472), TO, NO_PORTS, "VNI", INLINE, \
	     "RFC 7348", "VXLAN") \
	KIND(VXLAN_GPE, VxlanGpe, 2, "vxlan-gpe", PORTS(4790), TO, NO_PORTS, "VNI", OWN(vxlan_gpe), \
	     "draft-ietf-nvo3-vxlan-gpe", "VXLAN Generic Protocol Extension") \
	KIND(GENEVE, Geneve, 3, "geneve", PORTS(6081), TO, NO_PORTS, "VNI", INLINE, \
	     "RFC 8926", "Geneve") \
	KIND(GRE, Gre, 4, "gre", NO_PORTS, TO, PORTS(47), "key", OWN(gre), \
	     "RFC 2784, RFC 2890", "GRE with IP or an unknown payload") \
	KIND(GRETAP, Gretap, 5, "gretap", NO_PORTS, TO, PORTS(47), "key (NVGRE: VSID << 8)", INLINE, \
	     "RFC 2784, RFC 7637", "GRE carrying Ethernet: TEB, NVGRE") \
	KIND(ERSPAN, Erspan, 6, "erspan", NO_PORTS, TO, PORTS(47), "session; none in type I", INLINE, \
	     "draft-foschiano-erspan", "ERSPAN types I, II and III, in GRE") \
	KIND(PPTP, Pptp, 7, "pptp", NO_PORTS, TO, PORTS(47), "call", INLINE, \
	     "RFC 2637", "PPTP data: GRE version 1 with PPP") \
	KIND(EOIP, Eoip, 8, "eoip", NO_PORTS, TO, PORTS(47), "tunnel", INLINE, \
	     "MikroTik", "Ethernet over IP: GRE version 1, type 0x6400") \
	KIND(GRE_UDP, GreUdp, 9, "gre-udp", PORTS(4754), TO, NO_PORTS, "key", OWN(gre_udp), \
	     "RFC 8086", "GRE in UDP") \
	KIND(IPIP, Ipip, 10, "ipip", NO_PORTS, TO, PORTS(4), "", INLINE, \
	     "RFC 2003", "IPv4 in IPv4") \
	KIND(6IN4, SixInFour, 11, "6in4", NO_PORTS, TO, PORTS(41), "", INLINE, \
	     "RFC 4213", "IPv6 in IPv4") \
	KIND(4IN6, FourInSix, 12, "4in6", NO_PORTS, TO, PORTS(4), "", INLINE, \
	     "RFC 2473", "IPv4 in IPv6") \
	KIND(6IN6, SixInSix, 13, "6in6", NO_PORTS, TO, PORTS(41), "", INLINE, \
	     "RFC 2473", "IPv6 in IPv6") \
	KIND(SRV6, Srv6, 14, "srv6", NO_PORTS, TO, PORTS(43), "", INLINE, \
	     "RFC 8754", "IP or Ethernet behind an IPv6 segment routing header") \
	KIND(AH, Ah, 15, "ah", NO_PORTS, TO, PORTS(51), "", INLINE, \
	     "RFC 4302", "IPsec authentication header in tunnel mode") \
	KIND(GTPU, Gtpu, 16, "gtpu", PORTS(2152), TO, NO_PORTS, "TEID", OWN(gtpu), \
	     "3GPP TS 29.281", "GTP-U version 1, T-PDUs") \
	KIND(MPLS, Mpls, 17, "mpls", NO_PORTS, TO, PORTS(137), "top label", OWN(mpls), \
	     "RFC 3032, RFC 4023", "MPLS label stack in another tunnel or in IP") \
	KIND(MPLS_UDP, MplsUdp, 18, "mpls-udp", PORTS(6635), TO, NO_PORTS, "top label", OWN(mpls_udp), \
	     "RFC 7510", "MPLS in UDP") \
	KIND(TEREDO, Teredo, 19, "teredo", PORTS(3544), EITHER, NO_PORTS, "", OWN(teredo), \
	     "RFC 4380", "Teredo") \
	KIND(GUE, Gue, 20, "gue", PORTS(6080, 9886), TO, NO_PORTS, "", OWN(gue), \
	     "draft-ietf-intarea-gue", "Generic UDP Encapsulation; `fou` for foo-over-UDP") \
	KIND(L2TP, L2tp, 21, "l2tp", PORTS(1701), EITHER, NO_PORTS, "session", OWN(l2tp), \
	     "RFC 2661", "L2TP version 2, data") \
	KIND(NSH, Nsh, 22, "nsh", NO_PORTS, TO, NO_PORTS, "service path", INLINE, \
	     "RFC 8300", "Network service header in another tunnel") \
	KIND(LISP, Lisp, 23, "lisp", PORTS(4341), TO, NO_PORTS, "instance", OWN(lisp), \
	     "RFC 9300", "LISP data") \
	KIND(ETHERIP, EtherIp, 24, "etherip", NO_PORTS, TO, PORTS(97), "", OWN(etherip), \
	     "RFC 3378", "Ethernet in IP") \
	KIND(AYIYA, Ayiya, 25, "ayiya", PORTS(5072), EITHER, NO_PORTS, "", OWN(ayiya), \
	     "draft-massar-v6ops-ayiya", "Anything in anything") \
	KIND(PPPOE, Pppoe, 26, "pppoe", NO_PORTS, TO, NO_PORTS, "session", INLINE, \
	     "RFC 2516", "PPP over Ethernet in another tunnel") \
	KIND(PBB, Pbb, 27, "pbb", NO_PORTS, TO, NO_PORTS, "I-SID", INLINE, \
	     "IEEE 802.1ah", "Provider backbone bridging in another tunnel") \
	KIND(ESP, Esp, 28, "esp", PORTS(4500), EITHER, PORTS(50), "", OWN(esp_udp), \
	     "RFC 4303, RFC 3948", "IPsec ESP: the inside is encrypted") \
	KIND(WIREGUARD, Wireguard, 29, "wireguard", PORTS(51820), EITHER, NO_PORTS, "", \
	     OWN(wireguard), "wireguard.com/protocol", "WireGuard: the inside is encrypted") \
	KIND(CAPWAP, Capwap, 30, "capwap", PORTS(5247), EITHER, NO_PORTS, "radio", OWN(capwap), \
	     "RFC 5415, RFC 5416", "CAPWAP data: 802.3 and 802.11 frames; DTLS is encrypted") \
	KIND(L2TPV3, L2tpv3, 31, "l2tpv3", PORTS(), EITHER, PORTS(115), "session", OWN(l2tpv3), \
	     "RFC 3931", "L2TP version 3, Ethernet; also on the ports of `l2tp`")
/* clang-format on */

#endif
