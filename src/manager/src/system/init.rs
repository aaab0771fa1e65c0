//! Which init a container's first process is, and what asks it to end. All but [`probe`] and [`apply`] is pure.
//!
//! Signals mean something else to each: SIGTERM makes systemd start itself anew, busybox reboot and sysvinit nothing at all. A
//! look at which signals are blocked does not tell them apart, as openrc-init blocks all. What tells is the program that runs
//! and the FIFO or the socket that it listens on.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use sys::Errno;
use sys::fs::{FileType, OFlags};
use sys::procfs::ProcFs;

/// What can be seen of a first process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its program, as `/proc/PID/exe` names it.
    pub exe: String,
    /// Its name, `/proc/PID/comm`.
    pub comm: String,
    /// Whether there is a FIFO `/run/initctl`.
    pub initctl: bool,
    /// Whether there is a folder `/run/systemd/system`.
    pub systemd: bool,
}

/// An init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd.
    Systemd,
    /// sysvinit, whatever starts its services: OpenRC as well.
    Sysvinit,
    /// The init of OpenRC.
    OpenrcInit,
    /// busybox.
    Busybox,
    /// runit.
    Runit,
    /// The supervisor of s6.
    S6,
    /// dinit.
    Dinit,
    /// Any other program.
    Program,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// That the system ends.
    PowerOff,
    /// That it ends in order to begin again.
    Reboot,
}

/// How it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// A signal for the first process.
    Signal(String),
    /// A runlevel, written to `/run/initctl`.
    Runlevel(char),
    /// A program inside the container.
    Program(&'static [&'static str]),
}

/// The signal for programs that say nothing else.
pub const STOP_SIGNAL: &str = "TERM";

/// Recognises an init.
#[must_use]
pub fn parse_init(seen: &Observed) -> Init {
    // A program that was replaced by an upgrade still runs.
    let exe = seen.exe.strip_suffix(" (deleted)").unwrap_or(&seen.exe);
    match exe.rsplit('/').next().unwrap_or_default() {
        "systemd" => Init::Systemd,
        "openrc-init" => Init::OpenrcInit,
        "busybox" | "busybox.static" => match seen.comm.as_str() {
            // `busybox sh` is a shell.
            "init" | "linuxrc" | "busybox" => Init::Busybox,
            _ => Init::Program,
        },
        "runit" | "runit-init" => Init::Runit,
        "s6-svscan" => Init::S6,
        "dinit" => Init::Dinit,
        "init" if seen.initctl => Init::Sysvinit,
        "init" if seen.systemd => Init::Systemd,
        _ => Init::Program,
    }
}

/// What asks an init. `stop_signal` is the container's own: any but [`STOP_SIGNAL`] is used as it is.
#[must_use]
pub fn plan_end(init: Init, wanted: Wanted, stop_signal: &str) -> Verb {
    use Wanted::{PowerOff, Reboot};
    if stop_signal != STOP_SIGNAL {
        return Verb::Signal(stop_signal.to_owned());
    }
    let signal = match (init, wanted) {
        // systemd(1), SIGNALS.
        (Init::Systemd, PowerOff) => "RTMIN+4",
        (Init::Systemd, Reboot) => "RTMIN+5",
        // sysvinit has no signal for a halt: SIGPWR runs what inittab has for power failures, and that is often not there.
        (Init::Sysvinit, PowerOff) => return Verb::Runlevel('0'),
        (Init::Sysvinit, Reboot) => return Verb::Runlevel('6'),
        // openrc-init.c: SIGTERM shuts down, SIGINT reboots.
        (Init::OpenrcInit, PowerOff) => "TERM",
        (Init::OpenrcInit, Reboot) => "INT",
        // init/init.c of busybox.
        (Init::Busybox, PowerOff) => "USR2",
        (Init::Busybox, Reboot) => "TERM",
        // runit's own program leaves the marks that SIGCONT has it look for; where they lie is a matter of how it was built.
        (Init::Runit, PowerOff) => return Verb::Program(&["/sbin/init", "0"]),
        (Init::Runit, Reboot) => return Verb::Program(&["/sbin/init", "6"]),
        // What it becomes then decides between the two: its folder's `finish`.
        (Init::S6, _) => "TERM",
        // dinit(8), SIGNALS.
        (Init::Dinit, PowerOff) => "TERM",
        (Init::Dinit, Reboot) => "INT",
        (Init::Program, _) => STOP_SIGNAL,
    };
    Verb::Signal(signal.to_owned())
}

/// Bytes of a request to sysvinit (`struct init_request`, initreq.h).
const REQUEST: usize = 384;

/// Renders the request for a runlevel: magic number, command 1, the runlevel, no pause, and nothing else.
#[must_use]
pub fn render_runlevel(level: char) -> [u8; REQUEST] {
    const MAGIC: i32 = 0x0309_1969;
    const CHANGE: i32 = 1;
    let mut request = [0; REQUEST];
    for (at, value) in [(0, MAGIC), (4, CHANGE), (8, level as i32)] {
        request[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    request
}

/// Looks at a first process. Its pid must be held by a pidfd that the caller looks at again afterwards.
///
/// Nothing is resolved beyond its root, and nothing is opened but folders and what stands for a file.
///
/// # Errors
/// What the kernel says; ENOENT or ESRCH when it has ended.
pub fn probe(pid: i32) -> Result<Observed> {
    let proc = ProcFs::open()?;
    let root = proc.open_root(pid)?;
    let kind = |path: &str| match sys::fs::open_in_root(root.as_fd(), path, OFlags::PATH) {
        Ok(file) => Ok(Some(sys::fs::file_type(&sys::fs::stat(file.as_fd())?))),
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error),
    };
    Ok(Observed {
        // A thread of the kernel and a program on a file system that is gone have none.
        exe: proc.link(&format!("{pid}/exe")).unwrap_or_default(),
        comm: proc.read(&format!("{pid}/comm"))?.trim_end().to_owned(),
        initctl: kind(INITCTL)? == Some(FileType::Fifo),
        systemd: kind("run/systemd/system")? == Some(FileType::Directory),
    })
}

/// Where sysvinit listens.
const INITCTL: &str = "run/initctl";

/// Writes a request to sysvinit. Nobody who listens is waited for.
///
/// # Errors
/// What the kernel says; ENXIO when nobody reads.
pub fn write_runlevel(pid: i32, level: char) -> Result<()> {
    let root = ProcFs::open()?.open_root(pid)?;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fifo = sys::fs::open_in_root(root.as_fd(), INITCTL, flags).context("cannot reach init")?;
    // It may have become another file since it was looked at.
    if sys::fs::file_type(&sys::fs::stat(fifo.as_fd())?) != FileType::Fifo {
        anyhow::bail!("/{INITCTL} of the container is no FIFO");
    }
    sys::fs::write_all(fifo.as_fd(), &render_runlevel(level)).context("cannot ask init")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(exe: &str, comm: &str) -> Observed {
        Observed { exe: exe.to_owned(), comm: comm.to_owned(), ..Observed::default() }
    }

    #[test]
    fn inits_are_known_by_what_runs() {
        let check = |exe: &str, comm: &str, expected: Init| assert_eq!(parse_init(&seen(exe, comm)), expected, "{exe}");
        check("/usr/lib/systemd/systemd", "systemd", Init::Systemd);
        check("/usr/lib/systemd/systemd (deleted)", "systemd", Init::Systemd);
        check("/usr/sbin/openrc-init", "init", Init::OpenrcInit);
        check("/bin/busybox", "init", Init::Busybox);
        check("/bin/busybox", "sh", Init::Program);
        check("/usr/sbin/runit", "runit", Init::Runit);
        check("/usr/bin/s6-svscan", "s6-svscan", Init::S6);
        check("/usr/sbin/dinit", "dinit", Init::Dinit);
        check("/usr/sbin/init", "init", Init::Program);
        check("/dev/init", "init", Init::Program);
        check("", "", Init::Program);
    }

    #[test]
    fn sysvinit_is_known_by_its_fifo() {
        let fifo = Observed { initctl: true, ..seen("/usr/sbin/init", "init") };
        assert_eq!(parse_init(&fifo), Init::Sysvinit);
        // systemd can have the FIFO as well, for the tools of sysvinit.
        assert_eq!(parse_init(&Observed { exe: "/lib/systemd/systemd".to_owned(), ..fifo.clone() }), Init::Systemd);
        assert_eq!(parse_init(&Observed { exe: "/usr/bin/python3".to_owned(), ..fifo }), Init::Program);
    }

    #[test]
    fn each_init_is_asked_in_its_own_way() {
        let signal = |init, wanted| plan_end(init, wanted, STOP_SIGNAL);
        let is = |name: &str| Verb::Signal(name.to_owned());
        assert_eq!(signal(Init::Systemd, Wanted::PowerOff), is("RTMIN+4"));
        assert_eq!(signal(Init::Systemd, Wanted::Reboot), is("RTMIN+5"));
        assert_eq!(signal(Init::Sysvinit, Wanted::PowerOff), Verb::Runlevel('0'));
        assert_eq!(signal(Init::Busybox, Wanted::PowerOff), is("USR2"));
        assert_eq!(signal(Init::Busybox, Wanted::Reboot), is("TERM"));
        assert_eq!(signal(Init::Program, Wanted::PowerOff), is("TERM"));
        // What the definition says goes first.
        assert_eq!(plan_end(Init::Sysvinit, Wanted::PowerOff, "QUIT"), is("QUIT"));
    }

    #[test]
    fn a_runlevel_is_asked_for_as_telinit_does() {
        let request = render_runlevel('0');
        assert_eq!(request.len(), 4 * 4 + 368);
        assert_eq!(i32::from_ne_bytes(request[..4].try_into().unwrap()), 0x0309_1969);
        assert_eq!((request[4], request[8], request[12]), (1, b'0', 0));
    }
}
