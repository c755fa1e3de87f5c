// SPDX-License-Identifier: MIT OR Apache-2.0
//! Known findings, which are muted: by kind and filter expression, until a day.
//!
//! ```text
//! # kind     expression                  until
//! silent     host:172.16.1.105           until 2026-12-24   # being replaced
//! moved      vni:10003
//! ```
use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use jiff::{civil::Date, tz::TimeZone};

use super::{Finding, Topic};
use crate::{
    filter::Filter,
    flow::{Counters, Flow, Inner, InnerProto, Key, Kind, Pair, Tunnel},
};

/// One line.
#[derive(Clone, Debug)]
struct Rule {
    topic: Topic,
    filter: Filter,
    /// The rule expires then.
    until: SystemTime,
}

/// Limit on the lines read: each new finding is compared with all of them.
const MOST: usize = 1000;

/// The list of known findings.
#[derive(Clone, Debug, Default)]
pub struct Known(Vec<Rule>);

impl Known {
    /// Parses the lines of a file; an error says which line is wrong, and why.
    ///
    /// # Errors
    /// An unknown kind, an invalid expression, or an invalid day.
    pub fn parse(
        text: &str,
        filter: impl Fn(&str) -> Result<Filter, String>,
    ) -> Result<Known, String> {
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |what: String| format!("line {}: {what}", number + 1);
            let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let topic = Topic::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| {
                let all: Vec<&str> = Topic::ALL.iter().map(|t| t.name()).collect();
                wrong(format!("there is no finding `{name}`: it is one of {}", all.join(", ")))
            })?;
            let mut words: Vec<&str> = rest.split_whitespace().collect();
            let until = match words.iter().position(|w| *w == "until") {
                None => forever(),
                Some(at) => {
                    let after = words.split_off(at);
                    let [_, day] = after[..] else {
                        return Err(wrong(
                            "`until` takes one day at the end of the line".to_owned(),
                        ));
                    };
                    let day: Date = day.parse().map_err(|_| {
                        wrong(format!("`{day}` is not a day: write it as 2026-12-24"))
                    })?;
                    end_of(day)
                }
            };
            let filter = filter(&words.join(" ")).map_err(wrong)?;
            if rules.len() == MOST {
                return Err(wrong(format!(
                    "more than {MOST} rules: one filter can name many (host:10.0.0.0/8, vni:1-99)"
                )));
            }
            rules.push(Rule { topic, filter, until });
        }
        Ok(Known(rules))
    }

    /// Until when a finding is known, if it is: this depends only on its subject, which does not
    /// change.
    pub fn until(&self, finding: &Finding) -> Option<SystemTime> {
        let of = self.0.iter().filter(|rule| rule.topic == finding.topic);
        of.filter(|rule| matches(&rule.filter, finding)).map(|rule| rule.until).max()
    }
}

/// The end of a day in UTC; the last representable day never ends.
fn end_of(day: Date) -> SystemTime {
    let next = day.tomorrow().and_then(|day| day.to_zoned(TimeZone::UTC));
    next.map_or_else(|_| forever(), |next| next.timestamp().into())
}

/// Later than any time that occurs.
fn forever() -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(1 << 60))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Filters apply to rows: the finding is treated like the row that it is about.
fn matches(filter: &Filter, finding: &Finding) -> bool {
    let place = &finding.place;
    let pair = |a: Option<IpAddr>, b: Option<IpAddr>| {
        let (first, second) = (a.or(b)?, b.or(a)?);
        Some(Pair { first, second })
    };
    let inner = pair(place.inner_from, place.inner_to);
    let key = Key {
        outer: pair(place.outer_from, place.outer_to),
        outermost: place.tunnel.unwrap_or(Tunnel { kind: Kind::None, id: None }),
        innermost: None,
        depth: u8::from(place.tunnel.is_some()),
        inner: inner.map_or(Inner::Proto(InnerProto(0)), Inner::Pair),
        other: false,
    };
    let flow = Flow { interface: 0, key, counters: Counters::default() };
    filter.matches(&flow, place.interface.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::stage::{Stage, talk},
        Known,
    };
    use crate::filter::Filter;

    fn parse(text: &str) -> Result<Known, String> {
        Known::parse(text, |e| Filter::parse(e).map_err(|e| e.to_string()))
    }

    #[test]
    fn known_findings_match_by_kind_expression_and_day() {
        let mut stage = Stage::default();
        stage.seconds(3, &[talk(2, Some((1, 2)), 1, 1)]);
        stage.seconds(10, &[talk(2, Some((1, 2)), 1, 0)]);
        let finding = stage.detectors.findings().next().expect("silent").clone();
        let known =
            |text: &str, now| parse(text).expect("a file").until(&finding).is_some_and(|t| now < t);
        let has = |text: &str| known(text, stage.now());
        assert!(has("silent host:172.16.1.2"));
        assert!(has("# of ours\n\nsilent   # all of them"));
        assert!(has("silent vni:7 until 2100-01-01"));
        assert!(has("silent until 9999-12-31"));
        assert!(!has("silent vni:8"));
        assert!(!has("moved host:172.16.1.2"));
        // The stage's first second is 1970-01-12T13:46:40Z.
        assert!(has("silent until 1970-01-12") && !has("silent until 1970-01-11"));
        let later = stage.now() + Duration::from_secs(86_400);
        assert!(!known("silent until 1970-01-12", later));
        assert!(known("silent until 1970-01-12\nsilent vni:7", later), "the last of them");
    }

    #[test]
    fn errors_name_the_line() {
        let wrong = |text: &str| parse(text).expect_err("wrong");
        assert!(wrong("\nquiet").starts_with("line 2: there is no finding `quiet`: it is one of"));
        assert_eq!(
            wrong("silent until tomorrow"),
            "line 1: `tomorrow` is not a day: write it as 2026-12-24"
        );
        assert!(wrong("silent vni:x").starts_with("line 1: "));
        assert!(parse(&"silent host:10.0.0.1\n".repeat(super::MOST)).is_ok());
        let many = wrong(&"silent host:10.0.0.1\n".repeat(super::MOST + 1));
        assert!(many.starts_with("line 1001: more than 1000 rules: "), "{many}");
        assert_eq!(
            wrong("silent until 2026-12-24 vni:7"),
            "line 1: `until` takes one day at the end of the line"
        );
    }
}
