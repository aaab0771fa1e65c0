//! From an argument vector to an exit code.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::{self, Api};
use crate::args::{Cli, Global, RunArgs, Verb};
use crate::client;
use crate::daemon::{Daemon, Input, Options, tick_watchdog};
use crate::files;
use crate::log::{print, tell};
use crate::runtime::Runtime;
use crate::store::Store;
use crate::systemd;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version are no failure.
            return match error.print() {
                Ok(()) if !error.use_stderr() => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            };
        }
    };
    match perform(cli) {
        Ok(code) => code,
        Err(error) => {
            for (depth, cause) in error.chain().enumerate() {
                tell(&format!("{}{cause}", if depth == 0 { "error: " } else { "  caused by: " }));
            }
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: Cli) -> Result<ExitCode> {
    match cli.verb {
        Verb::Check { files, services } => check(&files, &services),
        Verb::Export => {
            let mut lines = Vec::new();
            Store::open(&cli.global.state)?.export(&mut lines)?;
            print(&String::from_utf8_lossy(&lines))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Import => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            let count = Store::open(&cli.global.state)?.import(&text)?;
            print(&format!("{count} lines taken in\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Svc(verb) => executor()?.block_on(client::perform(&cli.global.socket, verb)),
        Verb::Run(args) => {
            executor()?.block_on(run(&cli.global, args))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One thread for all; what waits for a disk has others.
fn executor() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(4).build().context("cannot set up timers and sockets")
}

fn check(paths: &[PathBuf], folder: &Path) -> Result<ExitCode> {
    let read = match paths {
        [] => files::read_all(folder),
        paths => paths.iter().map(|path| (path.clone(), files::read(path))).collect(),
    };
    let mut code = ExitCode::SUCCESS;
    for (path, read) in read {
        for finding in read.err().unwrap_or_default() {
            print(&format!("{}: {finding}\n", path.display()))?;
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn run(global: &Global, args: RunArgs) -> Result<()> {
    sys::process::set_umask(0o077);
    let store = Store::open(&global.state)?;
    let mut options = Vec::new();
    for (option, value) in [("--root", &global.root), ("--data", &global.data)] {
        options.extend(value.iter().flat_map(|value| [option.to_owned(), value.clone()]));
    }
    let runtime = Runtime::new(find_runtime(args.runtime)?, options, global.state.join("logs"));
    let (inputs, waiting) = mpsc::unbounded_channel();
    let options = Options { services: args.services, on_exit: args.on_exit };
    let mut daemon = Daemon::new(store, runtime, options, inputs.clone())?;
    for (kind, input) in [
        (SignalKind::terminate(), (|| Input::End) as fn() -> Input),
        (SignalKind::interrupt(), || Input::End),
        (SignalKind::hangup(), || Input::Reload),
    ] {
        let mut signal = signal(kind).context("cannot wait for signals")?;
        let inputs = inputs.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                drop(inputs.send(input()));
            }
        });
    }
    daemon.adopt().await?;
    // After what runs is known: nobody is told of services that seem to be down.
    let listener = listen(&global.socket)?;
    tokio::spawn(api::serve(listener, Api { inputs: inputs.clone(), writer: daemon.writer() }));
    if let Some(every) = systemd::watchdog() {
        tokio::spawn(tick_watchdog(inputs, every));
    }
    systemd::notify("READY=1");
    daemon.run(waiting).await;
    systemd::notify("STOPPING=1");
    match fs::remove_file(&global.socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot remove the socket"),
        _ => Ok(()),
    }
}

/// The socket, for root and the own user alone. One that is left of a run before is replaced.
fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another program answers at {}", path.display());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).with_context(|| format!("cannot close {} to others", path.display()))?;
    Ok(listener)
}

fn find_runtime(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path);
    }
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = own.parent().map(|folder| folder.join("skep"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join("skep")));
    let found = places.into_iter().find(|place| place.is_file());
    found.context("skep was not found beside this program nor in PATH: name it with --runtime")
}
