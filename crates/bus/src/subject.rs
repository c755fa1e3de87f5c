// SPDX-License-Identifier: MIT OR Apache-2.0
//! Subjects: `tmon.v1.FLEET.TOPIC.HOST`, where a host may be several tokens (`eu.rack4.node-57`), so
//! that wildcards select sites and permissions name hosts.
use std::fmt;

use anyhow::{Result, ensure};

/// Limit on the tokens of a host.
const TOKENS: usize = 16;

/// A host's place on the bus: its name, in the characters that a subject may contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPath(String);

impl HostPath {
    /// The place of the host with this name. Characters that a token cannot contain become `_`.
    pub fn new(name: &str) -> HostPath {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let token = |t: &str| t.chars().map(|c| if fits(c) { c } else { '_' }).collect::<String>();
        let tokens: Vec<_> = name.split('.').filter(|t| !t.is_empty()).map(token).collect();
        let path = tokens.get(..TOKENS.min(tokens.len())).unwrap_or_default().join(".");
        HostPath(if path.is_empty() { "_".to_owned() } else { path })
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topic of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// A host is present, or leaves.
    Hello,
    /// A host's report without inner addresses.
    Sum,
    /// A host's complete report.
    Rows,
    /// One row per line, for other programs.
    Json,
    /// A viewer's request.
    Want,
}

impl SubjectKind {
    const ALL: [SubjectKind; 5] = [
        SubjectKind::Hello,
        SubjectKind::Sum,
        SubjectKind::Rows,
        SubjectKind::Json,
        SubjectKind::Want,
    ];

    fn name(self) -> &'static str {
        match self {
            SubjectKind::Hello => "hello",
            SubjectKind::Sum => "sum",
            SubjectKind::Rows => "rows",
            SubjectKind::Json => "json",
            SubjectKind::Want => "want",
        }
    }
}

/// The subjects of a fleet.
#[derive(Clone, Debug)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// The subjects of the fleet with this name.
    ///
    /// # Errors
    /// It is not a token.
    pub fn of(fleet: &str) -> Result<Subjects> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_token = !fleet.is_empty() && fleet.len() <= 64 && fleet.chars().all(fits);
        ensure!(is_token, "a fleet name consists of letters, digits, - and _");
        Ok(Subjects { prefix: format!("tmon.v1.{fleet}.") })
    }

    /// The subject for messages of these hosts, or to them: a path or a pattern.
    pub fn subject(&self, topic: SubjectKind, hosts: &dyn fmt::Display) -> String {
        format!("{}{}.{hosts}", self.prefix, topic.name())
    }

    /// The topic and the host of a subject.
    pub(crate) fn read<'a>(&self, subject: &'a str) -> Option<(SubjectKind, &'a str)> {
        let (topic, host) = subject.strip_prefix(&self.prefix)?.split_once('.')?;
        let topic = SubjectKind::ALL.into_iter().find(|t| t.name() == topic)?;
        Some((topic, host)).filter(|_| HostPath::new(host).0 == host)
    }
}

/// Checks a pattern of hosts: tokens, `*` for any single one, `>` at the end for all that follow.
///
/// # Errors
/// It is invalid.
pub fn pattern(text: &str) -> Result<String, String> {
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        let is_last = tokens.peek().is_none();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_token = !token.is_empty() && token.chars().all(fits);
        if !is_token && token != "*" && !(token == ">" && is_last) {
            let wrong = "expected names separated by dots, with * for one name and > at the end for all: eu.>";
            return Err(wrong.to_owned());
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_where_a_subject_can_name_it() {
        let path = |name: &str| HostPath::new(name).to_string();
        assert_eq!(path("eu.rack4.node-57"), "eu.rack4.node-57");
        assert_eq!(path("node a>b*c"), "node_a_b_c");
        assert_eq!([path(""), path("..")], ["_", "_"]);
        assert_eq!(path(&["a"; 20].join(".")), ["a"; TOKENS].join("."));
        let subjects = Subjects::of("prod").expect("a token");
        let hello = subjects.subject(SubjectKind::Hello, &HostPath::new("eu.a"));
        assert_eq!(hello, "tmon.v1.prod.hello.eu.a");
        assert_eq!(subjects.read(&hello), Some((SubjectKind::Hello, "eu.a")));
        for other in ["tmon.v1.test.hello.a", "tmon.v1.prod.hello", "tmon.v1.prod.else.a", "x"] {
            assert_eq!(subjects.read(other), None, "{other}");
        }
        assert!(Subjects::of("a.b").is_err() && Subjects::of("").is_err());
    }

    #[test]
    fn patterns_are_those_of_the_bus() {
        for right in [">", "eu.>", "*.rack4.>", "eu.rack4.node-57"] {
            assert!(pattern(right).is_ok(), "{right}");
        }
        for wrong in ["", "eu.", ">.eu", "eu.a>", "a b", "eu..x"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }
}
