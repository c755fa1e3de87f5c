// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layers below IP: Ethernet and its tags, MPLS, PPP, NSH, ARP.
use super::{Fix, Frame, Layer, Name, Space};

fn ether(n: u16) -> Name {
    Name { ether: Some(n), ..Name::default() }
}

impl Frame {
    /// Ethernet II, or 802.3 before an LLC layer.
    pub fn eth(self) -> Self {
        let bytes = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]].concat();
        let name = Name { ether: Some(0x6558), ip: Some(143), gpe: Some(3), ..Name::default() };
        // tshark does not list the customer's Ethernet in a backbone frame
        let shark =
            if self.layers.last().is_some_and(|l| l.shark == "ieee8021ah") { "" } else { "eth" };
        // local experimental EtherType (IEEE 802) unless a known layer or `set` says otherwise
        self.push(Layer {
            shark,
            bytes: [bytes, vec![0x88, 0xb5]].concat(),
            name,
            fixes: vec![Fix::Next(12, Space::Ether)],
            ..Layer::default()
        })
    }

    /// Sets the type field of the preceding Ethernet header or tag, which is the last layer.
    pub fn ether_type(mut self, n: u16) -> Self {
        let at = self.last().bytes.len() - 2;
        self.set(at, &n.to_be_bytes())
    }

    /// 802.1Q.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(0x8100, id)
    }

    /// A VLAN tag of any protocol: 0x8100, 0x88a8 (802.1ad), 0x9100.
    pub fn tag(self, protocol: u16, id: u16) -> Self {
        let bytes = [id.to_be_bytes(), [0x88, 0xb5]].concat();
        let shark = match protocol {
            0x88a8 => "ieee8021ad",
            _ => "vlan",
        };
        let name = Name { ether: Some(protocol), ..Name::default() };
        self.push(Layer {
            shark,
            bytes,
            name,
            fixes: vec![Fix::Next(2, Space::Ether)],
            ..Layer::default()
        })
    }

    /// A tag other than a VLAN tag, with these bytes before the EtherType that follows.
    pub fn link_tag(self, protocol: u16, tag: &[u8]) -> Self {
        let shark = match protocol {
            0x8926 => "vntag",
            0x893f => "etag",
            0xf1c1 => "ieee8021cb",
            0x8909 => "cmd",
            0x892f => "hsr",
            _ => "!",
        };
        self.push(Layer {
            shark,
            bytes: [tag, &[0x88, 0xb5]].concat(),
            name: ether(protocol),
            fixes: vec![Fix::Next(tag.len(), Space::Ether)],
            ..Layer::default()
        })
    }

    /// Cisco FabricPath's tag; the frame that the fabric carries follows.
    pub fn fabric_path(self) -> Self {
        self.push(Layer {
            shark: "cfp",
            bytes: vec![0, 0x60],
            name: ether(0x8903),
            ..Layer::default()
        })
    }

    /// 802.2 LLC with some body (spanning tree).
    pub fn llc(self) -> Self {
        let bytes = [&[0x42, 0x42, 0x03][..], &[0; 35]].concat();
        self.push(Layer {
            shark: "llc",
            bytes,
            name: Name { llc: true, ..Name::default() },
            ..Layer::default()
        })
    }

    /// An ARP request.
    pub fn arp(self) -> Self {
        let bytes = [
            &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 168, 0, 1][..],
            &[0; 6],
            &[192, 168, 0, 2],
        ]
        .concat();
        let name = Name { ether: Some(0x0806), ..Name::default() };
        self.push(Layer { shark: "arp", bytes, name, ..Layer::default() })
    }

    /// A label stack, top first.
    pub fn mpls(self, labels: &[u32]) -> Self {
        let name = Name {
            ether: Some(0x8847),
            ip: Some(137),
            ppp: Some(0x0281),
            gpe: Some(5),
            ..Name::default()
        };
        let entry = |(i, label): (usize, &u32)| {
            (label << 12 | u32::from(i + 1 == labels.len()) << 8 | 64).to_be_bytes()
        };
        let bytes = labels.iter().enumerate().flat_map(entry).collect();
        self.push(Layer { shark: "mpls", bytes, name, ..Layer::default() })
    }

    /// A PPPoE session packet; PPP follows.
    pub fn pppoe(self, session: u16) -> Self {
        let bytes = [&[0x11, 0][..], &session.to_be_bytes(), &[0; 2]].concat();
        let name = Name { ether: Some(0x8864), ..Name::default() };
        self.push(Layer {
            shark: "pppoes",
            bytes,
            name,
            fixes: vec![Fix::Len { at: 4, from: 6 }],
            ..Layer::default()
        })
    }

    /// PPP's protocol field alone.
    pub fn ppp(self) -> Self {
        self.ppp_header(&[], "ppp")
    }

    /// PPP with address and control bytes.
    pub fn ppp_hdlc(self) -> Self {
        self.ppp_header(&[0xff, 0x03], "ppp")
    }

    fn ppp_header(self, before: &[u8], shark: &'static str) -> Self {
        let fix = Fix::Next(before.len(), Space::Ppp);
        let name = Name { ether: Some(0x880b), ..Name::default() };
        // LCP unless a known layer follows
        self.push(Layer {
            shark,
            bytes: [before, &[0xc0, 0x21]].concat(),
            name,
            fixes: vec![fix],
            ..Layer::default()
        })
    }

    /// PPP with its protocol field compressed to one byte: 0x21 IPv4, 0x57 IPv6.
    pub fn ppp_compressed(self, protocol: u8) -> Self {
        let name = Name { ether: Some(0x880b), ..Name::default() };
        self.push(Layer { shark: "ppp", bytes: vec![protocol], name, ..Layer::default() })
    }

    /// 802.1ah I-tag; the customer's Ethernet follows.
    pub fn pbb(self, isid: u32) -> Self {
        let name = Name { ether: Some(0x88e7), ..Name::default() };
        self.push(Layer {
            shark: "ieee8021ah",
            bytes: isid.to_be_bytes().to_vec(),
            name,
            ..Layer::default()
        })
    }

    /// A network service header, RFC 8300, metadata type 1.
    pub fn nsh(self, path: u32, index: u8) -> Self {
        self.nsh_metadata(path, index, 1, &[0; 16])
    }

    /// NSH with metadata type 2 and these bytes of it, a multiple of 4.
    pub fn nsh2(self, path: u32, index: u8, metadata: &[u8]) -> Self {
        self.nsh_metadata(path, index, 2, metadata)
    }

    fn nsh_metadata(self, path: u32, index: u8, kind: u8, metadata: &[u8]) -> Self {
        let words = (8 + metadata.len()) as u16 / 4;
        // version 0, O 0, U 0, TTL 63, length
        let first = 63u16 << 6 | words;
        let service = path << 8 | u32::from(index);
        let bytes =
            [&first.to_be_bytes()[..], &[kind, 0], &service.to_be_bytes(), metadata].concat();
        let name = Name { ether: Some(0x894f), gpe: Some(4), ..Name::default() };
        self.push(Layer {
            shark: "nsh",
            bytes,
            name,
            fixes: vec![Fix::Next(3, Space::Gpe)],
            ..Layer::default()
        })
    }
}
