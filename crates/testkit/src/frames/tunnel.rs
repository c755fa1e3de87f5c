// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tunnel headers.
use super::{Fix, Frame, Layer, Name, Space};

/// The optional parts of a GRE version 0 header, RFC 2784 and 2890.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gre {
    pub checksum: bool,
    pub key: Option<u32>,
    pub sequence: Option<u32>,
    /// RFC 1701 routing: one entry of 4 bytes and the null entry.
    pub routing: bool,
}

/// The optional parts of a GTP-U header, 3GPP TS 29.281.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gtp<'a> {
    pub sequence: Option<u16>,
    pub npdu: Option<u8>,
    /// Extension headers: type and content (4n - 2 bytes).
    pub extensions: &'a [(u8, &'a [u8])],
}

/// The optional parts of an L2TPv2 header, RFC 2661 section 3.1.
#[derive(Clone, Copy, Debug, Default)]
pub struct L2tp {
    pub length: bool,
    pub sequence: bool,
    pub offset: Option<u16>,
    pub priority: bool,
    /// A control message (type bit).
    pub control: bool,
}

fn ether(n: u16) -> Name {
    Name { ether: Some(n), ..Name::default() }
}

impl Frame {
    fn header(self, shark: &'static str, bytes: Vec<u8>, fixes: Vec<Fix>) -> Self {
        self.push(Layer { shark, bytes, fixes, ..Layer::default() })
    }

    /// VXLAN, RFC 7348; Ethernet follows.
    pub fn vxlan(self, vni: u32) -> Self {
        self.header("vxlan", [[8, 0, 0, 0], (vni << 8).to_be_bytes()].concat(), vec![])
    }

    /// VXLAN-GPE with the P bit.
    pub fn vxlan_gpe(self, vni: u32) -> Self {
        self.header(
            "",
            [[0x0c, 0, 0, 0], (vni << 8).to_be_bytes()].concat(),
            vec![Fix::Next(3, Space::Gpe)],
        )
    }

    /// Geneve, RFC 8926, without options.
    pub fn geneve(self, vni: u32) -> Self {
        self.geneve_options(vni, &[])
    }

    /// Geneve with these options, a multiple of 4 bytes.
    pub fn geneve_options(self, vni: u32, options: &[u8]) -> Self {
        let first = [(options.len() / 4) as u8, 0, 0, 0];
        let bytes = [&first[..], &(vni << 8).to_be_bytes(), options].concat();
        self.header("geneve", bytes, vec![Fix::Next(2, Space::Ether)])
    }

    /// GRE version 0.
    pub fn gre(self, o: Gre) -> Self {
        let bit = |on: bool, n: u32| u16::from(on) << n;
        let flags = bit(o.checksum, 15)
            | bit(o.routing, 14)
            | bit(o.key.is_some(), 13)
            | bit(o.sequence.is_some(), 12);
        let mut bytes = [flags.to_be_bytes(), [0, 0]].concat();
        let mut fixes = vec![Fix::Next(2, Space::Ether)];
        if o.checksum || o.routing {
            bytes.extend([0; 4]);
        }
        if o.checksum {
            fixes.push(Fix::Sum(4));
        }
        for word in [o.key, o.sequence].into_iter().flatten() {
            bytes.extend(word.to_be_bytes());
        }
        if o.routing {
            // address family 0x0800, offset 0, length 4, one hop; then the null entry
            bytes.extend([8, 0, 0, 4, 192, 0, 2, 1, 0, 0, 0, 0]);
        }
        self.push(Layer {
            shark: "gre",
            bytes,
            name: Name { ip: Some(47), ..Name::default() },
            fixes,
            ..Layer::default()
        })
    }

    /// Cisco WCCP's redirect header behind GRE; IPv4 follows.
    pub fn wccp(self) -> Self {
        self.push(Layer { shark: "", bytes: vec![0; 4], name: ether(0x883e), ..Layer::default() })
    }

    /// ERSPAN type I: nothing but its GRE protocol type; Ethernet follows.
    pub fn erspan1(self) -> Self {
        self.push(Layer { shark: "erspan", name: ether(0x88be), ..Layer::default() })
    }

    /// ERSPAN type II, behind a GRE header with a sequence number; Ethernet follows.
    pub fn erspan2(self, session: u16) -> Self {
        let bytes = [&[0x10, 0x64][..], &session.to_be_bytes(), &[0, 0, 0, 1]].concat();
        self.push(Layer { shark: "erspan", bytes, name: ether(0x88be), ..Layer::default() })
    }

    /// ERSPAN type III: frame type 0 is Ethernet, 2 is IP. With `platform`, an optional subheader.
    pub fn erspan3(self, session: u16, frame_type: u8, platform: bool) -> Self {
        let last = (u16::from(frame_type) << 10 | u16::from(platform)).to_be_bytes();
        let mut bytes =
            [&[0x20, 0x64][..], &session.to_be_bytes(), &[0, 0, 0, 9], &[0, 0], &last].concat();
        if platform {
            bytes.extend([0x14, 0, 0, 0, 0, 0, 0, 1]);
        }
        self.push(Layer {
            shark: if frame_type == 2 { "erspan:!" } else { "erspan" },
            bytes,
            name: ether(0x22eb),
            ..Layer::default()
        })
    }

    /// Enhanced GRE (version 1) of PPTP, RFC 2637; PPP follows.
    pub fn pptp(self, call: u16, sequence: Option<u32>, ack: Option<u32>) -> Self {
        let flags = 0x2001 | u16::from(sequence.is_some()) << 12 | u16::from(ack.is_some()) << 7;
        let mut bytes = [flags.to_be_bytes(), [0x88, 0x0b], [0, 0], call.to_be_bytes()].concat();
        for word in [sequence, ack].into_iter().flatten() {
            bytes.extend(word.to_be_bytes());
        }
        let fixes = vec![Fix::Len { at: 4, from: bytes.len() }];
        self.push(Layer {
            shark: "gre",
            bytes,
            name: Name { ip: Some(47), ..Name::default() },
            fixes,
            ..Layer::default()
        })
    }

    /// MikroTik's Ethernet over IP; Ethernet follows.
    pub fn eoip(self, id: u16) -> Self {
        let bytes = [[0x20, 0x01], [0x64, 0x00], [0, 0], id.to_le_bytes()].concat();
        let fixes = vec![Fix::Len { at: 4, from: 8 }];
        self.push(Layer {
            shark: "gre",
            bytes,
            name: Name { ip: Some(47), ..Name::default() },
            fixes,
            ..Layer::default()
        })
    }

    /// GTP-U T-PDU; IP follows.
    pub fn gtpu(self, teid: u32, o: Gtp) -> Self {
        self.gtp(255, teid, o)
    }

    /// A GTP-U version 1 message of any type.
    pub fn gtp(self, message: u8, teid: u32, o: Gtp) -> Self {
        let (s, pn, e) = (o.sequence.is_some(), o.npdu.is_some(), !o.extensions.is_empty());
        let flags = 0x30 | u8::from(e) << 2 | u8::from(s) << 1 | u8::from(pn);
        let mut bytes = [&[flags, message, 0, 0][..], &teid.to_be_bytes()].concat();
        if s || pn || e {
            let first = o.extensions.first().map_or(0, |x| x.0);
            bytes.extend(o.sequence.unwrap_or(0).to_be_bytes());
            bytes.extend([o.npdu.unwrap_or(0), first]);
        }
        for (i, (_, content)) in o.extensions.iter().enumerate() {
            bytes.push(((content.len() + 2) / 4) as u8);
            bytes.extend(*content);
            bytes.push(o.extensions.get(i + 1).map_or(0, |x| x.0));
        }
        self.header("gtp", bytes, vec![Fix::Len { at: 2, from: 8 }])
    }

    /// GUE variant 0 with `words` of extension fields; an IP protocol follows.
    pub fn gue(self, words: u8) -> Self {
        let bytes = [&[words, 253, 0, 0][..], &vec![0; usize::from(words) * 4]].concat();
        self.header("!", bytes, vec![Fix::Next(1, Space::Ip)])
    }

    /// Teredo without indications; IPv6 follows.
    pub fn teredo(self) -> Self {
        self.header("teredo", vec![], vec![])
    }

    /// Teredo authentication, RFC 4380 section 5.1.1, with client id and authentication value.
    pub fn teredo_auth(self, id: &[u8], value: &[u8]) -> Self {
        let bytes =
            [&[0, 1, id.len() as u8, value.len() as u8][..], id, value, &[7; 8], &[0]].concat();
        self.header("", bytes, vec![])
    }

    /// Teredo origin indication.
    pub fn teredo_origin(self) -> Self {
        self.header("", vec![0, 0, 0x2a, 0x2b, 0xff, 0xfe, 0xfd, 0xfc], vec![])
    }

    /// L2TP version 2; PPP follows a data message.
    pub fn l2tp(self, tunnel: u16, session: u16, o: L2tp) -> Self {
        let bit = |on: bool, n: u32| u16::from(on) << n;
        let flags = bit(o.control, 15)
            | bit(o.length, 14)
            | bit(o.sequence, 11)
            | bit(o.offset.is_some(), 9)
            | bit(o.priority, 8)
            | 2;
        let mut bytes = flags.to_be_bytes().to_vec();
        let mut fixes = vec![];
        if o.length {
            fixes.push(Fix::Len { at: 2, from: 0 });
            bytes.extend([0; 2]);
        }
        bytes.extend([tunnel.to_be_bytes(), session.to_be_bytes()].concat());
        if o.sequence {
            bytes.extend([0, 1, 0, 0]);
        }
        if let Some(n) = o.offset {
            bytes.extend(n.to_be_bytes());
            bytes.extend(vec![0; usize::from(n)]);
        }
        self.header("l2tp", bytes, fixes)
    }

    /// LISP data, RFC 9300, with an instance id if there is one; IP follows.
    pub fn lisp(self, instance: Option<u32>) -> Self {
        let flags = 0x80 | u8::from(instance.is_some()) << 3;
        let bytes = [&[flags, 1, 2, 3][..], &(instance.unwrap_or(0) << 8).to_be_bytes()].concat();
        self.header("lisp-data", bytes, vec![])
    }

    /// EtherIP, RFC 3378; Ethernet follows.
    pub fn etherip(self) -> Self {
        self.push(Layer {
            shark: "etherip",
            bytes: vec![0x30, 0],
            name: Name { ip: Some(97), ..Name::default() },
            ..Layer::default()
        })
    }

    /// AYIYA with a 16 byte identity and a 20 byte signature; IPv6 follows.
    pub fn ayiya(self) -> Self {
        let bytes = [&[0x44, 0x52, 0x11, 59, 0, 0, 0, 1][..], &[9; 16], &[8; 20]].concat();
        self.header("ayiya", bytes, vec![Fix::Next(3, Space::Ip)])
    }

    /// A WireGuard message: 1 initiation, 2 response, 3 cookie reply, 4 transport data of `n` bytes.
    pub fn wireguard(self, message: u8, n: usize) -> Self {
        let body = match message {
            1 => 144,
            2 => 88,
            3 => 60,
            _ => 12 + n + 16,
        };
        self.header("wg", [vec![message, 0, 0, 0], vec![0xc3; body]].concat(), vec![])
    }

    /// L2TP version 3 in UDP, RFC 3931, with `more` bytes of cookie and sublayer; Ethernet follows.
    pub fn l2tpv3(self, session: u32, more: usize) -> Self {
        self.header(
            "",
            [&[0, 3, 0, 0][..], &session.to_be_bytes(), &vec![7; more]].concat(),
            vec![],
        )
    }

    /// The same in IP protocol 115.
    pub fn l2tpv3_ip(self, session: u32, more: usize) -> Self {
        let bytes = [&session.to_be_bytes()[..], &vec![7; more]].concat();
        self.push(Layer {
            bytes,
            name: Name { ip: Some(115), ..Name::default() },
            ..Layer::default()
        })
    }

    /// CAPWAP data, RFC 5415, with flags of its first word; Ethernet follows, or 802.11 with
    /// [`CAPWAP_NATIVE`].
    pub fn capwap(self, radio: u8, flags: u32, options: &[u8]) -> Self {
        let words = 2 + options.len() as u32 / 4;
        let word = words << 19 | u32::from(radio) << 14 | 1 << 9 | flags;
        self.header("capwap.data", [&word.to_be_bytes()[..], &[0; 4], options].concat(), vec![])
    }

    /// An 802.11 frame with this frame control and these optional fields after the third address;
    /// SNAP follows.
    pub fn dot11(self, control: [u8; 2], fields: &[u8]) -> Self {
        let addresses = [2, 0, 0, 0, 0, 9].repeat(3);
        self.header("wlan", [&control, &[0; 2][..], &addresses, &[0; 2], fields].concat(), vec![])
    }

    /// LLC and SNAP, RFC 1042; an EtherType's payload follows.
    pub fn snap(self) -> Self {
        let bytes = vec![0xaa, 0xaa, 3, 0, 0, 0, 0, 0];
        self.header("llc", bytes, vec![Fix::Next(6, Space::Ether)])
    }
}

/// CAPWAP's flags: 802.11 inside, a fragment, wireless information, a radio's address, a keepalive.
pub const CAPWAP_NATIVE: u32 = 0x100;
pub const CAPWAP_FRAGMENT: u32 = 0x80;
pub const CAPWAP_WIRELESS: u32 = 0x20;
pub const CAPWAP_MAC: u32 = 0x10;
pub const CAPWAP_KEEPALIVE: u32 = 8;
