//! What a container writes and how it ends: `logs`, `wait` and `start --foreground`.

use std::fs::{self, File};
use std::io::{ErrorKind, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use runtime_spec::monitor::{End, Request};
use runtime_spec::state::{State, Status};

use crate::args_running::{Awaited, LogsArgs, StartArgs, WaitArgs};
use crate::definition::{Definition, Ready};
use crate::monitor::{self, Connection, Input, Told};
use crate::ops::{autostart, start};
use crate::output::{self, tell};
use crate::pending;
use crate::run::Manager;
use crate::runs::{Last, Run, state_word};
use crate::runtime::{open_process, wait_process};
use crate::system::init::{self, Init};

/// The log of a container.
#[must_use]
pub fn log_path(manager: &Manager, name: &str) -> PathBuf {
    manager.places.container(name).join("log")
}

/// `logs NAME`.
///
/// # Errors
/// It is not defined; the log cannot be read.
pub fn logs(manager: &Manager, args: &LogsArgs) -> Result<()> {
    Definition::need(&manager.places, &args.name)?;
    let connection = if args.follow { connect(manager, &args.name)? } else { None };
    let mut reader = LogReader::open(&log_path(manager, &args.name))?;
    if let Some(lines) = args.lines {
        reader.skip_to_last(lines)?;
    }
    reader.print()?;
    match connection {
        Some(followed) => follow(followed, &mut reader).map(drop),
        None => Ok(()),
    }
}

/// A run that is followed: a connection to its monitor, and where another is to be had.
#[derive(Debug)]
struct Followed {
    connection: Connection,
    folder: PathBuf,
}

fn connect(manager: &Manager, name: &str) -> Result<Option<Followed>> {
    match Run::read(&manager.places, name)? {
        Some(run) => connect_to(run.folder(&manager.places, name)),
        None => Ok(None),
    }
}

fn connect_to(folder: PathBuf) -> Result<Option<Followed>> {
    loop {
        let Some(connection) = Connection::again(&folder)? else { return Ok(None) };
        if connection.ask(&Request::Follow)? {
            return Ok(Some(Followed { connection, folder }));
        }
    }
}

/// Prints what is added to a log until its container ends. The monitor tells when there is something; it is read from the
/// log, so that nothing is shown twice and nothing is left out.
fn follow(mut followed: Followed, reader: &mut LogReader) -> Result<Option<End>> {
    loop {
        let told = followed.connection.next()?;
        reader.print()?;
        match told {
            Told::Output(_) => {}
            Told::Ended(end) => return Ok(Some(end)),
            Told::Gone => match connect_to(followed.folder)? {
                // It tells at once to look: what was written while nobody told is printed then.
                Some(another) => followed = another,
                None => return Ok(None),
            },
        }
    }
}

/// `start --foreground NAME`: exits as the container does.
///
/// # Errors
/// It cannot be started; nobody would see how it ends, or what it is to read is a terminal; its log cannot be read.
pub fn foreground(manager: &Manager, args: &StartArgs) -> Result<ExitCode> {
    let [name] = &args.names[..] else { bail!("--foreground takes one container") };
    let input = if args.interactive { Input::Ours } else { Input::Null };
    // Its keys would end this command and not the container, and a shell could not have it back from the container.
    if args.interactive && std::io::stdin().is_terminal() {
        bail!("standard input is a terminal: define the container with --tty, and see skep console");
    }
    let (mut reader, run) = {
        let _lock = pending::lock(manager, name)?;
        let definition = Definition::need(&manager.places, name)?;
        if !definition.monitor {
            bail!("container {name:?} has no monitor: nobody would see how it ends");
        }
        if args.interactive && definition.process.terminal {
            bail!("container {name:?} reads its terminal: see skep console");
        }
        // Open before it is written: a short while later the first part may have been put aside already.
        let log = log_path(manager, name);
        if !manager.runtime.is_alive(name)? {
            monitor::set_log_aside(&log, definition.log.files)?;
            monitor::open_log(&log)?;
        }
        let reader = LogReader::open(&log)?;
        start::start_locked(manager, &definition, None, input)?;
        if input == Input::Ours {
            // Who writes to it is told by the kernel when the container reads no more.
            let null = File::open("/dev/null").context("cannot open /dev/null")?;
            sys::process::dup_onto(null.as_fd(), 0)?;
        }
        (reader, Run::read(&manager.places, name)?.map(|run| run.id))
    };
    let end = match connect(manager, name)? {
        Some(followed) => follow(followed, &mut reader)?,
        None => None,
    };
    reader.print()?;
    let end = match end {
        Some(end) => Some(end),
        // It had ended before anybody could connect.
        None => last_end(manager, name, run.as_deref())?,
    };
    match end {
        Some(End::Code(code)) => Ok(exit_code(code)),
        Some(End::Signal(signal)) => {
            tell(&format!("container {name:?} was killed by signal {signal}"));
            Ok(exit_code(128 + signal))
        }
        Some(End::Unknown) | None => bail!("nobody saw how container {name:?} ended"),
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

/// How a run ended that has been concluded.
fn last_end(manager: &Manager, name: &str, run: Option<&str>) -> Result<Option<End>> {
    // Whoever concludes the run has the lock.
    let _lock = manager.places.lock(name)?;
    let last = Last::read(&manager.places, name)?.filter(|last| Some(last.run.as_str()) == run);
    Ok(last.and_then(|last| last.code.map(End::Code).or(last.signal.map(End::Signal))))
}

/// How often it is looked whether a container runs, for which nobody waits to be told.
const LOOK: Duration = Duration::from_millis(20);
/// The same of whether it is ready, which may take a program inside.
const LOOK_READY: Duration = Duration::from_millis(250);

/// `wait NAME [STATE]`: prints how it ended, or nothing. Exits with 1 when the time is up.
///
/// # Errors
/// It is not defined; what the runtime says.
pub fn wait(manager: &Manager, args: &WaitArgs) -> Result<ExitCode> {
    let name = &args.name;
    Definition::need(&manager.places, name)?;
    let until = args.time.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let left = || until.map(|until| until.saturating_duration_since(Instant::now()));
    loop {
        // Before the run: one that ends and begins again in between has another one then.
        let state = manager.runtime.state(name)?.filter(|state| state.status.is_alive());
        let alive = state.is_some();
        let run = Run::read(&manager.places, name)?;
        let is_so = match args.state {
            Awaited::Running => alive,
            Awaited::Stopped => !alive && run.is_none(),
            Awaited::Paused => state.as_ref().is_some_and(|state| state.status == Status::Paused),
            Awaited::Restarting => state_word(state.as_ref(), run.as_ref()) == Awaited::Restarting.render(),
            Awaited::Ready => match &state {
                Some(state) => is_ready(manager, state, until)?,
                None => false,
            },
        };
        if is_so {
            if let (Awaited::Stopped, Some(last)) = (args.state, Last::read(&manager.places, name)?) {
                output::write(&format!("{}\n", last.render()))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        if left().is_some_and(|left| left.is_zero()) {
            tell(&format!("error: container {name:?} is not {} in time", args.state.render()));
            return Ok(ExitCode::FAILURE);
        }
        let connection = match (args.state, &run) {
            (Awaited::Stopped, Some(run)) => Connection::open(&run.folder(&manager.places, name))?,
            _ => None,
        };
        match connection {
            // It closes the connection when it has been decided what comes after the end.
            Some(connection) => while matches!(connection.wait(left())?, Some(Told::Ended(_))) {},
            None if args.state == Awaited::Stopped => {
                if let Some((_, process)) = state.as_ref().map_or(Ok(None), open_process)? {
                    wait_process(&process, left().unwrap_or(Duration::from_secs(3600)))?;
                }
                if !conclude_alone(manager, name)? {
                    std::thread::sleep(left().map_or(LOOK, |left| left.min(LOOK)));
                }
            }
            None => {
                let look = if args.state == Awaited::Ready && alive { LOOK_READY } else { LOOK };
                std::thread::sleep(left().map_or(look, |left| left.min(look)));
            }
        }
    }
}

/// Whether a container that runs is ready, by what it says of itself, else by what its init says.
fn is_ready(manager: &Manager, state: &State, until: Option<Instant>) -> Result<bool> {
    /// `degraded` is up, with something that failed.
    const UP: &str = "case $(systemctl is-system-running) in running|degraded) ;; *) exit 1; esac";
    let definition = Definition::need(&manager.places, &state.id)?;
    let said = definition.autostart.and_then(|autostart| autostart.ready);
    let ready = match said {
        None if definition.system.is_some() => {
            let Some((pid, process)) = open_process(state)? else { return Ok(false) };
            let seen = init::probe(pid);
            if sys::process::has_ended(process.as_fd())? {
                return Ok(false);
            }
            // Whoever has another init, or one that cannot be told, is ready as soon as it runs.
            let init = seen.map_or(Init::Program, |seen| init::parse_init(&seen));
            (init == Init::Systemd).then(|| Ready::Exec(UP.to_owned()))
        }
        said => said,
    };
    let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
    match ready {
        Some(ready) => autostart::shows_ready(manager, state, &ready, until),
        None => Ok(true),
    }
}

/// Concludes a run that has no process and no monitor, which nobody else does. Whether it was so.
fn conclude_alone(manager: &Manager, name: &str) -> Result<bool> {
    let _lock = pending::lock(manager, name)?;
    let definition = Definition::need(&manager.places, name)?;
    let watched = match Run::read(&manager.places, name)? {
        Some(run) => monitor::is_there(&run.folder(&manager.places, name))?,
        None => false,
    };
    let state = manager.runtime.state(name)?;
    if watched || state.as_ref().is_some_and(|state| state.status.is_alive()) {
        return Ok(false);
    }
    super::ended::clear(manager, &definition, state.is_some(), false)?;
    Ok(true)
}

/// A log that is read while it is written and put aside.
#[derive(Debug)]
struct LogReader {
    path: PathBuf,
    file: Option<File>,
}

impl LogReader {
    fn open(path: &Path) -> Result<LogReader> {
        Ok(LogReader { path: path.to_owned(), file: open(path)? })
    }

    /// Goes to the beginning of the last lines.
    fn skip_to_last(&mut self, lines: usize) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut text = Vec::new();
        file.read_to_end(&mut text).and_then(|_| file.seek(SeekFrom::Start(find_last(&text, lines) as u64)))?;
        Ok(())
    }

    /// Prints what has been added, in all the logs that were put aside since the last look and are still kept.
    fn print(&mut self) -> Result<()> {
        self.print_rest()?;
        while let Some(next) = self.next()? {
            // It may have been written to until it was put aside.
            self.print_rest()?;
            self.file = Some(next);
            self.print_rest()?;
        }
        Ok(())
    }

    /// The log that comes after the open one; `None` where that is the newest. Another may be put aside at any moment, so what
    /// was found is looked for again.
    fn next(&self) -> Result<Option<File>> {
        loop {
            let Some(next) = self.after_open().and_then(|path| open(&path).transpose()) else { return Ok(None) };
            let next = next?;
            let found = next.metadata().ok().map(|meta| inode(&meta));
            let again = self.after_open().and_then(|path| fs::metadata(path).ok()).map(|meta| inode(&meta));
            if found == again {
                return Ok(Some(next));
            }
        }
    }

    /// The path of the log that comes after the open one. Of one that is kept no more the oldest that is comes after it.
    fn after_open(&self) -> Option<PathBuf> {
        let own = self.file.as_ref().and_then(|file| file.metadata().ok()).map(|meta| inode(&meta));
        let aside = (1..).map(|number| PathBuf::from(format!("{}.{number}", self.path.display())));
        let mut next = None;
        let mut missing = 0;
        for path in std::iter::once(self.path.clone()).chain(aside) {
            let Ok(meta) = fs::metadata(&path) else {
                // They are put aside one after the other, so that one number is free for a moment.
                missing += 1;
                if missing > 1 {
                    break;
                }
                continue;
            };
            missing = 0;
            if Some(inode(&meta)) == own {
                return next;
            }
            next = Some(path);
        }
        // Nothing was open: the newest is where it begins.
        if own.is_none() { Some(self.path.clone()).filter(|path| path.exists()) } else { next }
    }

    fn print_rest(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut out = std::io::stdout().lock();
        match std::io::copy(file, &mut out).and_then(|_| std::io::Write::flush(&mut out)) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            other => other.context("cannot pass the log on"),
        }
    }
}

fn inode(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).with_context(|| format!("cannot open {}", path.display())),
    }
}

/// Where the last lines of a text begin. A line need not end.
fn find_last(text: &[u8], lines: usize) -> usize {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    if lines == 0 {
        return text.len();
    }
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_read_in_the_order_in_which_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
        let put_aside = |text: &str| {
            for number in (1..3).rev() {
                drop(fs::rename(file(number), file(number + 1)));
            }
            fs::rename(&path, file(1)).unwrap();
            fs::write(&path, text).unwrap();
        };
        fs::write(&path, "1").unwrap();
        let mut reader = LogReader::open(&path).unwrap();
        assert_eq!(reader.after_open(), None);
        put_aside("2");
        put_aside("3");
        assert_eq!(reader.after_open(), Some(file(1)));
        reader.file = reader.next().unwrap();
        assert_eq!(reader.after_open(), Some(path.clone()));
        reader.file = reader.next().unwrap();
        assert!(reader.next().unwrap().is_none());
        // In the middle of being put aside again.
        let first = LogReader { path: path.clone(), file: File::open(file(2)).ok() };
        fs::rename(file(2), file(3)).unwrap();
        fs::rename(file(1), file(2)).unwrap();
        assert_eq!(first.after_open(), Some(file(2)));
        fs::rename(file(2), file(1)).unwrap();
        fs::rename(file(3), file(2)).unwrap();
        // More than are kept: the oldest that is there.
        for text in ["4", "5", "6", "7"] {
            put_aside(text);
        }
        assert_eq!(reader.after_open(), Some(file(3)));
    }

    #[test]
    fn the_last_lines_are_found() {
        let last = |text: &str, lines| text[find_last(text.as_bytes(), lines)..].to_owned();
        assert_eq!(last("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last("a\nb\nc", 1), "c");
        assert_eq!(last("a\nb\n", 9), "a\nb\n");
        assert_eq!((last("", 3), last("a\n", 0)), (String::new(), String::new()));
    }
}
