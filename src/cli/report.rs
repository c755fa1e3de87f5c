// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon report`: a single file for a support ticket.
use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;
use tempfile::NamedTempFile;

use model::units::{duration as spoken, rfc3339, sanitize};

use super::{TOOL, anonymous::Mask, dump, duration, interrupted, out};
use crate::kernel::origin;

#[derive(Args, Debug)]
#[command(
    after_help = "The file contains addresses and names of this host and of all hosts it talks to: review it before \
    sharing it, or use --anonymize."
)]
pub(super) struct Report {
    /// The file to create, readable by you only; `-` is standard output [default:
    /// tmon-report-HOST-TIME.txt]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Overwrite the file if it exists
    #[arg(long, requires = "file")]
    replace: bool,
    /// Interfaces to observe [default: as for `tmon dump`]
    #[arg(long = "iface", value_name = "IFACE")]
    interfaces: Vec<String>,
    /// Network namespace of the interfaces: a name, a path, or pid:PID
    #[arg(long, value_name = "NETNS")]
    netns: Option<String>,
    /// How long to observe
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    span: Duration,
    /// Take readings and findings from this recording, or a folder of recordings, instead; may be
    /// repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "netns", "span"])]
    read: Vec<PathBuf>,
    /// Read only what was recorded between two times
    #[arg(long, value_name = "FROM..UNTIL", requires = "read")]
    between: Option<String>,
    /// Replace addresses and names of hosts and namespaces: equal ones stay equal, and addresses
    /// that share a prefix still do; each report uses a new key
    #[arg(long)]
    anonymize: bool,
}

/// How long a section may take in addition to the time of observation.
const PATIENCE: Duration = Duration::from_secs(60);
/// The section that is left out unless it fails.
const RECORD: &str = "recording";
/// The text of a section without output.
const NOTHING: &str = "nothing\n";
/// Limit on the output of a section.
const MOST_BYTES: u64 = 16 << 20;

/// A section: its title, and the arguments of the command that prints it.
struct Part {
    title: &'static str,
    arguments: Vec<String>,
}

impl Report {
    pub(super) fn run(self) -> Result<()> {
        let flag = interrupted()?;
        let now = SystemTime::now();
        let mut mask = self.anonymize.then(Mask::new).transpose()?;
        let name = if mask.is_some() { "host".to_owned() } else { origin::host() };
        let file = self.file.clone().unwrap_or_else(|| {
            let time = rfc3339(now).replace([':', '.'], "-");
            let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
            format!("tmon-report-{}-{time}.txt", name.chars().map(safe).collect::<String>()).into()
        });
        let shown = sanitize(&file.to_string_lossy()).into_owned();
        // Fail before the user has waited for the readings.
        let mut to = To::open(&file, self.replace).with_context(|| format!("write {shown}"))?;
        if !to.is_stdout() && self.read.is_empty() {
            out::tell(&format!("observing for {} ...\n", spoken(self.span)));
        }
        let done = self.text(now, &name, &flag).and_then(|(text, names)| match &mut mask {
            Some(mask) => {
                mask.learn(names);
                to.finish(&mask.text(&text))
            }
            None => to.finish(&text),
        });
        if done.is_err() {
            to.discard();
        }
        done.with_context(|| format!("write {shown}"))?;
        if file.as_os_str() != "-" {
            out::line(&shown)?;
        }
        Ok(())
    }

    /// The text of the report, and for an anonymous one the names of hosts and namespaces in it. A
    /// section that cannot be made says why.
    fn text(
        &self,
        now: SystemTime,
        name: &str,
        flag: &Arc<AtomicBool>,
    ) -> Result<(String, BTreeSet<String>)> {
        let mut text = format!("tmon report\n{TOOL} on {name}, {}\n", rfc3339(now));
        let kernel = fs::read_to_string("/proc/version").unwrap_or_default();
        text.push_str(&sanitize(kernel.trim()));
        text.push('\n');
        // All sections below use the same readings.
        let folder = tempfile::tempdir().context("make a folder for readings")?;
        let own = folder.path().join("readings.tmon");
        let (mut parts, mut files) = (Vec::new(), self.read.clone());
        if self.read.is_empty() {
            let told = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
            let netns = self.netns.iter().flat_map(|n| [String::from("--netns"), n.clone()]);
            let netns: Vec<_> = netns.collect();
            let check = [told(&["check"]), netns.clone()].concat();
            parts.push(Part { title: "what this host supports", arguments: check });
            parts.push(Part { title: "attached interfaces", arguments: told(&["status"]) });
            parts.push(Part { title: "tunnel devices", arguments: told(&["tunnels"]) });
            let mut record = told(&["record", &own.to_string_lossy()]);
            record.extend(["--for".to_owned(), format!("{}ms", self.span.as_millis())]);
            record.extend(netns);
            record.extend(self.interfaces.iter().cloned());
            parts.push(Part { title: RECORD, arguments: record });
            files.push(own.clone());
        }
        self.add(parts, &mut text, flag)?;
        if self.read.is_empty() && !own.metadata().is_ok_and(|m| m.len() > 0) {
            return Ok((text, BTreeSet::new())); // the error of the recording is in the text
        }
        self.add(self.parts(&files), &mut text, flag)?;
        let mut names = BTreeSet::new();
        if self.anonymize {
            // Only hosts and interfaces, without rows, so that this is never cut short.
            let arguments = ["dump", "--numeric", "--json", "--filter", "vni:0 !vni:0"];
            let arguments = arguments.map(str::to_owned).into_iter().chain(self.whose(&files));
            let part = Part { title: "names", arguments: arguments.collect() };
            let told = begin(&part, self.span + PATIENCE, flag)?;
            names = names_in(&told.join().unwrap_or_default());
            names.append(&mut names_in(&text));
        }
        let own = own.to_string_lossy();
        let text = if self.read.is_empty() { text.replace(&*own, "READINGS") } else { text };
        Ok((text, names))
    }

    /// Runs the commands in parallel, and adds their output in order.
    fn add(&self, parts: Vec<Part>, text: &mut String, flag: &Arc<AtomicBool>) -> Result<()> {
        let most = self.span + PATIENCE;
        let mut begun = Vec::new();
        for part in parts {
            match begin(&part, most, flag) {
                Ok(printed) => begun.push((printed, part)),
                Err(e) => {
                    // The others end, too.
                    flag.store(true, Ordering::Relaxed);
                    begun.into_iter().for_each(|(printed, _)| _ = printed.join());
                    return Err(e);
                }
            }
        }
        for (printed, part) in begun {
            let printed = printed.join().unwrap_or_else(|_| "this section failed\n".to_owned());
            if part.title == RECORD && printed == NOTHING {
                continue;
            }
            let shown = part.arguments.iter().map(|word| self.shown(word));
            let shown = shown.collect::<Vec<_>>().join(" ");
            text.push_str(&format!("\n=== {}: tmon {}\n", part.title, shown));
            let mut printed = printed;
            for (n, file) in self.read.iter().enumerate().filter(|_| self.anonymize) {
                let file = sanitize(&file.to_string_lossy()).into_owned();
                printed = printed.replace(&file, &format!("FILE{}", n + 1));
            }
            let lines = printed.lines().map(|line| sanitize(line).into_owned() + "\n");
            text.extend(lines);
        }
        Ok(())
    }

    /// A word of a command for display, with file names replaced if they must stay private.
    fn shown<'a>(&self, word: &'a str) -> Cow<'a, str> {
        let place = self.read.iter().position(|f| {
            self.anonymize && word.strip_prefix("--read=") == Some(&f.to_string_lossy())
        });
        place.map_or(word.into(), |n| format!("--read=FILE{}", n + 1).into())
    }

    /// The options that select the readings.
    fn whose(&self, files: &[PathBuf]) -> Vec<String> {
        let read = files.iter().map(|file| format!("--read={}", file.to_string_lossy()));
        let between = self.between.iter().flat_map(|b| [String::from("--between"), b.clone()]);
        read.chain(between).collect()
    }

    /// The sections made from readings.
    fn parts(&self, files: &[PathBuf]) -> Vec<Part> {
        let whose = self.whose(files);
        let looks = |title, first: &[&str]| Part {
            title,
            arguments: first.iter().map(|w| (*w).to_owned()).chain(whose.clone()).collect(),
        };
        vec![
            looks("findings", &["watch"]),
            looks("rows", &["dump", "--numeric"]),
            looks("readings", &["dump", "--numeric", "--json", "--watch", "1s"]),
        ]
    }
}

/// Names of hosts and namespaces in the JSON lines of a text.
fn names_in(text: &str) -> BTreeSet<String> {
    fn look(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Array(all) => all.iter().for_each(|v| look(v, names)),
            Value::Object(all) => {
                // In a fleet each host is shown as an interface.
                let is_host = all.get("hook").is_some_and(|hook| hook == "fleet");
                for (key, value) in all {
                    match value {
                        Value::String(name)
                            if matches!(&key[..], "host" | "netns")
                                || (is_host && key == "name") =>
                        {
                            names.insert(name.clone());
                        }
                        _ => look(value, names),
                    }
                }
            }
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        serde_json::from_str(line).iter().for_each(|value| look(value, &mut names));
    }
    names
}

/// Starts a command of this program. The result is its output, then its errors, and how it ended if
/// it was killed.
fn begin(part: &Part, most: Duration, flag: &Arc<AtomicBool>) -> Result<JoinHandle<String>> {
    let child = Command::new("/proc/self/exe")
        .args(&part.arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start a command")?;
    let mut child = Begun(child);
    let read = |from: Option<Box<dyn io::Read + Send>>| {
        start(move || {
            from.map(|from| {
                let mut bytes = Vec::new();
                _ = io::Read::read_to_end(&mut io::Read::take(from, MOST_BYTES + 1), &mut bytes);
                whole_lines(bytes, MOST_BYTES as usize)
            })
            .unwrap_or_default()
        })
    };
    let printed = read(child.0.stdout.take().map(|o| Box::new(o) as Box<_>))?;
    let said = read(child.0.stderr.take().map(|e| Box::new(e) as Box<_>))?;
    let flag = Arc::clone(flag);
    let wait = move || {
        let end = Instant::now() + most;
        let mut why = None;
        while why.is_none() && matches!(child.0.try_wait(), Ok(None)) {
            if dump::wait(Instant::now() + Duration::from_millis(50), &flag) {
                why = Some("interrupted before it was finished".to_owned());
            } else if Instant::now() >= end {
                let most = spoken(most);
                why = Some(format!("not finished after {most}: report less, with --between"));
            }
        }
        if why.is_some() {
            _ = child.0.kill();
        }
        let status = child.0.wait();
        let mut text = printed.join().unwrap_or_default();
        text.push_str(&said.join().unwrap_or_default());
        match (status, why) {
            // The output covers findings and failures alike.
            (Ok(status), _) if status.code().is_some() => {}
            (Ok(_), Some(why)) => text.push_str(&format!("{why}\n")),
            (Ok(status), None) => text.push_str(&format!("the command was ended: {status}\n")),
            (Err(e), _) => text.push_str(&format!("{e}\n")),
        }
        if text.is_empty() {
            text.push_str(NOTHING);
        }
        text
    };
    start(wait)
}

fn start<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    thread::Builder::new().spawn(what).context("start a thread")
}

/// A running command, which is killed when dropped.
struct Begun(Child);

impl Drop for Begun {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// As many whole lines as fit, with a note if there were more.
fn whole_lines(mut bytes: Vec<u8>, most: usize) -> String {
    let is_cut = bytes.len() > most;
    if is_cut {
        bytes.truncate(most);
        bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if is_cut {
        text.push_str(&format!(
            "more than {most} bytes: the rest is left out; use --between to read less\n"
        ));
    }
    text
}

/// The destination of the report.
enum To {
    Stdout,
    New(File, PathBuf),
    /// A temporary file that replaces an existing one when it is complete.
    Instead(Option<NamedTempFile>, PathBuf),
}

impl To {
    fn open(file: &Path, replace: bool) -> Result<To> {
        if file.as_os_str() == "-" {
            return Ok(To::Stdout);
        }
        if !replace {
            return Ok(To::New(out::make(file)?, file.to_owned()));
        }
        ensure!(!file.is_dir(), "it is a folder, not a file");
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        let new = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        Ok(To::Instead(Some(new), file.to_owned()))
    }

    fn is_stdout(&self) -> bool {
        matches!(self, To::Stdout)
    }

    fn finish(&mut self, text: &str) -> Result<()> {
        match self {
            To::Stdout => out::raw().write_all(text.as_bytes())?,
            To::New(file, _) => file.write_all(text.as_bytes())?,
            To::Instead(new, path) => {
                let mut new = new.take().context("the report has already been written")?;
                new.write_all(text.as_bytes())?;
                // This replaces a symbolic link instead of following it.
                new.persist(&*path)?;
            }
        }
        Ok(())
    }

    /// Removes an incomplete file.
    fn discard(&self) {
        if let To::New(_, path) = self {
            _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_is_too_long_ends_with_a_note() {
        let text = |most| whole_lines(b"{1}\n{2}\n{3}\n".to_vec(), most);
        assert_eq!(text(12), "{1}\n{2}\n{3}\n");
        let rest = "more than 11 bytes: the rest is left out; use --between to read less\n";
        assert_eq!(text(11), format!("{{1}}\n{{2}}\n{rest}"));
    }

    #[test]
    fn names_are_found_in_objects() {
        let text =
            "=== rows\n{\"host\":\"n1\",\"interfaces\":[{\"netns\":\"blue x\"}],\"x\":1}\n{no\n";
        assert_eq!(names_in(text).into_iter().collect::<Vec<_>>(), ["blue x", "n1"]);
        let fleet = r#"{"host":"fleet","interfaces":[{"name":"n2","hook":"fleet"},{"name":"x"}]}"#;
        assert_eq!(names_in(fleet).into_iter().collect::<Vec<_>>(), ["fleet", "n2"]);
    }
}
