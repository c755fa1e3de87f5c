// SPDX-License-Identifier: MIT OR Apache-2.0
//! A watched network namespace: which of its interfaces to watch, and what its UDP ports lead to.
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::survey::Survey;
use crate::kernel::{
    discover::{FoundTunnel, NetnsView},
    netlink::{Changes, Link, Netlink, NetnsChange, TunnelDevice},
    netns::NetnsHandle,
};
use model::{overlay::Overlay, units::sanitize};

/// How often to look even if no event arrived: routes change without any event about interfaces.
const PATROL: Duration = Duration::from_millis(1500);

/// Limit on the changes read at a time: a flood of them must not stop the drawing.
const MOST_CHANGES: usize = 10_000;

/// One network namespace.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) place: NetnsHandle,
    pub(super) netlink: Netlink,
    changes: Changes,
    /// Names and patterns of the interfaces asked for; if empty, those below the tunnel devices, as
    /// these come and go.
    wanted: Vec<String>,
    /// Tunnel devices that are up, by index.
    tunnels: BTreeMap<u32, String>,
    /// WireGuard devices that were created here and are elsewhere, as of the first look.
    moved: Vec<FoundTunnel>,
    /// The last notice about bridges with several watched ports.
    pub(super) bridged: Vec<String>,
    looked: Option<Instant>,
    /// Whether there is more to watch than there was time for.
    pub(super) behind: bool,
    /// What findings are compared with, if detectors run.
    survey: Option<Survey>,
    scene: NetnsView,
}

/// The present state of a namespace.
pub(super) struct View {
    /// Its interfaces and tunnels.
    pub(super) scene: NetnsView,
    /// The indexes of those to watch.
    pub(super) wanted: BTreeSet<u32>,
}

impl Space {
    /// Enters a namespace and listens to its changes. Without names: the underlays of its tunnels.
    pub(super) fn open(netns: Option<&str>, names: BTreeSet<String>) -> Result<Space> {
        let place = NetnsHandle::open(netns)?;
        // Events first, so that nothing is missed between looking and listening.
        let changes = place.run(Changes::open)??;
        let netlink = Netlink::open_inside(&place)?;
        Ok(Space {
            place,
            netlink,
            changes,
            wanted: names.into_iter().collect(),
            tunnels: BTreeMap::new(),
            moved: Vec::new(),
            bridged: Vec::new(),
            looked: None,
            behind: false,
            survey: None,
            scene: NetnsView::default(),
        })
    }

    /// Follows the namespace's configuration of tunnels from now on.
    pub(super) fn survey(&mut self) -> Result<()> {
        self.changes.follow_all(&self.place)?;
        self.survey = Some(Survey::default());
        Ok(())
    }

    /// Whether that has changed since the last call.
    pub(super) fn has_changed(&mut self) -> Result<bool> {
        let Some(survey) = &mut self.survey else { return Ok(false) };
        survey.update(&mut self.netlink)
    }

    /// Adds this to an overlay.
    pub(super) fn add_to(&self, overlay: &mut Overlay) {
        if let Some(survey) = &self.survey {
            survey.add(&self.place, &self.scene, overlay);
        }
    }

    /// " in network namespace x", for messages.
    pub(super) fn words(&self) -> String {
        self.place
            .name()
            .map_or(String::new(), |n| format!(" in network namespace {}", sanitize(n)))
    }

    /// Interfaces that have gone since the last call, and whether it is time to look again.
    pub(super) fn listen(&mut self) -> Result<(Vec<u32>, bool)> {
        let mut removed = Vec::new();
        let mut due =
            mem::take(&mut self.behind) || self.looked.is_none_or(|at| at.elapsed() >= PATROL);
        for change in self.changes.poll(MOST_CHANGES)? {
            match &change {
                NetnsChange::Link(link, gone) => {
                    removed.extend(gone.then_some(link.index));
                    due = true;
                }
                NetnsChange::Lost => due = true,
                _ => {}
            }
            if let Some(survey) = &mut self.survey {
                survey.hear(change);
            }
        }
        Ok((removed, due))
    }

    /// Reads the present state. Noteworthy changes go to `notices`.
    ///
    /// # Errors
    /// The kernel gives no answer; at the first look also: a name that does not exist, or nothing
    /// to watch.
    pub(super) fn look(&mut self, notices: &mut Vec<String>) -> Result<View> {
        let first = self.looked.replace(Instant::now()).is_none();
        let scene = if first {
            // Later there may be no privilege to enter others.
            let scene = NetnsView::read_with_moved(&self.place, &mut self.netlink)?;
            self.moved = scene.moved().cloned().collect();
            scene
        } else {
            NetnsView::read(&mut self.netlink)?.with(&self.moved)
        };
        let tunnels: Vec<&TunnelDevice> =
            scene.tunnels.iter().map(|t| &t.device).filter(|t| t.up).collect();
        let wanted = if first {
            let choice = scene.choose(&self.wanted, &self.words())?;
            notices.extend(choice.notices);
            choice.links.iter().map(|l| l.index).collect()
        } else {
            if self.wanted.is_empty() {
                self.tell_tunnels(&scene.links, &tunnels, notices);
            }
            scene.wanted(&self.wanted)
        };
        self.tunnels = tunnels.into_iter().map(|t| (t.ifindex, t.name.clone())).collect();
        if let Some(survey) = &mut self.survey {
            survey.know(&scene.links);
            self.scene = scene.clone();
        }
        Ok(View { scene, wanted })
    }

    fn tell_tunnels(&self, links: &[Link], tunnels: &[&TunnelDevice], notices: &mut Vec<String>) {
        let place = self.words();
        for t in tunnels.iter().filter(|t| !self.tunnels.contains_key(&t.ifindex)) {
            let id = t.id.map_or(String::new(), |id| format!(" {id}"));
            let port = t.port.map_or(String::new(), |port| format!(", port {port}"));
            notices.push(format!(
                "tunnel device {}{place} is new: {}{id}{port}",
                sanitize(&t.name),
                t.kind
            ));
        }
        for (index, name) in
            self.tunnels.iter().filter(|(index, _)| !tunnels.iter().any(|t| t.ifindex == **index))
        {
            let what = if links.iter().any(|l| l.index == *index) { "is down" } else { "is gone" };
            notices.push(format!("tunnel device {}{place} {what}", sanitize(name)));
        }
    }
}
