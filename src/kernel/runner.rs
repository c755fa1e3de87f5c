// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts the commands that the user named, and creates the files that they save, for a process
//! that can no longer do either.
//!
//! A reader confines itself (see [`crate::kernel::sandbox`]), and its children would inherit that.
//! So a small process is forked at the start, with the caller's own rights. It already knows the
//! commands and accepts only the number of one of them, and it creates only new files whose name
//! begins with `tmon-`, in the folder where it was started. An attacker who takes over the reader
//! can therefore start these commands again, leave such files, and nothing else. However the reader
//! ends, this process ends with it and terminates what it started.
//!
//! The protocol, on a socket pair that keeps messages apart, by a request's first byte:
//! * `r` and a number (four bytes, in the machine's order) run a command: answered by four
//!   descriptors (the command's input, its output, its errors, and a stream on which its wait status
//!   follows);
//! * `b` begins a file: answered by its descriptor;
//! * `k` and a name keep it: answered by `+`, or `=` if there is a file of this name;
//! * `d` discards it: answered by `+`.
//!
//! Any other answer is the reason why not.
#![allow(unsafe_code)]
use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, IoSlice, IoSliceMut, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::{
            ffi::OsStrExt,
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{Signal, killpg},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag,
            SockType, recv, recvmsg, send, sendmsg, shutdown, socketpair,
        },
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{
        AccessFlags, ForkResult, Pid, access, fork, getgid, getuid, setresgid, setresuid, setsid,
    },
};

use model::units::sanitize;
use tui::files::{Files, OwnFiles};

/// Limit on the commands that run at the same time.
const MOST: usize = 64;
/// Where programs are looked for if the environment does not say, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// How long starting a command may take, while everything else waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a command may take to terminate before it is killed.
const LAST: Duration = Duration::from_secs(1);
/// How long this process may take to end.
const GRACE: Duration = Duration::from_millis(500);
/// The maximum length of a reason in bytes.
const REASON: usize = 512;

/// The process that starts commands. It ends on drop.
#[derive(Debug)]
pub struct Runner {
    requests: Mutex<OwnedFd>,
    process: Pid,
}

/// A running command. Dropping it terminates the command (SIGTERM), and kills it if that takes more
/// than a second.
#[derive(Debug)]
pub struct Running {
    /// Its standard input; dropping this closes it.
    pub stdin: Option<File>,
    /// Its standard output.
    pub stdout: File,
    /// Its standard error.
    pub stderr: File,
    report: UnixStream,
}

impl Runner {
    /// Forks the process that will run these commands: a program, looked up in PATH, and its
    /// arguments. To be called before there are threads and before anything is given up. Programs
    /// are looked up now, so that later changes of the folders in PATH, or of the current one, do
    /// not matter.
    ///
    /// # Errors
    /// There are threads already, a program is not in PATH, or no process can be created.
    pub fn start(mut commands: Vec<Vec<OsString>>) -> Result<Runner> {
        let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        for program in commands.iter_mut().filter_map(|words| words.first_mut()) {
            *program = located(program, &path)?.into_os_string();
        }
        let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        ensure!(threads == 1, "commands have to be known before there are threads");
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .context("make a socket pair")?;
        // SAFETY: there is only one thread, so no other holds a lock that the child may wait for.
        match unsafe { fork() }.context("start the process that runs commands")? {
            ForkResult::Parent { child } => {
                Ok(Runner { requests: Mutex::new(ours), process: child })
            }
            ForkResult::Child => {
                let served = catch_unwind(AssertUnwindSafe(|| {
                    settle(theirs).map(|requests| serve(&requests, &commands))
                }));
                // SAFETY: it does not return; what the parent has open is not ours to close
                // properly.
                unsafe { libc::_exit(i32::from(!matches!(served, Ok(Ok(()))))) }
            }
        }
    }

    /// Starts the command with this number.
    ///
    /// # Errors
    /// There is none, it cannot be started, or too many are running: one line.
    pub fn run(&self, command: usize) -> Result<Running> {
        let number = u32::try_from(command).unwrap_or(u32::MAX).to_ne_bytes();
        let (files, text) = self.ask(&[b"r", &number[..]].concat())?;
        match <[OwnedFd; 4]>::try_from(files) {
            Ok([stdin, stdout, stderr, report]) => Ok(Running {
                stdin: Some(stdin.into()),
                stdout: stdout.into(),
                stderr: stderr.into(),
                report: report.into(),
            }),
            Err(_) => bail!(text),
        }
    }

    /// The process's answer.
    fn ask(&self, request: &[u8]) -> Result<(Vec<OwnedFd>, String)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = "the process that runs commands has ended";
        send(requests.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL).context(gone)?;
        let mut text = [0; REASON];
        let mut room = cmsg_space!([RawFd; 4]);
        let mut into = [IoSliceMut::new(&mut text)];
        let mut ready = [PollFd::new(requests.as_fd(), PollFlags::POLLIN)];
        let begun = Instant::now();
        let patience = || PATIENCE.saturating_sub(begun.elapsed()).try_into();
        while matches!(poll(&mut ready, patience().unwrap_or(PollTimeout::ZERO)), Ok(0) | Err(_)) {
            if begun.elapsed() >= PATIENCE {
                // A late answer would be taken for that to the next request.
                let _ = shutdown(requests.as_raw_fd(), Shutdown::Both);
                bail!("the process that runs commands does not answer");
            }
        }
        let got = loop {
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(requests.as_raw_fd(), &mut into, Some(&mut room), flags) {
                Err(Errno::EINTR) => {}
                got => break got.context(gone)?,
            }
        };
        let length = got.bytes;
        let mut files = Vec::new();
        for message in got.cmsgs().context("read the answer")? {
            if let ControlMessageOwned::ScmRights(fds) = message {
                // SAFETY: the kernel has just made these for us.
                files.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        ensure!(length > 0, gone);
        Ok((files, sanitize(&String::from_utf8_lossy(&text[..length])).into_owned()))
    }
}

impl Files for Runner {
    fn begin(&self) -> io::Result<File> {
        let (files, text) = self.ask(b"b").map_err(io::Error::other)?;
        files.into_iter().next().map(Into::into).ok_or_else(|| io::Error::other(text))
    }

    fn keep(&self, name: &str) -> io::Result<()> {
        match self.ask(&[b"k", name.as_bytes()].concat()).map_err(io::Error::other)?.1.as_str() {
            "+" => Ok(()),
            "=" => Err(io::ErrorKind::AlreadyExists.into()),
            text => Err(io::Error::other(text)),
        }
    }

    fn discard(&self) {
        let _ = self.ask(b"d"); // it has ended, or has nothing to discard
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let requests = self.requests.get_mut().unwrap_or_else(PoisonError::into_inner);
        if shutdown(requests.as_raw_fd(), Shutdown::Both).is_ok() {
            // It ends at once, unless it has been stopped.
            let begun = Instant::now();
            let running = |status| status == Ok(WaitStatus::StillAlive);
            while running(waitpid(self.process, Some(WaitPidFlag::WNOHANG)))
                && begun.elapsed() < GRACE
            {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// The path of the program that a shell would start by this name.
fn located(program: &OsStr, path: &OsStr) -> Result<PathBuf> {
    let absolute = |path: PathBuf| {
        std::path::absolute(&path).with_context(|| format!("locate {}", path.display()))
    };
    if program.as_bytes().contains(&b'/') {
        return absolute(program.into());
    }
    let may_run = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    // An empty entry is the current folder.
    let entries = env::split_paths(path).map(|dir| Path::new(".").join(dir).join(program));
    let found = entries.map(absolute).find(|path| path.as_ref().is_ok_and(may_run));
    found.with_context(|| {
        format!("there is no program {} in PATH", sanitize(&program.to_string_lossy()))
    })?
}

impl Running {
    /// Tells it to end. Its standard error can be read until then.
    pub fn end(self) -> File {
        self.stderr
    }

    /// Closes its input and waits until it has ended. Read its output before, or a full pipe may
    /// keep it from ending.
    ///
    /// # Errors
    /// The process that runs commands has ended, so the status is unknown.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.stdin = None;
        let mut status = [0; 4];
        self.report.read_exact(&mut status).context("the process that runs commands has ended")?;
        Ok(ExitStatus::from_raw(i32::from_ne_bytes(status)))
    }

    /// Its exit status, if it has ended; never waits.
    ///
    /// # Errors
    /// The process that runs commands has ended, so the status is unknown.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let mut ready = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO).context("check whether a command has ended")?;
        if ready[0].any() == Some(true) { self.wait().map(Some) } else { Ok(None) }
    }

    /// Unread output and errors, as far as they are available; never waits.
    pub fn said(&mut self) -> Vec<u8> {
        const MOST: usize = 1 << 16;
        let mut all = Vec::new();
        for file in [&self.stdout, &self.stderr] {
            let is_ready = || {
                let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
                let some = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|n| n > 0);
                some && ready[0].any() == Some(true)
            };
            let mut some = [0; 4096];
            while all.len() < MOST && is_ready() {
                match (&mut &*file).read(&mut some) {
                    Ok(n @ 1..) => all.extend_from_slice(&some[..n]),
                    _ => break,
                }
            }
        }
        all
    }
}

/// A running command.
struct Job {
    child: Child,
    ended: OwnedFd,
    /// `None` once nobody wants the status any more.
    report: Option<UnixStream>,
}

/// Isolates the forked process: nothing of its parent's is open, no terminal reaches it, no other
/// process can trace it, and it acts with the caller's rights.
fn settle(requests: OwnedFd) -> Result<OwnedFd> {
    const PLACE: RawFd = 3;
    prctl::set_dumpable(false)?;
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (null, requests) = (null.into_raw_fd(), requests.into_raw_fd());
    // SAFETY: nothing owns these descriptors any more, and PLACE is owned by the returned value.
    let requests = unsafe {
        for standard in 0..3 {
            Errno::result(libc::dup2(null, standard))?;
        }
        if requests != PLACE {
            Errno::result(libc::dup3(requests, PLACE, libc::O_CLOEXEC))?;
        }
        Errno::result(libc::syscall(libc::SYS_close_range, PLACE + 1, u32::MAX, 0))?;
        OwnedFd::from_raw_fd(PLACE)
    };
    let (user, group) = (getuid(), getgid());
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // If it has been stopped, it continues when its parent ends, and so ends itself.
    prctl::set_pdeathsig(Signal::SIGCONT)?;
    Ok(requests)
}

/// Serves requests until nobody can send any more.
fn serve(requests: &OwnedFd, commands: &[Vec<OsString>]) {
    let mut jobs: Vec<Job> = Vec::new();
    let files = OwnFiles::default();
    let mut ending: Vec<Ending> = Vec::new();
    loop {
        let hung_up = PollFlags::empty();
        let jobs_fds = jobs.iter().flat_map(|j| {
            // If nobody can hang up, wait only for its end.
            let report = j.report.as_ref().map_or(j.ended.as_fd(), AsFd::as_fd);
            [PollFd::new(j.ended.as_fd(), PollFlags::POLLIN), PollFd::new(report, hung_up)]
        });
        let mut all: Vec<PollFd<'_>> = jobs_fds.collect();
        all.push(PollFd::new(requests.as_fd(), PollFlags::POLLIN));
        match poll(&mut all, killing(&ending)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
        let happened: Vec<bool> = all.iter().map(|f| f.any().unwrap_or(true)).collect();
        drop(all);
        let mut happened = happened.chunks(2);
        jobs.retain_mut(|job| match happened.next() {
            Some([true, _]) => {
                let status = job.child.wait().map_or(-1, |s| s.into_raw());
                if let Some(mut report) = job.report.take() {
                    let _ = report.write_all(&status.to_ne_bytes()); // nobody may want to know
                }
                false
            }
            Some([_, true]) => {
                ending.push(job.end());
                job.report = None;
                true
            }
            _ => true,
        });
        ending.retain(Ending::goes_on);
        if happened.next() == Some(&[true][..]) {
            let mut request = [0; 256];
            let length = match recv(requests.as_raw_fd(), &mut request, MsgFlags::MSG_TRUNC) {
                Ok(0) => break,
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(_) => break,
            };
            let request = request.get(..length).unwrap_or_default();
            answer(requests, do_it(request, commands, &mut jobs, &files));
        }
    }
    ending.extend(jobs.iter().map(Job::end));
    while !ending.is_empty() {
        let fds = jobs.iter().map(|j| PollFd::new(j.ended.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut fds.collect::<Vec<_>>(), killing(&ending));
        jobs.retain_mut(|job| matches!(job.child.try_wait(), Ok(None)));
        ending.retain(Ending::goes_on);
    }
}

/// The time until the first of them has to be killed.
fn killing(ending: &[Ending]) -> PollTimeout {
    let last = ending.iter().map(|group| group.last).min();
    last.map_or(PollTimeout::NONE, |last| {
        let wait = last.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    })
}

/// Serves one request: returns the descriptors of the answer, and its text.
fn do_it(
    request: &[u8],
    commands: &[Vec<OsString>],
    jobs: &mut Vec<Job>,
    files: &OwnFiles,
) -> Result<(Vec<OwnedFd>, &'static str)> {
    match request.split_first() {
        Some((b'r', number)) => {
            let number = <[u8; 4]>::try_from(number).ok();
            let command = number.and_then(|n| commands.get(u32::from_ne_bytes(n) as usize));
            let command = command.context("there is no such command")?;
            ensure!(jobs.len() < MOST, "{MOST} commands are already running");
            let (job, ends) = begin(command)?;
            jobs.push(job);
            Ok((ends.into(), "+"))
        }
        Some((b'b', [])) => Ok((vec![files.begin()?.into()], "+")),
        Some((b'k', name)) => {
            let name = str::from_utf8(name).unwrap_or_default();
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            ensure!(
                name.starts_with("tmon-") && name.chars().all(is_plain),
                "files of this name cannot be created"
            );
            match files.keep(name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok((Vec::new(), "=")),
                kept => Ok(kept.map(|()| (Vec::new(), "+"))?),
            }
        }
        Some((b'd', [])) => {
            files.discard();
            Ok((Vec::new(), "+"))
        }
        _ => bail!("the request is invalid"),
    }
}

fn answer(requests: &OwnedFd, done: Result<(Vec<OwnedFd>, &'static str)>) {
    let (files, mut text) = match done {
        Ok((files, text)) => (files, text.to_owned()),
        Err(e) => (Vec::new(), sanitize(&format!("{e:#}").replace('\n', " ")).into_owned()),
    };
    let end = REASON.min(text.len());
    text.truncate((0..=end).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0));
    let files: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&files)];
    let rights = if files.is_empty() { &[][..] } else { &rights };
    let text = [IoSlice::new(text.as_bytes())];
    // If the requester is gone, the next request is the end.
    let _ = sendmsg::<()>(requests.as_raw_fd(), &text, rights, MsgFlags::MSG_NOSIGNAL, None);
}

/// Starts a command. The other ends of input, output, errors and report go to the requester.
fn begin(words: &[OsString]) -> Result<(Job, [OwnedFd; 4])> {
    let (program, arguments) = words.split_first().context("the command is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", program.to_string_lossy()))?;
    let set_up = || -> Result<_> {
        let (own, report) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        // SAFETY: the child has not been waited for, so its id is its own.
        let ended = unsafe {
            let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, child.id(), 0))?;
            OwnedFd::from_raw_fd(RawFd::try_from(fd)?)
        };
        Ok((own, report, ended))
    };
    let set_up = set_up();
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    match (set_up, pipes) {
        (Ok((own, report, ended)), (Some(stdin), Some(stdout), Some(stderr))) => {
            let files = [stdin.into(), stdout.into(), stderr.into(), report.into()];
            Ok((Job { child, ended, report: Some(own) }, files))
        }
        (set_up, _) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(set_up.err().unwrap_or_else(|| anyhow!("it has no pipes")))
        }
    }
}

impl Job {
    /// Tells it and what it started to end.
    fn end(&self) -> Ending {
        let group = Pid::from_raw(self.child.id() as i32);
        let _ = killpg(group, Signal::SIGTERM);
        Ending { group, last: Instant::now() + LAST }
    }
}

/// A command and what it started, after they were told to end.
struct Ending {
    group: Pid,
    last: Instant,
}

impl Ending {
    /// Whether any of them is left. Kills them when it is time.
    fn goes_on(&self) -> bool {
        if Instant::now() < self.last {
            return killpg(self.group, None).is_ok();
        }
        let _ = killpg(self.group, Signal::SIGKILL);
        false
    }
}
