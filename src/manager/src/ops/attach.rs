//! `attach NAME [-- CMD]`: a program in a container that runs, with the caller's terminal.

use std::io::IsTerminal;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args_running::AttachArgs;
use crate::base;
use crate::bundle;
use crate::definition::Definition;
use crate::places::UPPER;
use crate::run::Manager;
use crate::runs::Run;

/// What a shell is found by inside, without a word of the caller's.
const SHELL: [&str; 3] = ["/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash; else exec /bin/sh; fi"];

/// Goes on as the runtime's `exec`, so that signals, terminal and exit code are the program's own. Returns only when that
/// fails.
///
/// # Errors
/// The container does not run; there is no such user; the runtime cannot be executed.
pub fn attach(manager: &Manager, args: &AttachArgs) -> Result<()> {
    let name = &args.name;
    let definition = Definition::need(&manager.places, name)?;
    // A run that has just ended is told by the runtime.
    if Run::read(&manager.places, name)?.is_none_or(|run| run.again_at.is_some()) {
        bail!("container {name:?} does not run");
    }
    let folder = manager.places.container(name);
    let mut layers = vec![folder.join(UPPER)];
    layers.extend(bundle::read_lower(&folder)?.unwrap_or_default());
    let user = base::find_user(&layers, args.user.as_deref().or(Some("0")))?;
    let (program, options) = (&manager.runtime.program, &manager.runtime.options);
    // Executed from a protected file at once, it need not do so itself: a seventh of the time of an attach. Where that cannot
    // be had, it sees to it.
    let protected = program.to_str().and_then(|program| sys::mount::clone_read_only(program).ok());
    let mut command = match &protected {
        Some(file) => Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())),
        None => Command::new(program),
    };
    command.arg0(program).args(options).args(["exec", "--user", &format!("{}:{}", user.uid, user.gid)]);
    for group in &user.groups {
        command.args(["--additional-gids", &group.to_string()]);
    }
    if let Some(home) = &user.home {
        command.args(["--env", &format!("HOME={home}")]);
    }
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        command.arg("--tty");
        if let Ok(terminal) = std::env::var("TERM") {
            command.args(["--env", &format!("TERM={terminal}")]);
        }
    }
    for variable in &args.env {
        command.args(["--env", variable]);
    }
    if let Some(folder) = &args.workdir {
        command.args(["--cwd", folder]);
    }
    command.arg(&definition.name);
    match &args.command[..] {
        [] => command.args(SHELL),
        given => command.args(given),
    };
    Err(command.exec()).with_context(|| format!("cannot execute {}", program.display()))
}
