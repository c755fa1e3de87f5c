// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that the generated files match the headers. `make contract` rewrites them.
use std::{
    env, fs,
    path::{Path, PathBuf},
};

use contract::{Facts, Kind, LAYOUT, TMON_LAYOUT};

fn crate_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn writing() -> bool {
    env::var_os("TMON_WRITE").is_some()
}

fn layout_file(version: u32) -> PathBuf {
    crate_root().join(format!("layout/{version}.txt"))
}

/// Lists that are only ever appended to: an older reader shows the new entries as numbers.
const LISTS: [&str; 2] = ["KIND_", "REASON_"];

/// The lines of a description that must stay the same in every version of tmon.
fn fixed(description: &str) -> Vec<&str> {
    let listed = |line: &&str| LISTS.iter().any(|list| line.starts_with(list));
    description.lines().filter(|line| !listed(line)).collect()
}

fn listed<'a>(description: &'a str, list: &str) -> Vec<&'a str> {
    description.lines().filter(|line| line.starts_with(list)).collect()
}

#[test]
fn a_pinned_layout_never_changes_its_meaning() {
    let path = layout_file(TMON_LAYOUT);
    let now: String = LAYOUT.iter().map(|line| format!("{line}\n")).collect();
    let known = fs::read_to_string(&path).ok();
    if let Some(known) = &known {
        assert_eq!(
            fixed(known),
            fixed(&now),
            "tables of layout {TMON_LAYOUT} that are pinned would be misread: raise TMON_LAYOUT"
        );
        for list in LISTS {
            assert!(
                listed(&now, list).starts_with(&listed(known, list)),
                "a {list} has another number than in pinned tables: append new ones"
            );
        }
    }
    if writing() {
        fs::write(&path, now).expect("the layout's description can be written");
    } else {
        assert_eq!(known.as_ref(), Some(&now), "new kinds, or a new layout: run `make contract`");
    }
    if let Ok(before) = fs::read_to_string(layout_file(TMON_LAYOUT - 1)) {
        let known = fs::read_to_string(&path).expect("it was there or has been written");
        assert_ne!(fixed(&before), fixed(&known), "TMON_LAYOUT changed, but not the layout");
    }
}

/// A row of the table in docs/ENCAPSULATIONS.md.
fn table_row(facts: &Facts) -> String {
    let list = |numbers: Option<Vec<String>>| numbers.unwrap_or_default().join(", ");
    let ports = list(facts.ports.map(|p| p.iter().map(u16::to_string).collect()));
    let protocols = list(facts.protocols.map(|p| p.iter().map(u8::to_string).collect()));
    let Facts { name, title, id, reference, .. } = facts;
    let cells = [&format!("`{name}`"), *title, &ports, &protocols, id, reference];
    cells.iter().fold(String::from("|"), |row, cell| {
        if cell.is_empty() { row + " |" } else { format!("{row} {cell} |") }
    })
}

#[test]
fn the_encapsulation_table_matches_the_header() {
    const BEGIN: &str = "<!-- from bpf/kinds.h by `make contract` -->\n";
    const END: &str = "<!-- end -->\n";
    let rows = Kind::ALL.iter().filter(|kind| **kind != Kind::None).filter_map(|k| k.facts());
    let table: String = [
        "| kind | what it is | UDP ports | IP protocols | id | reference |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ]
    .into_iter()
    .chain(rows.map(table_row))
    .map(|line| line + "\n")
    .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ENCAPSULATIONS.md");
    let text = fs::read_to_string(&path).expect("docs/ENCAPSULATIONS.md can be read");
    let (before, rest) = text.split_once(BEGIN).expect("the table has a beginning");
    let (known, after) = rest.split_once(END).expect("the table has an end");
    if writing() {
        fs::write(&path, [before, BEGIN, &table, END, after].concat()).expect("it can be written");
    } else {
        assert_eq!(known, table, "docs/ENCAPSULATIONS.md is not what bpf/kinds.h says");
    }
}

#[test]
fn every_kind_is_found_by_number_and_by_name() {
    for (number, kind) in (0u8..).zip(Kind::ALL) {
        assert_eq!((kind.number(), Kind::from_number(number)), (number, *kind));
        assert_eq!(kind.name().map(|name| name.to_uppercase().parse()), Some(Ok(*kind)));
    }
    assert_eq!(u32::try_from(Kind::ALL.len()), Ok(contract::KINDS));
    assert_eq!(Kind::from_number(200), Kind::Unknown(200));
    assert_eq!(Kind::Unknown(200).to_string(), "kind-200");
    assert!("nonsense".parse::<Kind>().is_err());
}

#[test]
fn no_two_kinds_share_a_port() {
    let mut ports: Vec<_> = Kind::default_ports().map(|(_, port)| port).collect();
    ports.sort_unstable();
    let all = ports.len();
    ports.dedup();
    assert_eq!(ports.len(), all);
}
