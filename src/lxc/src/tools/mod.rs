//! The tools, each with the options that it has.

mod attach;
mod autostart;
mod cgroup;
mod config;
mod console;
mod copy;
mod create;
mod info;
mod list;
mod namespaces;
mod processes;
mod run;
mod snapshot;
mod top;
mod wait;

use std::path::PathBuf;

use anyhow::{Context, Result};
use runtime_spec::state::State;

use crate::options::{Call, Opt, opt};
use crate::places::config_path;
use crate::skep::Skep;

/// One tool.
#[derive(Debug)]
pub struct Tool {
    /// Its name behind `lxc-`.
    pub name: &'static str,
    /// What follows its name on a command line.
    pub form: &'static str,
    /// Whether it is for one container, which its first operand names where no option does.
    pub takes_name: bool,
    /// Its options besides those of all tools.
    pub options: &'static [Opt],
    /// Does it; the result is the exit code.
    pub run: fn(&Skep, &Call) -> Result<u8>,
}

impl Tool {
    /// Whether a program's name is this tool's.
    #[must_use]
    pub fn is_called(&self, program: &str) -> bool {
        program.strip_prefix("lxc-") == Some(self.name)
    }
}

const NAME: Opt = opt(Some('n'), "name", Some("NAME"), "the container");

/// All of them, by name.
pub static TOOLS: [Tool; 26] = [
    Tool {
        name: "attach",
        form: "--name=NAME [-- COMMAND]",
        takes_name: true,
        options: &[
            NAME,
            opt(None, "clear-env", None, "begin with the container's own variables alone"),
            opt(None, "keep-env", None, "keep the caller's variables, as is done without it"),
            opt(None, "keep-var", Some("NAME"), "with --clear-env: keep this one; may be repeated"),
            opt(Some('v'), "set-var", Some("KEY=VALUE"), "set a variable; may be repeated"),
            opt(Some('u'), "uid", Some("UID"), "run as this user"),
            opt(Some('g'), "gid", Some("GID"), "run as this group"),
        ],
        run: attach::attach,
    },
    Tool {
        name: "autostart",
        form: "[OPTIONS]",
        takes_name: false,
        options: &[
            opt(Some('k'), "kill", None, "kill the containers"),
            opt(Some('L'), "list", None, "list them with their delays"),
            opt(Some('r'), "reboot", None, "restart them"),
            opt(Some('s'), "shutdown", None, "stop them"),
            opt(Some('a'), "all", None, "those of all groups"),
            opt(Some('A'), "ignore-auto", None, "those too that do not start with the host"),
            opt(
                Some('g'),
                "groups",
                Some("GROUPS"),
                "those of these groups, with commas between; an empty one has those of none",
            ),
            opt(Some('t'), "timeout", Some("SECONDS"), "seconds until one is killed"),
        ],
        run: autostart::autostart,
    },
    Tool { name: "cgroup", form: "--name=NAME FILE [VALUE]", takes_name: true, options: &[NAME], run: cgroup::cgroup },
    Tool {
        name: "config",
        form: "-l | ITEM",
        takes_name: false,
        options: &[opt(Some('l'), "list", None, "list the items")],
        run: config::config,
    },
    Tool {
        name: "clone",
        form: "[-s] [OPTIONS] ORIGINAL NEW",
        takes_name: false,
        options: &[
            opt(Some('o'), "orig", Some("NAME"), "the original"),
            opt(Some('n'), "new", Some("NAME"), "the new container"),
            opt(Some('s'), "snapshot", None, "a layer above the files of the original"),
            opt(Some('B'), "backingstorage", Some("STORE"), "where it lies: dir, overlay"),
            opt(Some('K'), "keepname", None, "keep the host name"),
            opt(Some('M'), "keepmac", None, "keep hardware addresses"),
            opt(Some('L'), "fssize", Some("SIZE"), "accepted: a folder has none"),
            opt(Some('H'), "copyhooks", None, "copy hooks that lie in its folder, as is done without it"),
            opt(Some('p'), "lxcpath", Some("PATH"), "containers are below PATH"),
            opt(Some('P'), "newpath", Some("PATH"), "the new one is below PATH"),
        ],
        run: copy::clone,
    },
    Tool {
        name: "console",
        form: "--name=NAME [--tty NUMBER]",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('t'), "tty", Some("NUMBER"), "0: the console"),
            opt(Some('e'), "escape", Some("PREFIX"), "the key that with Control begins a command: then q leaves"),
        ],
        run: console::console,
    },
    Tool {
        name: "copy",
        form: "--name=NAME -N NEWNAME [-s|-R|-e] [OPTIONS] [-- HOOKS' OPTIONS]",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('N'), "newname", Some("NEWNAME"), "the new container"),
            opt(Some('p'), "newpath", Some("PATH"), "the new one is below PATH"),
            opt(Some('R'), "rename", None, "only give it another name"),
            opt(Some('s'), "snapshot", None, "a layer above the files of the original"),
            opt(Some('a'), "allowrunning", None, "with -s: of one that runs, too"),
            opt(Some('F'), "foreground", None, "with -e: wait for its end"),
            opt(Some('d'), "daemon", None, "with -e: in the background, as is done without it"),
            opt(Some('e'), "ephemeral", None, "start it, and remove it when it ends"),
            opt(Some('m'), "mount", Some("bind=/SOURCE[:/DESTINATION]"), "with -e: show this inside; may be repeated"),
            opt(Some('B'), "backingstorage", Some("STORE"), "where it lies: dir, overlay"),
            opt(Some('t'), "tmpfs", None, "with -e: what it changes is in memory"),
            opt(Some('L'), "fssize", Some("SIZE"), "accepted: a folder has none"),
            opt(Some('D'), "keepdata", None, "with -e: keep it when it ends"),
            opt(Some('K'), "keepname", None, "keep the host name"),
            opt(Some('M'), "keepmac", None, "keep hardware addresses"),
        ],
        run: copy::copy,
    },
    Tool {
        name: "create",
        form: "--name=NAME --template=TEMPLATE [OPTIONS] [-- TEMPLATE'S OPTIONS]",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('f'), "config", Some("FILE"), "begin with this configuration"),
            opt(Some('t'), "template", Some("TEMPLATE"), "the program that fills the root file system"),
            opt(Some('B'), "bdev", Some("STORE"), "where it lies: dir"),
            opt(None, "dir", Some("DIR"), "the folder of the root file system"),
        ],
        run: create::create,
    },
    Tool {
        name: "destroy",
        form: "--name=NAME [-f]",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('f'), "force", None, "stop it first"),
            opt(Some('s'), "snapshots", None, "its snapshots too"),
        ],
        run: create::destroy,
    },
    Tool {
        name: "device",
        form: "--name=NAME -- add|del DEV [NAME]",
        takes_name: true,
        options: &[NAME],
        run: console::device,
    },
    Tool {
        name: "execute",
        form: "--name=NAME -- COMMAND",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('d'), "daemon", None, "in the background"),
            opt(Some('f'), "rcfile", Some("FILE"), "read the configuration from FILE"),
            opt(Some('s'), "define", Some("KEY=VALUE"), "set a key of the configuration; may be repeated"),
            opt(Some('u'), "uid", Some("UID"), "run as this user"),
            opt(Some('g'), "gid", Some("GID"), "run as this group"),
        ],
        run: console::execute,
    },
    Tool { name: "freeze", form: "--name=NAME", takes_name: true, options: &[NAME], run: run::freeze },
    Tool {
        name: "info",
        form: "--name=NAME",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('c'), "config", Some("KEY"), "a key of its configuration; may be repeated"),
            opt(Some('i'), "ips", None, "its addresses"),
            opt(Some('p'), "pid", None, "its first process"),
            opt(Some('S'), "stats", None, "what it uses"),
            opt(Some('H'), "no-humanize", None, "plain numbers"),
            opt(Some('s'), "state", None, "its state"),
        ],
        run: info::info,
    },
    Tool {
        name: "ls",
        form: "[-1|-f] [OPTIONS]",
        takes_name: false,
        options: &[
            opt(Some('1'), "line", None, "one name a line"),
            opt(Some('f'), "fancy", None, "a table"),
            opt(
                Some('F'),
                "fancy-format",
                Some("COLUMNS"),
                "its columns, with commas between: NAME, STATE, PID, RAM, SWAP, AUTOSTART, GROUPS, INTERFACE, IPV4, IPV6, UNPRIVILEGED",
            ),
            opt(None, "active", None, "those that are not stopped"),
            opt(None, "running", None, "those that run"),
            opt(None, "frozen", None, "those that are frozen"),
            opt(None, "stopped", None, "those that are stopped"),
            opt(None, "defined", None, "those that are defined"),
            opt(None, "filter", Some("REGEX"), "those whose names fit"),
            opt(Some('g'), "groups", Some("GROUPS"), "those that are in all of these groups, with commas between"),
        ],
        run: list::list,
    },
    Tool {
        name: "monitor",
        form: "[--name=REGEX]",
        takes_name: false,
        options: &[NAME, opt(Some('Q'), "quit", None, "accepted: no process stays behind")],
        run: wait::monitor,
    },
    Tool {
        name: "ps",
        form: "[--name=NAME[,NAME]|--lxc] [-- OPTIONS OF ps]",
        takes_name: false,
        options: &[
            opt(Some('n'), "name", Some("NAMES"), "processes of these containers, with commas between"),
            opt(None, "lxc", None, "processes of all containers"),
            opt(None, "host", None, "all processes, as without it"),
        ],
        run: processes::ps,
    },
    Tool { name: "reap", form: "--name=NAME", takes_name: true, options: &[NAME], run: copy::reap },
    Tool {
        name: "snapshot",
        form: "--name=NAME [-L [-C]] [-c FILE] [-r SNAPSHOT [-N NEWNAME]] [-d SNAPSHOT]",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('L'), "list", None, "list them"),
            opt(Some('r'), "restore", Some("SNAPSHOT"), "take the container back to it, or make one of it with -N"),
            opt(Some('N'), "newname", Some("NEWNAME"), "the container that is made of it"),
            opt(Some('d'), "destroy", Some("SNAPSHOT"), "remove it; ALL removes all of them"),
            opt(Some('c'), "comment", Some("FILE"), "keep FILE as its comment"),
            opt(Some('C'), "showcomments", None, "with -L: show comments"),
        ],
        run: snapshot::snapshot,
    },
    Tool {
        name: "start",
        form: "--name=NAME [-- COMMAND]",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('d'), "daemon", None, "in the background, as is done without it"),
            opt(Some('f'), "rcfile", Some("FILE"), "read the configuration from FILE"),
            opt(Some('p'), "pidfile", Some("FILE"), "write the number of its first process there"),
            opt(Some('s'), "define", Some("KEY=VALUE"), "set a key of the configuration; may be repeated"),
            opt(Some('C'), "close-all-fds", None, "accepted: it inherits no files"),
        ],
        run: run::start,
    },
    Tool {
        name: "stop",
        form: "--name=NAME",
        takes_name: true,
        options: &[
            NAME,
            opt(Some('r'), "reboot", None, "start it again"),
            opt(Some('W'), "nowait", None, "do not wait for its end"),
            opt(Some('t'), "timeout", Some("SECONDS"), "seconds until it is killed"),
            opt(Some('k'), "kill", None, "kill it"),
            opt(None, "nolock", None, "accepted"),
            opt(None, "nokill", None, "do not kill it"),
        ],
        run: run::stop,
    },
    Tool {
        name: "top",
        form: "[OPTIONS]",
        takes_name: false,
        options: &[
            opt(Some('d'), "delay", Some("SECONDS"), "seconds between two looks"),
            opt(Some('b'), "batch", None, "lines for a file"),
            opt(
                Some('s'),
                "sort",
                Some("KEY"),
                "n name, c processor, b block I/O, m memory, s with swap, k of the kernel",
            ),
            opt(Some('r'), "reverse", None, "the other way round"),
        ],
        run: top::top,
    },
    Tool { name: "unfreeze", form: "--name=NAME", takes_name: true, options: &[NAME], run: run::unfreeze },
    Tool {
        name: "unshare",
        form: "-s NAMESPACES COMMAND",
        takes_name: false,
        options: &[
            opt(
                Some('s'),
                "namespaces",
                Some("KINDS"),
                "MOUNT, PID, UTSNAME, IPC, USER, NETWORK, CGROUP, TIME, with | between",
            ),
            opt(Some('u'), "user", Some("UID"), "with USER: the id inside"),
            opt(Some('H'), "hostname", Some("NAME"), "the host name inside"),
            opt(Some('i'), "ifname", Some("LINK"), "move this link in; may be repeated"),
            opt(Some('d'), "daemon", None, "do not wait for its end"),
            opt(Some('M'), "remount", None, "mount /proc, /dev/shm and /dev/mqueue anew"),
        ],
        run: namespaces::unshare,
    },
    Tool {
        name: "usernsexec",
        form: "[-m MAP] [-s] [-- COMMAND]",
        takes_name: false,
        options: &[
            opt(Some('m'), "map", Some("[u|g|b]:INSIDE:OUTSIDE:COUNT"), "map these ids; may be repeated"),
            opt(Some('s'), "self", None, "map the caller's own ids behind them"),
            opt(Some('h'), "help", None, "print this"),
        ],
        run: namespaces::usernsexec,
    },
    Tool {
        name: "wait",
        form: "--name=NAME --state=STATE[|STATE]",
        takes_name: true,
        options: &[
            NAME,
            opt(
                Some('s'),
                "state",
                Some("STATES"),
                "STOPPED, STARTING, RUNNING, STOPPING, ABORTING, FREEZING, FROZEN, THAWED, with | between",
            ),
            opt(Some('t'), "timeout", Some("SECONDS"), "most seconds to wait"),
        ],
        run: wait::wait,
    },
    Tool { name: "checkconfig", form: "", takes_name: false, options: &[], run: config::check },
];

/// A container as a call names it.
#[derive(Debug)]
struct Target {
    /// Its configuration.
    config: PathBuf,
    /// Whether `skep` has a definition of it.
    defined: bool,
    /// Its state, if it has one.
    state: Option<State>,
}

impl Target {
    /// Whether it has processes.
    fn is_alive(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.status.is_alive())
    }

    /// Whether there is such a container at all.
    fn exists(&self) -> bool {
        self.defined || self.config.is_file()
    }
}

/// Looks at the container that a call names. A container of `skep` that has the name and comes from elsewhere is another
/// one.
fn find(skep: &Skep, call: &Call) -> Result<Target> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let config = config_path(&lxcpath, &call.name);
    let from = skep.defined()?.into_iter().find(|(name, _)| *name == call.name).and_then(|(_, from)| from);
    // One that was started from a file of its own has no folder.
    let defined = from.is_some_and(|from| from == config || !config.exists());
    let state = if defined { skep.state(&call.name)? } else { None };
    Ok(Target { config, defined, state })
}
