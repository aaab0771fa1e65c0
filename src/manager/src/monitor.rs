//! The monitor of a run, seen from outside: started, asked, dismissed.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use runtime_spec::monitor::{End, Event, MESSAGE_MAX, Orders, Request, file};
use sys::Errno;
use sys::fs::FlockOperation;

use crate::places::remove_if_there;
use crate::runtime::last_message;

/// The program, beside this one.
const NAME: &str = "skep-monitor";
/// How long a monitor may take to notice an end, which the kernel tells it at once.
const NOTICE: Duration = Duration::from_secs(5);
/// How often it is looked whether a spare has taken its monitor's place.
const LOOK: Duration = Duration::from_millis(5);

/// What a container reads at its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    Null,
    /// What this process would read.
    Ours,
}

/// For which container a monitor is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// One that it starts, with this standard input.
    New(Input),
    /// One that runs already.
    Running,
}

/// A monitor that comes to life and waits for its orders. Without any it ends when this process does.
#[derive(Debug)]
pub struct Waiting {
    process: Child,
    /// Locked until they are complete.
    orders: File,
}

impl Waiting {
    /// Starts a monitor for a run whose folder this is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(name: &str, folder: &Path, watched: Watched) -> Result<Waiting> {
        let path = folder.join(file::ORDERS);
        let orders = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        sys::fs::flock(orders.as_fd(), FlockOperation::LockExclusive)?;
        let mut command = Command::new(program()?);
        command.arg(name).arg(folder).args((watched == Watched::Running).then_some("--attach"));
        let inherits = watched == Watched::New(Input::Ours);
        command.stdin(if inherits { Stdio::inherit() } else { Stdio::null() });
        Ok(Waiting { process: spawn(&mut command)?, orders })
    }

    /// Gives it its orders. Returns when the container runs; `messages` is where the runtime says why it does not.
    ///
    /// # Errors
    /// What the monitor or the runtime says; then neither is there.
    pub fn order(mut self, orders: &Orders, messages: &Path) -> Result<()> {
        let written = remove_if_there(messages).and_then(|()| Ok(self.orders.write_all(&orders.render())?));
        if let Err(error) = written {
            // It must not take a part for the whole.
            self.orders.set_len(0).context("cannot take the orders of the monitor back")?;
            self.dismiss()?;
            return Err(error).context("cannot write the orders of the monitor");
        }
        sys::fs::flock(self.orders.as_fd(), FlockOperation::Unlock)?;
        let Answer::Failed(answer) = answer(self.process)? else { return Ok(()) };
        let said = fs::read_to_string(messages).unwrap_or_default();
        match last_message(&said).or(answer) {
            Some(message) => bail!("{message}"),
            None => bail!("{NAME} ended without a word"),
        }
    }

    /// Sends it away, without a container.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn dismiss(mut self) -> Result<()> {
        sys::fs::flock(self.orders.as_fd(), FlockOperation::Unlock)?;
        self.process.wait().context("cannot wait for the monitor")?;
        Ok(())
    }
}

/// What a process of the monitor's program said before it went on by itself.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It works.
    Ok,
    /// It has ended, with this error if it named one.
    Failed(Option<String>),
}

/// Starts a process of the monitor's program, which is to answer.
///
/// # Errors
/// What the kernel says.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let child = command.stdout(Stdio::piped()).spawn();
    child.with_context(|| format!("cannot run {}", Path::new(command.get_program()).display()))
}

/// Takes the answer of such a process.
///
/// # Errors
/// What the kernel says.
pub(crate) fn answer(mut child: Child) -> Result<Answer> {
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        // It closes its end when it has said all.
        stdout.take(64 << 10).read_to_string(&mut answer).context("cannot read what the monitor says")?;
    }
    if answer.trim() == "ok" {
        return Ok(Answer::Ok);
    }
    child.wait().context("cannot wait for the monitor")?;
    Ok(Answer::Failed(answer.trim().strip_prefix("error: ").map(str::to_owned)))
}

/// The monitor's program, which is installed beside this one.
///
/// # Errors
/// The kernel does not say where this one is.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe().context("cannot tell where this program is")?.with_file_name(NAME))
}

/// Whether a run has a monitor that lives.
///
/// # Errors
/// What the kernel says.
pub fn is_there(folder: &Path) -> Result<bool> {
    match File::open(folder.join(file::LOCK)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot open {}", folder.join(file::LOCK).display())),
        Ok(lock) => match sys::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockShared) {
            Err(error) if error.is(Errno::WOULDBLOCK) => Ok(true),
            other => other.map(|()| false).map_err(Into::into),
        },
    }
}

/// Ends a monitor that waits to start its container again.
///
/// # Errors
/// What the kernel says.
pub fn dismiss(folder: &Path) -> Result<()> {
    let path = folder.join(file::LOCK);
    let pid = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let Ok(pid) = pid.trim().parse::<i32>() else { return Ok(()) };
    let process = match sys::process::pidfd_open(pid) {
        Err(error) if error.is(Errno::SRCH) => return Ok(()),
        other => other?,
    };
    // Held after the process was opened: the number is still the monitor's. A lock that somebody else has for a moment says
    // nothing of the number, which may be another's since the machine has booted.
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let is_monitor = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME));
    if is_monitor && is_there(folder)? {
        sys::process::pidfd_send_signal(process.as_fd(), 15)?;
        sys::process::poll_readable(&[process.as_fd()], Some(NOTICE.as_millis().try_into().unwrap_or(u64::MAX)))?;
    }
    Ok(())
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Connection(OwnedFd);

/// What comes from a monitor.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Output of the container.
    Output(Vec<u8>),
    /// The container has ended.
    Ended(End),
    /// The monitor is gone.
    Gone,
}

impl Connection {
    /// Connects; `None` where there is no monitor.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(folder: &Path) -> Result<Option<Connection>> {
        let path = folder.join(file::CONTROL);
        match sys::socket::connect_messages(path.to_str().context("the folder's name is no text")?) {
            Ok(socket) => Ok(Some(Connection(socket))),
            Err(error) if error.is(Errno::NOENT) || error.is(Errno::CONNREFUSED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Connects to the monitor that takes the place of one that is gone: its spare needs a moment. `None` where there is none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn again(folder: &Path) -> Result<Option<Connection>> {
        let until = Instant::now() + NOTICE;
        loop {
            if let Some(connection) = Connection::open(folder)? {
                return Ok(Some(connection));
            }
            if !is_there(folder)? || Instant::now() > until {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks for something. `false` where the monitor is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ask(&self, request: &Request<'_>) -> Result<bool> {
        match sys::socket::send(self.0.as_fd(), &request.render(), &[]) {
            Err(error) if error.is(Errno::PIPE) || error.is(Errno::CONNRESET) => Ok(false),
            other => other.map(|()| true).map_err(Into::into),
        }
    }

    /// Takes the next message, waiting for it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> Result<Told> {
        let message = match sys::socket::receive(self.0.as_fd(), MESSAGE_MAX) {
            // What was said before is still there.
            Err(error) if error.is(Errno::CONNRESET) => match sys::socket::receive(self.0.as_fd(), MESSAGE_MAX) {
                Err(error) if error.is(Errno::CONNRESET) => return Ok(Told::Gone),
                other => other?,
            },
            other => other?,
        };
        Ok(match Event::parse(&message.bytes) {
            Some(Event::Output(data)) => Told::Output(data.to_vec()),
            Some(Event::Ended(end)) => Told::Ended(end),
            None => Told::Gone,
        })
    }

    /// Waits for the end, at most this long; `None` after that.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, limit: Option<Duration>) -> Result<Option<Told>> {
        self.ask(&Request::Wait)?;
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            let left_ms = until.map(sys::process::left_ms);
            let ready = sys::process::poll_readable(&[self.0.as_fd()], left_ms)?;
            if ready[0].readable || ready[0].hung_up {
                match self.next()? {
                    Told::Output(_) => {}
                    told => return Ok(Some(told)),
                }
            } else if left_ms == Some(0) {
                return Ok(None);
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How a process ended that is known to have: what its monitor left, or tells within a moment; else nobody knows.
///
/// # Errors
/// What the kernel says.
pub fn await_end(read: impl Fn() -> Result<Option<End>>, folder: &Path) -> Result<End> {
    if let Some(end) = read()? {
        return Ok(end);
    }
    if let Some(connection) = Connection::open(folder)? {
        // It is written before anybody is told: who came too late to be told finds it.
        if let Some(end) = read()? {
            return Ok(end);
        }
        connection.wait(Some(NOTICE))?;
    }
    Ok(read()?.unwrap_or(End::Unknown))
}

/// Puts a log aside, if there is something in it: the newest old one is `log.1`, and `files` of them are kept.
///
/// # Errors
/// What the kernel says.
pub fn set_log_aside(path: &Path, files: u32) -> Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        Ok(meta) if meta.len() == 0 => return Ok(()),
        Ok(_) => {}
    }
    let text = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
    sys::fs::put_aside(text, files).with_context(|| format!("cannot put {} aside", path.display()))
}

/// Opens a log to add to it.
///
/// # Errors
/// What the kernel says.
pub fn open_log(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    open.with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_empty_log_does_not_replace_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for text in ["first", "second", "third"] {
            set_log_aside(&path, 2).unwrap();
            open_log(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        for _ in 0..3 {
            set_log_aside(&path, 2).unwrap();
            open_log(&path).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("log"), read("log.1"), read("log.2")), (String::new(), "third".into(), "second".into()));
    }

    #[test]
    fn a_run_without_a_monitor_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_there(dir.path()).unwrap());
        dismiss(dir.path()).unwrap();
        assert!(Connection::open(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(file::LOCK), format!("{}\n", std::process::id())).unwrap();
        assert!(!is_there(dir.path()).unwrap());
        // Nobody holds it, so the number may be anybody's: here it is this test's.
        dismiss(dir.path()).unwrap();
        assert_eq!(await_end(|| Ok(None), dir.path()).unwrap(), End::Unknown);
    }
}
