// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel of this host: the BPF object, its hooks, its pins; interfaces, namespaces and tunnel
//! devices; and the privileges of this process. Without the feature `live` only the latter remain.
#[cfg(feature = "live")]
pub mod asked;
#[cfg(feature = "live")]
pub mod attach;
#[cfg(feature = "live")]
pub mod bpf;
#[cfg(feature = "live")]
pub mod catch;
#[cfg(feature = "live")]
pub mod check;
pub mod clock;
#[cfg(feature = "live")]
pub mod closer;
#[cfg(feature = "live")]
pub mod discover;
#[cfg(feature = "live")]
pub mod drop_watch;
#[cfg(feature = "live")]
pub mod hosted;
#[cfg(feature = "live")]
pub mod live;
#[cfg(feature = "live")]
pub mod loaded;
#[cfg(feature = "live")]
pub mod local;
#[cfg(feature = "live")]
pub(crate) mod lock;
#[cfg(feature = "live")]
mod locked;
#[cfg(feature = "live")]
pub mod misfit;
#[cfg(feature = "live")]
pub mod netlink;
#[cfg(feature = "live")]
pub mod netns;
pub mod origin;
#[cfg_attr(not(feature = "live"), allow(dead_code))] // folders are for what stays attached
pub(crate) mod owned;
#[cfg(feature = "live")]
pub(crate) mod owner;
#[cfg(feature = "live")]
pub mod pin;
#[cfg(feature = "live")]
pub mod pods;
pub mod privilege;
#[cfg(feature = "live")]
pub mod probe;
#[cfg(feature = "live")]
mod probing;
#[cfg(feature = "live")]
mod ring;
pub mod runner;
pub mod sandbox;
#[cfg(feature = "live")]
mod space;
#[cfg(feature = "live")]
mod survey;
#[cfg(feature = "live")]
mod timing;
#[cfg(feature = "live")]
pub mod version;
