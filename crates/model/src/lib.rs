// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readings and what is derived from them: rows, snapshots, intervals, and from these matrices,
//! chords, shapes and lines. All of it is pure: no clock, no file, no terminal, no kernel.
pub mod alias;
pub mod beside;
pub mod cells;
pub mod charset;
pub mod chord;
pub mod colour;
pub mod detect;
pub mod drops;
pub mod ends;
pub mod filter;
pub mod fleet;
pub mod flow;
pub mod fragments;
pub mod groups;
pub mod history;
pub mod interface;
pub mod labels;
pub mod lane;
mod ledger;
pub mod lens;
pub mod lines;
pub mod matrix;
pub mod once;
pub mod overlay;
pub mod picture;
pub mod raster;
pub mod returns;
pub mod rows;
pub mod rtt;
pub mod shapes;
pub mod snapshot;
pub mod text;
pub mod trend;
pub mod units;
