/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * The states of kinds with a state of their own, each with its reader. Included where STATE_IS
 * defines what a state is: a program of its own for packets, a function for dropped ones.
 */
STATE_IS(vxlan_gpe, vxlan_gpe(skb, w))
STATE_IS(gre, gre_rest(skb, w, KIND_GRE))
STATE_IS(gre_udp, gre_rest(skb, w, KIND_GRE_UDP))
STATE_IS(gtpu, gtpu_options(skb, w))
STATE_IS(mpls, mpls(skb, w, KIND_MPLS, KIND_MPLS))
STATE_IS(mpls_udp, mpls_udp(skb, w))
STATE_IS(teredo, teredo(skb, w))
STATE_IS(gue, gue(skb, w))
STATE_IS(l2tp, l2tp(skb, w))
STATE_IS(l2tpv3, l2tpv3(skb, w))
STATE_IS(lisp, lisp(skb, w))
STATE_IS(etherip, etherip(skb, w))
STATE_IS(ayiya, ayiya(skb, w))
STATE_IS(esp_udp, esp_udp(skb, w))
STATE_IS(wireguard, wireguard(skb, w))
STATE_IS(capwap, capwap(skb, w))
