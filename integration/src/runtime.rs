//! Calls verbs of the runtime under test, each with a deadline, and keeps what it said.
//!
//! Output goes to files and not to pipes: a detached container inherits them and would keep a pipe open.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long a verb may take before the test ends it and fails. Long, because the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// Who answers: known deviations are listed per kind, see [`crate::oracle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The runtime of this workspace. Everything is expected to pass.
    Skep,
    /// runc 1.1.x.
    Runc,
    /// crun 1.8.x.
    Crun,
    /// Another version or another program: a listed deviation may or may not show.
    Other,
}

/// The program under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Whose deviations apply.
    pub kind: Kind,
}

impl Runtime {
    /// Finds the runtime under test once per process: `RUNTIME`, else `dist/bin/skep`, else the `skep` beside this test.
    ///
    /// # Panics
    /// When there is none: a suite that tests nothing must not pass.
    pub fn under_test() -> &'static Runtime {
        static FOUND: OnceLock<Runtime> = OnceLock::new();
        FOUND.get_or_init(|| Runtime::at(&locate()))
    }

    /// Asks the program at `path` for its version and so for its kind.
    pub fn at(path: &Path) -> Runtime {
        let said = Command::new(path).arg("--version").stdin(Stdio::null()).output();
        let said = said.unwrap_or_else(|e| panic!("cannot run {} --version: {e}", path.display()));
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let kind = match text.lines().next().unwrap_or_default() {
            first if first.starts_with("skep version ") => Kind::Skep,
            first if first.starts_with("runc version 1.1.") => Kind::Runc,
            first if first.starts_with("crun version 1.8") => Kind::Crun,
            _ => Kind::Other,
        };
        Runtime { path: path.to_owned(), kind }
    }
}

/// Where the program under test is, without running it.
fn locate() -> PathBuf {
    if let Some(path) = std::env::var_os("RUNTIME").filter(|value| !value.is_empty()) {
        return PathBuf::from(path);
    }
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/bin/skep");
    // A test binary is target/<profile>/deps/NAME-HASH, so the workspace's programs are one folder up.
    let test = std::env::current_exe().unwrap_or_default();
    let beside = test.parent().and_then(Path::parent).map(|dir| dir.join("skep")).unwrap_or_default();
    for candidate in [dist, beside] {
        if candidate.is_file() {
            return candidate;
        }
    }
    panic!("no runtime to test: build skep first (cargo build), or name one with RUNTIME=/path")
}

/// One call of the runtime (or of any program), being prepared.
#[derive(Debug)]
pub struct Call {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
    stdin: Stdio,
    fds: Vec<(u32, PathBuf)>,
    listen: bool,
    deadline: Duration,
    scratch: PathBuf,
}

impl Call {
    /// Prepares `program` with no arguments; its output files go below `scratch`.
    pub fn new(program: &Path, scratch: &Path) -> Call {
        Call {
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            stdin: Stdio::null(),
            fds: Vec::new(),
            listen: false,
            deadline: DEADLINE,
            scratch: scratch.to_owned(),
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<Path>) -> Call {
        self.args.push(arg.as_ref().to_str().expect("test arguments are UTF-8").to_owned());
        self
    }

    /// Adds several arguments.
    pub fn args<S: AsRef<Path>>(self, args: impl IntoIterator<Item = S>) -> Call {
        args.into_iter().fold(self, Call::arg)
    }

    /// Sets one environment variable of the runtime itself.
    pub fn env(mut self, key: &str, value: &str) -> Call {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets the working folder of the runtime itself.
    pub fn cwd(mut self, dir: &Path) -> Call {
        self.cwd = Some(dir.to_owned());
        self
    }

    /// Feeds these bytes as standard input.
    pub fn stdin_bytes(self, bytes: &[u8]) -> Call {
        let path = self.scratch.join(format!("stdin-{}", serial()));
        fs::write(&path, bytes).expect("write stdin file");
        let file = File::open(&path).expect("open stdin file");
        self.stdin(file)
    }

    /// Uses this descriptor as standard input.
    pub fn stdin(mut self, fd: impl Into<OwnedFd>) -> Call {
        self.stdin = Stdio::from(fd.into());
        self
    }

    /// Opens `path` for reading as descriptor `number` (3 to 9) of the runtime; a folder is fine.
    pub fn fd(mut self, number: u32, path: &Path) -> Call {
        self.fds.push((number, path.to_owned()));
        self
    }

    /// Announces the descriptors of [`Call::fd`] as sd_listen_fds(3) has it: LISTEN_FDS and LISTEN_PID.
    pub fn listen_fds(mut self) -> Call {
        self.listen = true;
        self
    }

    /// Sets the deadline of [`Call::run`].
    pub fn deadline(mut self, deadline: Duration) -> Call {
        self.deadline = deadline;
        self
    }

    /// Starts the program and waits for its end.
    ///
    /// # Panics
    /// When it cannot be started, or when the deadline passes: it is killed then.
    pub fn run(self) -> Output {
        let deadline = self.deadline;
        self.spawn().wait(deadline)
    }

    /// Starts the program and returns at once.
    pub fn spawn(self) -> Running {
        let line = format!("{} {}", self.program.display(), self.args.join(" "));
        let (out, err) = (self.file("stdout"), self.file("stderr"));
        let mut command = self.command();
        for (key, value) in &self.env {
            command.env(key, value);
        }
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        command.stdin(self.stdin);
        command.stdout(File::create(&out).expect("create stdout file"));
        command.stderr(File::create(&err).expect("create stderr file"));
        let child = spawn(&mut command).unwrap_or_else(|e| panic!("cannot start {line}: {e}"));
        Running { child, line, out, err, ended: None }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.scratch.join(format!("{what}-{}", serial()))
    }

    /// A shell opens extra descriptors, so that none of them ever exists in the test's own process.
    fn command(&self) -> Command {
        if self.fds.is_empty() {
            let mut command = Command::new(&self.program);
            command.args(&self.args);
            return command;
        }
        let opens: Vec<String> = self.fds.iter().map(|(n, path)| format!("{n}<'{}'", path.display())).collect();
        let mut command = Command::new("/bin/sh");
        let listen =
            if self.listen { format!("export LISTEN_PID=$$ LISTEN_FDS={};", opens.len()) } else { String::new() };
        command.arg("-c").arg(format!("{listen}exec \"$@\" {}", opens.join(" "))).arg("sh");
        command.arg(&self.program).args(&self.args);
        command
    }
}

fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A program that was started and not yet waited for. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    out: PathBuf,
    err: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// The process id of the program.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits i32")
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_text(&self.out)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_text(&self.err)
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("wait for the runtime");
        }
        self.ended.is_some()
    }

    /// Sends SIGKILL to the program alone and reaps it.
    pub fn kill(&mut self) {
        if !self.ended() {
            self.child.kill().expect("kill an own child");
            self.ended = Some(self.child.wait().expect("reap an own child"));
        }
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    /// When `deadline` passes first; the program is killed then.
    pub fn wait(mut self, deadline: Duration) -> Output {
        if !self.ended() && !wait_pid(self.pid(), deadline) {
            self.kill();
            panic!("no end after {deadline:?}: {}\n{}\n{}", self.line, self.stdout(), self.stderr());
        }
        let status = match self.ended {
            Some(status) => status,
            None => self.child.wait().expect("reap an own child"),
        };
        self.ended = Some(status);
        Output {
            line: self.line.clone(),
            code: status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or_default()),
            stdout: self.stdout(),
            stderr: self.stderr(),
            out: self.out.clone(),
            err: self.err.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until the process `pid` has ended, as a zombie or for good. Says whether it did within `deadline`,
/// stretched by [`crate::host::time_factor`].
pub fn wait_pid(pid: i32, deadline: Duration) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        // EINVAL on older kernels, where its number lives on as that of a session.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return true,
        Err(e) => panic!("pidfd_open({pid:?}): {e}"),
    };
    let until = Instant::now() + deadline * crate::host::time_factor();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a deadline fits a timespec");
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll(pidfd): {e}"),
        }
    }
}

/// What a call left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// The program and its arguments, for messages.
    pub line: String,
    /// The exit code; a death by a signal is 1000 + its number, so it cannot be mistaken for a code.
    pub code: i32,
    /// Standard output at the end of the call.
    pub stdout: String,
    /// Standard error at the end of the call.
    pub stderr: String,
    out: PathBuf,
    err: PathBuf,
}

impl Output {
    /// Asserts exit code 0 and returns standard output without the white space around it.
    #[track_caller]
    pub fn ok(&self) -> String {
        self.code_is(0);
        self.stdout.trim().to_owned()
    }

    /// Asserts exit code 0 and parses standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON: {e}\n{self:#?}"))
    }

    /// Asserts this exit code.
    #[track_caller]
    pub fn code_is(&self, code: i32) -> &Output {
        assert_eq!(self.code, code, "exit code of {self:#?}");
        self
    }

    /// Asserts an exit code that is neither 0 nor a death of the runtime by a signal; returns standard error.
    #[track_caller]
    pub fn fails(&self) -> String {
        assert!(self.code != 0 && self.code < 1000, "must fail: {self:#?}");
        self.stderr.clone()
    }

    /// Asserts a failure whose message has `text` in it.
    #[track_caller]
    pub fn fails_saying(&self, text: &str) {
        assert!(self.fails().contains(text), "must say {text:?}: {self:#?}");
    }

    /// Standard output now: what a detached container has written since.
    pub fn stdout_now(&self) -> String {
        read_text(&self.out)
    }

    /// Standard error now: what a detached container has written since.
    pub fn stderr_now(&self) -> String {
        read_text(&self.err)
    }
}

fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Starts a program. While a process of a container tries to open the very file for writing, through a read-only mount, the
/// kernel counts a writer for an instant, and a start at that moment is told that the file is busy.
fn spawn(command: &mut std::process::Command) -> std::io::Result<std::process::Child> {
    for _ in 0..50 {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            other => return other,
        }
    }
    command.spawn()
}
