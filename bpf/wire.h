/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Wire formats of headers that the UAPI lacks, or defines in an unsuitable form. */
#ifndef TMON_WIRE_H
#define TMON_WIRE_H

#include <linux/types.h>

#define PAYLOAD_IP	  0x10000 /* not an EtherType: IP, by its version nibble */
#define PAYLOAD_PPP	  0x10001 /* nor this: PPP, perhaps with address and control bytes */
#define PAYLOAD_UNKNOWN	  0x10002
#define PAYLOAD_GUESS	  0x10003 /* unspecified; IP if that can be verified */
#define PAYLOAD_DOT11	  0x10004 /* IEEE 802.11 */
#define PAYLOAD_LLC	  0x20000 /* + the length that an 802.3 frame has instead of a type */
#define ETHERTYPE_IP	  0x0800
#define ETHERTYPE_WCCP	  0x883e
#define ETHERTYPE_VLAN	  0x8100
#define ETHERTYPE_IPV6	  0x86dd
#define ETHERTYPE_PPP	  0x880b
#define ETHERTYPE_MPLS	  0x8847
#define ETHERTYPE_MPLS_MC 0x8848
#define ETHERTYPE_PPPOE	  0x8864
#define ETHERTYPE_QINQ	  0x88a8
#define ETHERTYPE_ERSPAN  0x88be
#define ETHERTYPE_PBB	  0x88e7
#define ETHERTYPE_FABRIC  0x8903 /* Cisco FabricPath */
#define ETHERTYPE_CMD	  0x8909 /* Cisco metadata: a security group tag */
#define ETHERTYPE_VNTAG	  0x8926
#define ETHERTYPE_HSR	  0x892f /* IEC 62439-3 */
#define ETHERTYPE_ETAG	  0x893f /* IEEE 802.1BR */
#define ETHERTYPE_NSH	  0x894f
#define ETHERTYPE_QINQ1	  0x9100
#define ETHERTYPE_RTAG	  0xf1c1 /* IEEE 802.1CB */
#define ETHERTYPE_ERSPAN3 0x22eb
#define ETHERTYPE_EOIP	  0x6400
#define ETHERTYPE_TEB	  0x6558
#define ETHERTYPE_MIN	  0x0600 /* below: an 802.3 length */

#define PROTO_HOPOPTS  0
#define PROTO_ICMP     1
#define PROTO_IPIP     4
#define PROTO_TCP      6
#define PROTO_UDP      17
#define PROTO_IPV6     41
#define PROTO_ROUTING  43
#define PROTO_FRAGMENT 44
#define PROTO_GRE      47
#define PROTO_ESP      50
#define PROTO_AH       51
#define PROTO_ICMPV6   58
#define PROTO_NONE     59
#define PROTO_DSTOPTS  60
#define PROTO_ETHERIP  97
#define PROTO_L2TP     115
#define PROTO_MPLS     137
#define PROTO_ETHERNET 143

#define ETHERNET_PADDING 46 /* at most: the minimum payload of a frame */

struct eth {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
};

struct vlan {
	__be16 tci;
	__be16 type;
};

/* RFC 791 */
struct ip4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment; /* 3 bits of flags, offset in units of 8 bytes */
	__u8 ttl;
	__u8 proto;
	__be16 check;
	__be32 src;
	__be32 dst;
};

#define IP4_PLAIN  0x45 /* version and length of a header without options */
#define IP4_MORE   0x2000
#define IP4_OFFSET 0x1fff

/* RFC 8200 */
struct ip6 {
	__u8 version_class;
	__u8 class_label[3];
	__be16 payload;
	__u8 next;
	__u8 hops;
	__be32 src[4];
	__be32 dst[4];
};

struct ip6_ext {
	__u8 next;
	__u8 length; /* units of 8 bytes, excluding the first; AH: of 4 bytes, minus 2 */
	__u8 type;   /* of a routing header, of the first option of an options header */
	__u8 left;
};

struct ip6_frag {
	__u8 next;
	__u8 zero;
	__be16 offset; /* units of 8 bytes, above 3 bits; lowest bit: more fragments */
	__be32 id;
};

#define IP6_MORE	 0x0001
#define IP6_OFFSET	 0xfff8
#define ROUTING_SEGMENTS 4    /* RFC 8754 */
#define OPTION_JUMBO	 0xc2 /* RFC 2675 */
#define JUMBO_HEADER	 8    /* hop-by-hop options containing nothing else */

struct udp {
	__be16 src;
	__be16 dst;
	__be16 length;
	__be16 check;
};

struct tcp {
	__be16 src;
	__be16 dst;
	__be32 seq;
	__be32 ack;
	__u8 offset; /* upper nibble: header length in units of 4 bytes */
	__u8 flags;
	__be16 window;
	__be32 rest;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* RFC 792, 4443 */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 rest;
};

#define ICMP_ECHO_REPLY	   0
#define ICMP_ECHO	   8
#define ICMPV6_ECHO	   128
#define ICMPV6_ECHO_REPLY  129
#define ICMP_UNREACHABLE   3
#define ICMP_TOO_BIG	   4 /* a code of the former */
#define ICMP_EXCEEDED	   11
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TOO_BIG	   2
#define ICMPV6_EXCEEDED	   3

/* RFC 7348; VXLAN-GPE has the next protocol in the last byte of the first word */
struct vxlan {
	__u8 flags;
	__u8 reserved[2];
	__u8 next;
	__be32 vni; /* upper 24 bits */
};

#define VXLAN_I	    0x08
#define VXLAN_G	    0x80 /* group policy, in `reserved` */
#define GPE_VERSION 0x30
#define GPE_P	    0x04

/* RFC 8926 */
struct geneve {
	__u8 version_optlen; /* options in units of 4 bytes */
	__u8 flags;
	__be16 type;
	__be32 vni; /* upper 24 bits */
};

/* RFC 2784, 2890, 1701, 2637 */
struct gre {
	__be16 flags;
	__be16 type;
};

#define GRE_CSUM    0x8000
#define GRE_ROUTING 0x4000
#define GRE_KEY	    0x2000
#define GRE_SEQ	    0x1000
#define GRE_ACK	    0x0080 /* version 1 */
#define GRE_VERSION 0x0007

struct gre_route {
	__be16 family;
	__u8 offset;
	__u8 length;
};

/* 3GPP TS 29.281 */
struct gtpu {
	__u8 flags;
	__u8 type;
	__be16 length; /* of what follows these 8 bytes */
	__be32 teid;
};

#define GTPU_TPDU    255
#define GTPU_IE_TEID 16 /* information elements */
#define GTPU_IE_PEER 133
#define GTPU_OPTIONS 0x07 /* E, S or PN: four more bytes */
#define GTPU_E	     0x04
#define GTPU_S	     0x02

/* RFC 3032 */
#define MPLS_BOTTOM 0x100

/* RFC 8300 */
struct nsh {
	__be16 version_length; /* length in units of 4 bytes in the lowest 6 bits */
	__u8 md;
	__u8 next;
	__be32 path; /* SPI in the upper 24 bits */
};

/* RFC 2516 */
struct pppoe {
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 length;
};

/* RFC 9300 */
struct lisp {
	__u8 flags;
	__u8 nonce[3];
	__be32 instance; /* upper 24 bits, if the I flag is set */
};

#define LISP_I 0x08

/* draft-massar-v6ops-ayiya */
struct ayiya {
	__u8 id;	/* log2 of the identity's length, type */
	__u8 signature; /* length in units of 4 bytes, hash method */
	__u8 opcode;	/* authentication method, opcode */
	__u8 next;
	__be32 epoch;
};

#define AYIYA_FORWARD 1

#endif
