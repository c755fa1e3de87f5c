// SPDX-License-Identifier: MIT OR Apache-2.0
//! Config files of the dashboard and of services: each line is a flag of the command, and the
//! command line takes precedence.
//!
//! There is no second list of settings: the keys are the command's long flags, and clap checks the
//! values as it does on the command line. Any new flag is a key automatically.
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind, parser::ValueSource};
use nix::unistd::{getegid, geteuid};
use toml::de::{DeTable, DeValue};

use crate::kernel::owned::stranger;
use feed::input;
use model::units::sanitize;

/// The key for positional arguments.
const INTERFACES: &str = "interfaces";
/// Flags about the settings themselves.
const NEVER_KEPT: [&str; 5] = ["help", "version", "config", "print-config", "save-config"];
/// Flags that apply to one run of `top` and are not settings; for a service they are.
const NOT_KEPT: [&str; 14] = [
    "read",
    "between",
    "at",
    "from",
    "ssh",
    "ssh-command",
    "nats",
    "fleet",
    "only",
    "creds",
    "nkey",
    "tls-ca",
    "tls-cert",
    "tls-key",
];

/// Limit on the size of a config file.
const MOST_BYTES: u64 = 1 << 20;

/// The file by the XDG rules (<https://specifications.freedesktop.org/basedir-spec/>):
/// `$XDG_CONFIG_HOME/tmon/config.toml`, else `~/.config/tmon/config.toml`. `None` without a home
/// directory.
pub(super) fn path(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| var(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let dir = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(dir.join("tmon/config.toml"))
}

/// The file to use: the one given, or else the user's own.
pub(super) fn chosen(asked: Option<&Path>) -> Option<PathBuf> {
    asked.map(Path::to_owned).or_else(|| path(|name| env::var_os(name)))
}

/// The command line with the settings of the file inserted before the user's flags. `names` are the
/// subcommands that have settings. If `base` is given, its flags are the keys for all of them, and
/// the user's own file is read by default; without it each command has its own keys, and only a
/// file given with --config is read. `--flag=false` turns off a flag that the file turns on. A
/// command line that clap rejects is returned unchanged. If the user's own file cannot be read,
/// that is reported with `say` and the defaults apply.
///
/// # Errors
/// The file given with --config cannot be read, or a line is not a setting: one line of text says
/// which line, where, and what may have been meant.
pub(super) fn merged(
    root: &Command,
    names: &[&str],
    base: Option<&str>,
    mut args: Vec<OsString>,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<OsString>> {
    let is_typed = |name: &&&str| {
        let words = name.split(' ').enumerate();
        words.into_iter().all(|(i, word)| args.get(i + 1).is_some_and(|arg| arg == word))
    };
    let Some(name) = names.iter().find(is_typed) else { return Ok(args) };
    let mut root = root.clone();
    root.build();
    let below =
        |name: &str| name.split(' ').try_fold(&root, |command, word| command.find_subcommand(word));
    let (Some(command), Some(keys)) = (below(name), below(base.unwrap_or(name))) else {
        return Ok(args);
    };

    let mut off = Vec::new();
    args.retain(|a| {
        let flag = a.to_str().and_then(|a| a.strip_prefix("--")?.strip_suffix("=false"));
        let known = flag
            .filter(|f| command.get_arguments().any(|a| a.get_long() == Some(f) && is_switch(a)));
        off.extend(known.map(str::to_owned));
        known.is_none()
    });
    let Ok(matches) = root.clone().try_get_matches_from(&args) else { return Ok(args) };
    let given = name.split(' ').try_fold(&matches, |all, _| all.subcommand().map(|(_, m)| m));
    let Some(given) = given else { return Ok(args) };

    let asked = given.try_get_one::<PathBuf>("config").ok().flatten();
    let asked = asked.map(PathBuf::as_path);
    let file = if base.is_some() { chosen(asked) } else { asked.map(Path::to_owned) };
    let Some(file) = file else { return Ok(args) };
    let (in_it, doubt) = read_file(&file, asked.is_some());
    let shown = sanitize(&file.to_string_lossy()).into_owned();
    match doubt {
        // A file that was named is used with a warning.
        Some(why) if asked.is_some() => say(&format!("config file {shown}: {why}")),
        Some(why) => {
            say(&format!(
                "config file {shown} is ignored and the defaults apply: {why}; \
                 fix that, or name the file with --config"
            ));
            return Ok(args);
        }
        None => {}
    }
    let text = match in_it {
        Ok(text) => text,
        Err(e)
            if e.kind() == io::ErrorKind::NotFound
                && (asked.is_none()
                    || given.try_get_one("save_config").ok().flatten() == Some(&true)) =>
        {
            return Ok(args);
        }
        // HOME may belong to another user, as with `sudo -u`. Errors inside a file of our own are
        // reported.
        Err(e) if e.kind() != io::ErrorKind::InvalidData && asked.is_none() => {
            say(&format!("cannot read the config file {shown}, so the defaults apply: {e}"));
            return Ok(args);
        }
        Err(e) => return Err(e).with_context(|| format!("read the config file {shown}")),
    };
    let is_given = |id: &str| {
        given.try_contains_id(id).is_ok_and(|there| there)
            && given.value_source(id) == Some(ValueSource::CommandLine)
    };
    // Captures have no interfaces, and remote hosts choose their own.
    let live = !["read", "from", "ssh", "nats"].into_iter().any(is_given);
    let mut before = Vec::new();
    for setting in read(keys, base.is_none(), &file, &text)? {
        let has = command.get_arguments().any(|a| a.get_long() == Some(&setting.key));
        match setting.key.as_str() {
            INTERFACES
                if live && !is_given(INTERFACES) && command.get_positionals().next().is_some() =>
            {
                args.extend(setting.values)
            }
            INTERFACES => {}
            "netns" if !live => {}
            key if has && !off.iter().any(|o| o == key) => {
                before.extend(setting.values.iter().map(|v| flag(key, v)))
            }
            _ => {}
        }
    }
    let at = 1 + name.split(' ').count();
    args.splice(at..at, before);
    Ok(args)
}

/// Reads a config file, and says why it cannot be trusted, if so, by the rules that ssh(1) has for
/// its own. Write access for our own group is fine: many systems give each user a group.
fn read_file(file: &Path, asked: bool) -> (io::Result<String>, Option<String>) {
    // Do not wait if somebody put a pipe in place of the file; a pipe that was named is intended.
    let wait = if asked { 0 } else { libc::O_NONBLOCK };
    let opened = fs::File::options().read(true).custom_flags(wait).open(file);
    let (opened, meta) = match opened.and_then(|f| f.metadata().map(|meta| (f, meta))) {
        Ok(opened) => opened,
        Err(e) => return (Err(e), None),
    };
    if !asked && !meta.is_file() {
        return (Err(io::Error::other("it is not a regular file")), None);
    }
    let of_folders = || folders(file).unwrap_or_else(|e| Some(format!("its folder: {e}")));
    let of_file = || doubt(&meta).map(|why| format!("it {why}"));
    let doubt = if meta.is_file() { of_file().or_else(of_folders) } else { None };
    (input::text_of(opened, MOST_BYTES), doubt)
}

/// Why a file or folder cannot be trusted, if so: it must belong to us or to root, and nobody else
/// may have write access. This applies to the file and its folders, for reading and writing.
fn doubt(meta: &fs::Metadata) -> Option<String> {
    if meta.uid() != 0 && meta.uid() != geteuid().as_raw() {
        return Some(format!("belongs to {}", stranger(meta.uid()).0));
    }
    // In a sticky folder such as /tmp, users cannot remove files of others.
    let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    let writable = 0o002 | if meta.gid() == getegid().as_raw() { 0 } else { 0o020 };
    // The mode of a symbolic link means nothing; its target is checked as well.
    (meta.mode() & writable != 0 && !sticky && !meta.is_symlink())
        .then(|| format!("is writable by others (mode {:04o})", meta.mode() & 0o7777))
}

/// Why a file's folders cannot be trusted, if so. Folders that do not exist are skipped.
fn folders(file: &Path) -> io::Result<Option<String>> {
    let file = std::path::absolute(file)?;
    let dir = file.ancestors().skip(1).find(|d| d.symlink_metadata().is_ok());
    let dir = dir.unwrap_or(Path::new("/"));
    for path in dir.ancestors().chain(dir.canonicalize()?.ancestors()) {
        let meta = path.symlink_metadata()?;
        if let Some(why) = doubt(&meta) {
            return Ok(Some(format!("{} {why}", sanitize(&path.to_string_lossy()))));
        }
    }
    Ok(None)
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// `--key=value`, or `--key` for a switch.
fn flag(key: &str, value: &OsStr) -> OsString {
    let mut flag = OsString::from(format!("--{key}"));
    if !value.is_empty() {
        flag.push("=");
        flag.push(value);
    }
    flag
}

/// A setting: the flag's name and its values; a switch that is on has one empty value.
struct Setting {
    key: String,
    values: Vec<OsString>,
}

/// Whether a flag may be a setting.
fn is_kept(flag: &str, service: bool) -> bool {
    !NEVER_KEPT.contains(&flag) && (service || !NOT_KEPT.contains(&flag))
}

/// Parses the settings of a file. Each is checked by itself, so that an error names its line.
fn read(command: &Command, service: bool, file: &Path, text: &str) -> Result<Vec<Setting>> {
    let place = |at: usize| {
        format!(
            "{}:{}",
            sanitize(&file.to_string_lossy()),
            text.get(..at).map_or(1, |t| t.matches('\n').count() + 1)
        )
    };
    let table = DeTable::parse(text).map_err(|e| {
        let why = e.message().lines().collect::<Vec<_>>().join(", ");
        anyhow!(
            "{}: {why}; lines have the form key = value, as printed by --print-config",
            place(e.span().map_or(0, |s| s.start))
        )
    })?;
    let keys: Vec<&str> = command
        .get_arguments()
        .filter_map(Arg::get_long)
        .filter(|flag| is_kept(flag, service))
        .chain([INTERFACES])
        .collect();
    let mut settings = Vec::new();
    for (name, value) in table.get_ref() {
        let (at, key) = (place(name.span().start), name.get_ref().as_ref());
        if !keys.contains(&key) {
            let near = keys.iter().max_by(|a, b| {
                strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key))
            });
            bail!(
                "{at}: there is no setting '{}'; the nearest is '{}'",
                sanitize(key),
                near.unwrap_or(&"")
            );
        }
        let arg = command.get_arguments().find(|a| a.get_long() == Some(key));
        let setting = Setting {
            key: key.to_owned(),
            values: values(arg, value.get_ref()).map_err(|e| anyhow!("{at}: {key}: {e}"))?,
        };
        let flags =
            setting.values.iter().map(|v| if key == INTERFACES { v.clone() } else { flag(key, v) });
        let alone = command.clone().no_binary_name(true).try_get_matches_from(flags);
        if let Err(e) = alone.map_err(|e| (e.kind(), e.to_string()))
            && e.0 != ErrorKind::MissingRequiredArgument
        {
            bail!("{at}: {key}: {}", refusal(&e.1));
        }
        settings.push(setting);
    }
    Ok(settings)
}

/// Clap's message as one line, without prefix, usage and hints.
fn refusal(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|l| !l.starts_with("For more") && !l.starts_with("Usage"));
    let said = lines.filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
    sanitize(said.strip_prefix("error: ").unwrap_or(&said)).into_owned()
}

/// Converts a TOML value to the values of a flag.
fn values(arg: Option<&Arg>, value: &DeValue) -> Result<Vec<OsString>, String> {
    let one = |v: &DeValue| match v {
        DeValue::String(s) => Ok(OsString::from(s.as_ref())),
        DeValue::Integer(n) if n.radix() == 10 => Ok(OsString::from(n.as_str().replace('_', ""))),
        DeValue::Float(n) => Ok(OsString::from(n.as_str())),
        other => Err(format!("{} is not allowed here", other.type_str())),
    };
    match (arg, value) {
        (Some(a), DeValue::Boolean(on)) if is_switch(a) => {
            Ok(if *on { vec![OsString::new()] } else { vec![] })
        }
        (Some(a), _) if is_switch(a) => Err("expected true or false".to_owned()),
        (Some(a), DeValue::Array(_)) if !matches!(a.get_action(), ArgAction::Append) => {
            Err("expected one value, not a list".to_owned())
        }
        (_, DeValue::Array(list)) => list.iter().map(|v| one(v.get_ref())).collect(),
        (_, v) => one(v).map(|v| vec![v]),
    }
}

/// The settings of a run as a config file: lines for those given in a file or on the command line,
/// comments with the defaults for the others.
pub(super) fn text(command: &Command, matches: &ArgMatches) -> String {
    let mut out = "# Settings of `tmon top`. The command line wins over this file.\n".to_owned();
    let keys =
        command.get_arguments().filter(|a| !a.is_hide_set()).filter_map(|a| match a.get_long() {
            Some(long) if is_kept(long, false) => Some((a, long)),
            None if a.is_positional() => Some((a, INTERFACES)),
            _ => None,
        });
    for (arg, key) in keys {
        let id = arg.get_id().as_str();
        let given = matches.value_source(id).is_some_and(|s| s != ValueSource::DefaultValue);
        let raw: Vec<String> = matches
            .get_raw(id)
            .map(|all| all.map(|v| v.to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        let many = matches!(arg.get_action(), ArgAction::Append) || key == INTERFACES;
        let text = match (is_switch(arg), many) {
            (true, _) => matches.get_flag(id).to_string(),
            (_, true) => {
                format!("[{}]", raw.iter().map(|v| literal(v)).collect::<Vec<_>>().join(", "))
            }
            // there is no default: the comment names the value
            _ if raw.iter().all(String::is_empty) => arg
                .get_value_names()
                .and_then(|n| n.first())
                .map_or(String::new(), ToString::to_string),
            _ => raw.first().map_or(String::new(), |v| literal(v)),
        };
        if let Some(help) = arg.get_help() {
            out += &format!("\n# {help}\n");
        }
        out += &format!("{}{key} = {text}\n", if given { "" } else { "# " });
    }
    out
}

/// A value in TOML: a number or a string.
fn literal(value: &str) -> String {
    let number = value.len() < 18
        && value.bytes().all(|b| b.is_ascii_digit())
        && (value == "0" || !value.starts_with('0'));
    if number && !value.is_empty() {
        value.to_owned()
    } else {
        toml::Value::from(value).to_string()
    }
}

/// Writes a config file in one step, so that it is always complete. Symbolic links are not
/// followed: with `sudo -E` the home directory belongs to another user.
///
/// # Errors
/// Errors of the file system, with the name of the file; or another user could change the folder.
pub(super) fn save(file: &Path, text: &str) -> Result<()> {
    let name = || format!("write the config file {}", sanitize(&file.to_string_lossy()));
    let file = std::path::absolute(file).with_context(name)?;
    let (Some(dir), Some(last)) = (file.parent(), file.file_name()) else {
        bail!("{}: it has no name", name());
    };
    if let Some(why) = folders(&file).with_context(name)? {
        bail!("{}: {why}: name a file of your own with --config", name());
    }
    // A device or a pipe must not be replaced: others use it. A symbolic link is replaced, not
    // followed.
    if file.symlink_metadata().is_ok_and(|there| !there.is_file() && !there.is_symlink()) {
        bail!("{}: it exists and is not a regular file; name another one with --config", name());
    }
    fs::create_dir_all(dir).with_context(name)?;
    let mut new = OsString::from(".");
    new.push(last);
    new.push(format!(".{}.new", std::process::id()));
    let new = dir.join(new);
    let write = || {
        // Fail if the name exists, even as a link. The umask only removes permissions that nobody
        // needs.
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&new, &file)
    };
    let written = write();
    if written.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists) {
        let _ = fs::remove_file(&new); // if it was made
    }
    written.with_context(name)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn root() -> Command {
        let top = Command::new("top")
            .args_override_self(true)
            .arg(Arg::new("interfaces").num_args(0..))
            .arg(Arg::new("netns").long("netns").conflicts_with("read"))
            .arg(Arg::new("read").long("read").conflicts_with("interfaces"))
            .arg(
                Arg::new("theme")
                    .long("theme")
                    .value_parser(["dark", "light"])
                    .default_value("dark")
                    .help("Colours"),
            )
            .arg(
                Arg::new("rows")
                    .long("rows")
                    .value_parser(clap::value_parser!(u32))
                    .default_value("64"),
            )
            .arg(Arg::new("port").long("port").action(ArgAction::Append))
            .arg(Arg::new("plain").long("plain").action(ArgAction::SetTrue))
            .arg(Arg::new("config").long("config").value_parser(clap::value_parser!(PathBuf)));
        let demo =
            Command::new("demo").args_override_self(true).arg(Arg::new("theme").long("theme"));
        Command::new("tmon").subcommand(top).subcommand(
            demo.arg(Arg::new("config").long("config").value_parser(clap::value_parser!(PathBuf))),
        )
    }

    /// The arguments after merging them with a config file that contains `text`.
    fn merge(text: &str, args: &str) -> Result<String> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("config.toml");
        fs::write(&file, text)?;
        let mut words: Vec<OsString> =
            ["tmon"].into_iter().chain(args.split_whitespace()).map(OsString::from).collect();
        words.extend([OsString::from("--config"), file.into_os_string()]);
        let merged = merged(&root(), &["top", "demo"], Some("top"), words, &mut |_| ())?;
        let words: Vec<String> =
            merged.iter().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
        let at = words.iter().position(|w| w == "--config").unwrap();
        Ok(words
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != at && *i != at + 1)
            .map(|w| w.1.as_str())
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("config.toml");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
        let error = format!("{:#}", save(&fifo, "one = 1\n").expect_err("the FIFO exists"));
        assert!(error.contains("not a regular file"), "{error}");
        assert!(!fifo.symlink_metadata().expect("it is still there").is_file());
    }

    #[test]
    fn the_command_line_wins() {
        let text = "theme = 'light'\nplain = true\nport = ['a=1', 'b=2']\nrows = 1_000\ninterfaces = ['eth7']\nnetns = 'x'";
        let before = "top --netns=x --plain --port=a=1 --port=b=2 --rows=1000 --theme=light";
        assert_eq!(merge(text, "top").unwrap(), format!("{before} eth7"));
        assert_eq!(
            merge(text, "top --theme dark eth0").unwrap(),
            format!("{before} --theme dark eth0")
        );
        let matches =
            root().try_get_matches_from("tmon top --theme=light --theme dark".split(' ')).unwrap();
        assert_eq!(
            matches.subcommand().unwrap().1.get_one::<String>("theme").unwrap(),
            "dark",
            "the last one counts"
        );
        assert_eq!(
            merge(text, "top --plain=false").unwrap(),
            format!("{} eth7", before.replace(" --plain", ""))
        );
        assert_eq!(
            merge(text, "top --read f").unwrap(),
            format!("{} --read f", before.replace(" --netns=x", "")),
            "captures have no interfaces and namespaces"
        );
        assert_eq!(merge(text, "demo").unwrap(), "demo --theme=light", "only flags that it has");
        assert_eq!(merge(text, "dump").unwrap(), "dump", "only for commands with settings");
        assert_eq!(merge("plain = false", "top").unwrap(), "top");
        assert_eq!(merge("", "top").unwrap(), "top");
        assert_eq!(
            merge("\u{feff}plain = true", "top").unwrap(),
            "top --plain",
            "a BOM is ignored"
        );
    }

    /// The config files that packages install in /etc/tmon, with all lines uncommented: all are
    /// flags of their commands.
    #[cfg(feature = "live")]
    #[test]
    fn settings_of_services_are_flags_of_their_commands() {
        let root = super::super::Cli::command();
        let run = |name: &str, text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), text).unwrap();
            let words = format!("tmon {name} --config {}", file.path().display());
            let words = words.split(' ').map(OsString::from).collect();
            let merged = merged(&root, &super::super::SERVICES, None, words, &mut |_| ())?;
            Ok::<_, anyhow::Error>(merged.join(OsStr::new(" ")).into_string().unwrap())
        };
        for (name, text) in [
            ("attach", include_str!("../../packaging/etc/attach.toml")),
            ("export prometheus", include_str!("../../packaging/etc/export.toml")),
            ("record x", include_str!("../../packaging/etc/record.toml")),
            #[cfg(feature = "nats")]
            ("publish", include_str!("../../packaging/etc/publish.toml")),
            ("watch", include_str!("../../packaging/etc/watch.toml")),
        ] {
            let is_key = |line: &str| {
                line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '`']))
            };
            let all = text.lines().map(|l| l.strip_prefix("# ").filter(|l| is_key(l)).unwrap_or(l));
            let all: Vec<&str> = all.filter(|line| is_key(line)).collect();
            let words = run(name, &all.join("\n")).unwrap();
            for (key, _) in all.iter().filter_map(|line| line.split_once(" = ")) {
                assert!(words.contains(&format!("--{key}=")), "{key} of {name}: {words}");
            }
        }
        let e = format!("{:#}", run("export ipfix collector", "listen = '1'").unwrap_err());
        assert!(e.contains(":1: there is no setting 'listen'"), "{e}");
        assert!(run("watch", "[").unwrap_err().to_string().contains(":1: "));
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, said) in [
            ("\n\nthemee = 'x'", ":3: there is no setting 'themee'; the nearest is 'theme'"),
            ("theme = 'drk'", ":1: theme: invalid value 'drk'"),
            ("theme = ['dark']", ":1: theme: expected one value, not a list"),
            ("# c\nrows = -1", ":2: rows: invalid value"),
            ("rows = 0x10", ":1: rows: integer is not allowed here"),
            ("plain = 'yes'", ":1: plain: expected true or false"),
            ("theme = 'dark", ":1: invalid"),
            ("theme = 'dark'\ntheme = 'light'", ":2: duplicate key"),
            ("[theme]\na = 1", "theme"),
            ("config = 'x'", "there is no setting 'config'"),
            ("'\u{202e}a' = 1", "there is no setting '\u{fffd}a'"),
        ] {
            let error = format!("{:#}", merge(text, "top").unwrap_err());
            assert!(error.contains(said) && !error.contains('\n'), "{text:?}: {error}");
        }
        let missing =
            ["tmon", "top", "--config", "/nonexistent/config.toml"].map(OsString::from).to_vec();
        assert!(
            merged(&root(), &["top"], Some("top"), missing, &mut |_| ()).is_err(),
            "a file given with --config must exist"
        );
    }

    #[test]
    fn printed_settings_can_be_read_again() {
        let args = [
            "tmon",
            "top",
            "--port",
            "a=\"1\"\u{7f}",
            "--port",
            "b",
            "--rows",
            "7",
            "--plain",
            "eth0",
            "007",
        ];
        let matches = root().try_get_matches_from(args).unwrap();
        let (root, (_, matches)) = (root(), matches.subcommand().unwrap());
        let text = text(root.find_subcommand("top").unwrap(), matches);
        assert!(text.contains("# Colours\n# theme = \"dark\""), "{text}");
        assert_eq!(
            merge(&text, "top").unwrap(),
            "top --plain --port=a=\"1\"\u{7f} --port=b --rows=7 eth0 007"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/config.toml");
        save(&file, &text).unwrap();
        save(&file, &text).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn saving_does_not_follow_links() {
        use std::os::unix::fs::{chown, symlink};
        let home = tempfile::tempdir().unwrap();
        let (dir, victim) = (home.path().join("a/tmon"), home.path().join("victim"));
        let (file, new) = (dir.join("config.toml"), dir.join("config.toml.new"));
        save(&file, "one = 1\n").unwrap();
        fs::write(&victim, "precious").unwrap();
        for link in [&file, &new, &dir.join(format!(".config.toml.{}.new", std::process::id()))] {
            let _ = fs::remove_file(link);
            symlink(&victim, link).unwrap();
            let saved = save(&file, "two = 2\n");
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{link:?}");
            let beside = link.file_name().unwrap().to_string_lossy().starts_with('.');
            assert_eq!(saved.is_ok(), !beside, "{link:?}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "two = 2\n");
        fs::remove_file(dir.join(format!(".config.toml.{}.new", std::process::id()))).unwrap();
        if geteuid().is_root() {
            // The folder belongs to root, but its parent does not.
            chown(home.path().join("a"), Some(65534), None).unwrap();
            let e = format!(
                "{:#}",
                save(&file, "three = 3\n").expect_err("it belongs to another user")
            );
            assert!(e.contains("belongs to user 65534") && e.lines().count() == 1, "{e}");
            let e =
                save(&home.path().join("a/new/x.toml"), "").expect_err("so does a folder above it");
            assert!(format!("{e:#}").contains("belongs to user"), "{e:#}");
            assert!(!home.path().join("a/new").exists());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "two = 2\n");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing is left beside it");
    }

    /// The user's own file is used only if nobody else could have written it; a file that was named
    /// is used with a warning.
    #[test]
    fn files_that_others_can_write_are_not_trusted() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.toml");
        fs::write(&file, "plain = true").unwrap();
        let look = |mode, owner: Option<u32>, group: Option<u32>| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            if owner.or(group).is_some() {
                chown(&file, owner, group).unwrap();
            }
            [false, true].map(|asked| {
                let (text, doubt) = read_file(&file, asked);
                assert_eq!(text.unwrap(), "plain = true");
                doubt
            })
        };
        for fine in [0o600, 0o644, 0o664] {
            assert_eq!(look(fine, None, None), [None, None], "{fine:o}");
        }
        let said = "it is writable by others (mode 0666)".to_owned();
        assert_eq!(look(0o666, None, None), [Some(said.clone()), Some(said)]);
        if geteuid().is_root() {
            let said = "it is writable by others (mode 0664)".to_owned();
            assert_eq!(look(0o664, None, Some(4)), [Some(said.clone()), Some(said)]);
            let [unseen, named] = look(0o600, Some(65_533), None);
            assert!(unseen.unwrap().contains("belongs to user 65533"));
            assert!(named.unwrap().contains("belongs to user 65533"));
        }
        // The same rules apply to its folder, for reading and writing.
        look(0o600, Some(geteuid().as_raw()), Some(getegid().as_raw()));
        let folder = |mode| fs::set_permissions(home.path(), fs::Permissions::from_mode(mode));
        let mut modes =
            vec![(0o700, true), (0o755, true), (0o775, true), (0o1777, true), (0o777, false)];
        if geteuid().is_root() {
            chown(home.path(), None, Some(4)).unwrap();
            modes[2].1 = false;
        }
        for (mode, fine) in modes {
            folder(mode).unwrap();
            let doubt = read_file(&file, false).1;
            assert_eq!(doubt.is_none(), fine, "{mode:o}: {doubt:?}");
            let saved = save(&file, "plain = true").map_err(|e| format!("{e:#}"));
            assert_eq!(saved.is_ok(), fine, "{mode:o}: {saved:?}");
            if let (Some(doubt), Err(said)) = (doubt, saved) {
                assert!(said.contains(&doubt), "{said}: {doubt}");
            }
        }
        folder(0o700).unwrap();
        // A pipe in its place must not block.
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let e = read_file(&file, false).0.unwrap_err().to_string();
        assert_eq!(e, "it is not a regular file");
    }

    #[test]
    fn the_size_of_a_file_is_limited() {
        let long = "#".repeat(1 + (1 << 20));
        assert_eq!(merge(&long[1..], "top").unwrap(), "top");
        let e = format!("{:#}", merge(&long, "top").unwrap_err());
        assert!(e.contains("config.toml: it is larger than the limit of 1048576 bytes"), "{e}");
        let words = ["tmon", "top", "--config", "/dev/zero"].map(OsString::from).to_vec();
        let e = merged(&root(), &["top"], Some("top"), words, &mut |_| ()).unwrap_err();
        assert!(format!("{e:#}").contains("/dev/zero: it is larger than"), "{e:#}");
    }

    #[test]
    fn the_path_follows_the_xdg_rules() {
        let at = |config: &str, home: &str| {
            path(|name| Some(if name == "HOME" { home } else { config }.into()))
                .map(|p| p.to_string_lossy().into_owned())
        };
        assert_eq!(at("/c", "/h").unwrap(), "/c/tmon/config.toml");
        assert_eq!(at("", "/h").unwrap(), "/h/.config/tmon/config.toml");
        assert_eq!(
            at("relative", "/h").unwrap(),
            "/h/.config/tmon/config.toml",
            "relative paths are ignored"
        );
        assert_eq!(at("", ""), None);
    }
}
