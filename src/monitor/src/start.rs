//! How a monitor comes to life, what it does when its container has ended, and how it begins with one that runs.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use runtime_spec::monitor::{End, Orders, file};
use sys::Errno;
use sys::fs::{FileType, FlockOperation, OFlags};
use sys::socket::Carries;

use crate::log::{Log, Tail};
use crate::serve::{Output, Server, end_of};
use crate::spare::{self, Side, Waiting};
use crate::terminal::Terminal;

/// Runs a monitor for the run whose folder this is: with a new container, or for one that runs already.
///
/// # Errors
/// The container does not start; the folder is not what it has to be. After the first line has been told nothing is left to
/// tell errors to.
pub fn main(folder: &Path, attach: bool) -> Result<()> {
    // Nothing of the caller's is kept open for as long as a container lives.
    sys::process::close_all_but(vec![0, 1, 2])?;
    // The lock takes its place.
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("cannot keep the standard input")?;
    hold_lock(folder, attach)?;
    // A group of its own: keys that a person presses to interrupt the command that started it are not meant for it.
    sys::process::new_session()?;
    sys::process::chdir("/")?;
    let mut spare = match spare::split()? {
        Side::Monitor(spare) => spare,
        Side::Waiting(waiting) => {
            // Whoever writes to it is told when the container reads no more.
            drop(input);
            return stand_by(folder, waiting);
        }
    };
    write_pid(folder)?;
    let dir = File::open(folder).context("cannot open the folder of the run")?;
    let listener = listen(dir.as_fd(), file::CONTROL, Carries::Messages)?;
    let orders = await_orders(folder)?;
    let log = Log::open(Path::new(&orders.log), orders.log_size, orders.log_files)?;
    let (pid, process, mut server) = match attach {
        true => {
            drop(input);
            join(folder, &orders, listener, log)?
        }
        false => begin(folder, dir.as_fd(), &orders, listener, log, input)?,
    };
    drop(dir);
    spare.hold(pid, process.as_fd(), &server.terminals())?;
    let null = OpenOptions::new().write(true).open("/dev/null").context("cannot open /dev/null")?;
    sys::process::dup_onto(null.as_fd(), 2)?;
    drop(null);
    tell("ok");
    spare.leave_caller()?;
    server.spare = Some(spare);
    serve(folder, &orders, pid, process, server)
}

/// Reads the orders, which are locked until they are complete. So whoever gives them prepares the container while this process
/// comes to life. One that ends meanwhile has given none.
fn await_orders(folder: &Path) -> Result<Orders> {
    let mut file = File::open(folder.join(file::ORDERS)).context("cannot open the orders")?;
    sys::fs::flock(file.as_fd(), FlockOperation::LockShared)?;
    let mut orders = Vec::new();
    file.read_to_end(&mut orders).context("cannot read the orders")?;
    if orders.is_empty() {
        bail!("whoever was to give orders has ended");
    }
    Orders::parse(&orders).map_err(anyhow::Error::msg)
}

/// Serves a container until its end and beyond, until it has been decided what comes after.
fn serve(folder: &Path, orders: &Orders, pid: i32, process: OwnedFd, mut server: Server) -> Result<()> {
    loop {
        let turned = server.turn(Some(process.as_fd()), None)?;
        if turned.ended {
            break;
        }
        if turned.spare_died {
            renew_spare(folder, pid, process.as_fd(), &mut server)?;
        }
    }
    server.drain()?;
    let end = match read_end(folder)? {
        // The monitor before this one has come so far.
        Some(end) => end,
        None => end_of(process.as_fd(), pid)?,
    };
    drop(process);
    write_end(folder, end)?;
    server.tell_end(end)?;
    (server.output, server.ttys) = (Output::Lost, Vec::new());
    follow_up(folder, orders, &mut server, end)
}

/// Makes another spare. Without one the container is served all the same.
fn renew_spare(folder: &Path, pid: i32, process: BorrowedFd<'_>, server: &mut Server) -> Result<()> {
    if let Some(spare) = server.spare.take() {
        spare.bury()?;
    }
    match spare::make() {
        Ok(Side::Monitor(spare)) => {
            // It may have died already; the next turn tells.
            match spare.hold(pid, process, &server.terminals()) {
                Err(error) if !error.is(Errno::PIPE) => return Err(error.into()),
                _ => server.spare = Some(spare),
            }
        }
        Ok(Side::Waiting(waiting)) => {
            // Never back: what is above on the stack is the monitor's.
            let code = i32::from(stand_by(folder, waiting).is_err());
            sys::process::exit_now(code);
        }
        // No process can be made just now.
        Err(_) => {}
    }
    Ok(())
}

/// The life of a spare: it waits, and goes on where the monitor ended.
fn stand_by(folder: &Path, waiting: Waiting) -> Result<()> {
    let Some(held) = waiting.wait()? else { return Ok(()) };
    let orders = await_orders(folder)?;
    write_pid(folder)?;
    let dir = File::open(folder).context("cannot open the folder of the run")?;
    let path = Path::new(&orders.log);
    let log = Log::open(path, orders.log_size, orders.log_files)?;
    let listener = listen(dir.as_fd(), file::CONTROL, Carries::Messages)?;
    drop(dir);
    let mut masters = held.masters.into_iter();
    let output = match (orders.terminal, masters.next()) {
        (false, _) => Output::Fifo(open_fifo(folder)?),
        (true, Some(master)) => terminal_output(master)?,
        (true, None) => Output::Lost,
    };
    let mut server = Server::new(listener, output, log);
    server.ttys = masters.map(Terminal::new).collect::<Result<_>>()?;
    server.tail = Tail::of_log(path).context("cannot read the log")?;
    renew_spare(folder, held.pid, held.process.as_fd(), &mut server)?;
    serve(folder, &orders, held.pid, held.process, server)
}

fn terminal_output(master: OwnedFd) -> Result<Output> {
    let mut terminal = Terminal::new(master)?;
    terminal.set_open(true)?;
    Ok(Output::Terminal(terminal))
}

/// How often, and after which pauses, a lock is tried that somebody may look at for a moment.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Writes one line for the command that started this process. It may have gone.
pub fn tell(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        drop(error);
    }
}

/// Takes the lock of the run and puts it where standard input was: one descriptor less, and no other use for that one.
///
/// Somebody may look for a moment whether it is held. A new run's cannot be held for longer.
fn hold_lock(folder: &Path, attach: bool) -> Result<()> {
    let path = folder.join(file::LOCK);
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
    let lock = open.with_context(|| format!("cannot open {}", path.display()))?;
    let how = if attach { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::LockExclusive };
    let mut tries = if attach { LOCK_TRIES } else { 1 };
    while let Err(error) = sys::fs::flock(lock.as_fd(), how) {
        tries -= 1;
        match error.is(Errno::WOULDBLOCK) {
            true if tries == 0 => bail!("it has a monitor"),
            true => std::thread::sleep(LOCK_PAUSE),
            false => return Err(error.into()),
        }
    }
    sys::process::dup_onto(lock.as_fd(), 0)?;
    Ok(())
}

/// Says in the lock's file who has it.
fn write_pid(folder: &Path) -> Result<()> {
    let path = folder.join(file::LOCK);
    // Not by a new file: the lock is this one's. One write of one length: whoever reads meanwhile sees one number or the other.
    let mut lock =
        OpenOptions::new().write(true).open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let text = format!("{:<10}\n", std::process::id());
    lock.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Listens at a name, of which an earlier monitor may have left the file.
fn listen(dir: BorrowedFd<'_>, name: &str, carries: Carries) -> Result<OwnedFd> {
    match sys::fs::unlink_at(dir, name) {
        Err(error) if !error.is(Errno::NOENT) => return Err(error.into()),
        _ => {}
    }
    Ok(sys::socket::listen(dir, name, 0o600, carries)?)
}

/// Starts the container.
fn begin(
    folder: &Path,
    dir: BorrowedFd<'_>,
    orders: &Orders,
    listener: OwnedFd,
    log: Log,
    input: OwnedFd,
) -> Result<(i32, OwnedFd, Server)> {
    let mut server;
    let mut console = None;
    let writing = if orders.terminal {
        console = Some(listen(dir, file::CONSOLE, Carries::Bytes)?);
        server = Server::new(listener, Output::Lost, log);
        None
    } else {
        sys::fs::mknod_at(dir, file::OUTPUT, FileType::Fifo, 0o600, 0)?;
        server = Server::new(listener, Output::Fifo(open_fifo(folder)?), log);
        // A description of its own: the container's calls wait where the monitor's do not.
        Some(sys::fs::open_at(dir, file::OUTPUT, OFlags::RDWR, 0)?)
    };
    let (program, args) = orders.start.split_first().context("no order to start anything")?;
    // Executed from a protected file at once, the runtime need not do so itself.
    let protected = sys::mount::clone_read_only(program).ok();
    let mut command = match &protected {
        Some(file) => Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())),
        None => Command::new(program),
    };
    command.arg0(program).args(args).stdin(input).current_dir(folder);
    match &writing {
        Some(fd) => command.stdout(fd.try_clone()?).stderr(fd.try_clone()?),
        None => command.stdout(Stdio::null()).stderr(Stdio::null()),
    };
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    drop((command, protected, writing));
    let started = serve_start(&mut server, &mut child, console.as_ref(), orders)?;
    if console.is_some() {
        sys::fs::unlink_at(dir, file::CONSOLE)?;
    }
    if !started.success() {
        // What hooks said of it, for example.
        server.drain()?;
        // Its own messages are in a file that whoever gave the orders knows.
        bail!("{program} ended with {started}");
    }
    if orders.terminal && server.output_is_lost() {
        bail!("{program} sent no terminal");
    }
    let pid = read_pid(folder)?;
    let process = sys::process::pidfd_open(pid)?;
    Ok((pid, process, server))
}

/// Waits for the end of the command that starts the container; takes the terminal that it sends, and passes on what is
/// written meanwhile, for it would wait when the FIFO is full.
fn serve_start(
    server: &mut Server,
    child: &mut Child,
    console: Option<&OwnedFd>,
    orders: &Orders,
) -> Result<std::process::ExitStatus> {
    let process = sys::process::pidfd_open(i32::try_from(child.id())?)?;
    let Some(console) = console else {
        while !server.turn(Some(process.as_fd()), None)?.ended {}
        return Ok(child.wait()?);
    };
    loop {
        let ready = sys::process::poll_readable(&[process.as_fd(), console.as_fd()], None)?;
        if ready[1].readable {
            let socket = sys::socket::accept(console.as_fd(), false)?;
            if let Some(master) = sys::socket::receive(socket.as_fd(), 256)?.fds.pop() {
                server.output = terminal_output(master)?;
            }
            if orders.ttys > 0 {
                let masters = sys::socket::receive(socket.as_fd(), 256)?.fds;
                server.ttys = masters.into_iter().map(Terminal::new).collect::<Result<_>>()?;
            }
        } else if ready[0].readable {
            return Ok(child.wait()?);
        }
    }
}

/// Opens the output of a container that runs, or of one that will.
fn open_fifo(folder: &Path) -> Result<OwnedFd> {
    let path = folder.join(file::OUTPUT);
    let path = path.to_str().context("the folder's name is no text")?;
    Ok(sys::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK)?)
}

fn read_pid(folder: &Path) -> Result<i32> {
    let text = fs::read_to_string(folder.join(file::PID)).context("cannot read the pid")?;
    text.trim().parse().with_context(|| format!("no pid: {text:?}"))
}

/// Takes the place of a monitor that has died with its spare.
///
/// The output of a container without a terminal is all there, as it waited in the FIFO. Of one with a terminal it is lost, as
/// the terminal's master was closed with the last one that had it. How the first process ended is told by kernels from 6.15
/// on; older ones tell it to a parent alone, which is then some other process.
fn join(folder: &Path, orders: &Orders, listener: OwnedFd, log: Log) -> Result<(i32, OwnedFd, Server)> {
    let pid = read_pid(folder)?;
    let process = sys::process::pidfd_open(pid)?;
    let output = if orders.terminal { Output::Lost } else { Output::Fifo(open_fifo(folder)?) };
    Ok((pid, process, Server::new(listener, output, log)))
}

/// What [`write_end`] has written.
fn read_end(folder: &Path) -> Result<Option<End>> {
    match fs::read_to_string(folder.join(file::END)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => Ok(End::parse(&other.context("cannot read how it ended")?)),
    }
}

/// Leaves how it ended where whoever stops the container finds it, also when this process is killed now.
fn write_end(folder: &Path, end: End) -> Result<()> {
    let (path, unfinished) = (folder.join(file::END), folder.join("end.new"));
    fs::write(&unfinished, end.render())
        .and_then(|()| fs::rename(&unfinished, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Has somebody decide what comes after the end, and starts the container again if that is it.
fn follow_up(folder: &Path, orders: &Orders, server: &mut Server, end: End) -> Result<()> {
    await_others(&orders.lock)?;
    // Whoever has stopped the container has concluded its run, and nothing is to be decided.
    let mut again = if folder.exists() { run(&orders.ended)? } else { None };
    if let Some(spare) = server.spare.take() {
        spare.dismiss()?;
    }
    while let Some(pause) = again {
        let until = Instant::now() + pause;
        loop {
            let left_ms = sys::process::left_ms(until);
            if left_ms == 0 {
                break;
            }
            // Whoever comes now learns that there is nothing to attach to.
            server.turn(None, Some(left_ms))?;
            server.tell_end(end)?;
        }
        again = run(&orders.again)?;
    }
    Ok(())
}

/// Waits until nobody works on the container.
fn await_others(lock: &str) -> Result<()> {
    match File::open(lock) {
        Ok(lock) => Ok(sys::fs::flock(lock.as_fd(), FlockOperation::LockShared)?),
        // The command that decides makes it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot open {lock}")),
    }
}

/// Runs a command, and reads from its output after which time something is to be done again.
fn run(command: &[String]) -> Result<Option<Duration>> {
    let Some((program, args)) = command.split_first() else { return Ok(None) };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(4096).read_to_string(&mut answer).with_context(|| format!("cannot read from {program}"))?;
    }
    child.wait()?;
    Ok(parse_again(&answer))
}

/// Reads `again MILLISECONDS` from a command's output.
fn parse_again(answer: &str) -> Option<Duration> {
    let pause = answer.lines().find_map(|line| line.strip_prefix("again "))?;
    pause.trim().parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_time_is_no_order() {
        assert_eq!(parse_again("again 250\n"), Some(Duration::from_millis(250)));
        assert_eq!(parse_again("note\nagain 0\n"), Some(Duration::ZERO));
        for answer in ["", "again", "again x", "again -1", "not again 5"] {
            assert_eq!(parse_again(answer), None, "{answer}");
        }
    }
}
