//! The command line, for both names: `skepd` and `skep svc`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::daemon::OnExit;

/// Keeps services running on this machine.
#[derive(Debug, Parser)]
#[command(name = "skepd", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Options for all commands.
    #[command(flatten)]
    pub global: Global,
    /// What is wanted.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "Examples:
  skepd run
  skepd check /etc/skep/services/*.toml
  skep svc apply web.toml
  skep svc status web";

/// Options for all commands.
#[derive(Debug, Args)]
pub struct Global {
    /// Where skepd is asked
    #[arg(long, global = true, env = "SKEPD_SOCKET", default_value = "/run/skep/skepd.sock", value_name = "PATH")]
    pub socket: PathBuf,
    /// Where skepd keeps what it knows
    #[arg(long, global = true, env = "SKEPD_STATE", default_value = "/var/lib/skep/services", value_name = "DIR")]
    pub state: PathBuf,
    /// Keep the state of running containers below DIR
    #[arg(long, global = true, env = "SKEPD_ROOT", value_name = "DIR")]
    pub root: Option<String>,
    /// Keep definitions of containers below DIR
    #[arg(long, global = true, env = "SKEP_DATA", value_name = "DIR")]
    pub data: Option<String>,
}

/// What is wanted of this program.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Keep services running, until a signal ends it
    Run(RunArgs),
    /// Say what is wrong with definitions of services
    Check {
        /// The files; without any, those of the folder of definitions
        files: Vec<PathBuf>,
        /// Folder of definitions
        #[arg(long, env = "SKEPD_SERVICES", default_value = "/etc/skep/services", value_name = "DIR")]
        services: PathBuf,
    },
    /// Print all that is kept, as lines of JSON; skepd must not run
    Export,
    /// Take in what export has printed, from standard input; skepd must not run
    Import,
    /// Ask the skepd that runs
    #[command(subcommand)]
    Svc(Svc),
}

/// How skepd runs.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Folder of definitions: one file for each service
    #[arg(long, env = "SKEPD_SERVICES", default_value = "/etc/skep/services", value_name = "DIR")]
    pub services: PathBuf,
    /// What becomes of containers when skepd ends
    #[arg(long, value_enum, default_value_t = OnExit::Leave)]
    pub on_exit: OnExit,
    /// The runtime; without it the skep beside this program or in PATH
    #[arg(long, env = "SKEP_PROGRAM", value_name = "PATH")]
    pub runtime: Option<PathBuf>,
}

/// Which services, and how the answer is printed.
#[derive(Debug, Args)]
pub struct Which {
    /// Names or patterns with `*` and `?`
    #[arg(required_unless_present = "label", value_name = "NAME")]
    pub names: Vec<String>,
    /// Only those with this label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Option<String>,
}

/// Verbs of `skep svc`.
#[derive(Debug, Subcommand)]
pub enum Svc {
    /// List services
    #[command(after_help = "Examples:\n  skep svc ls\n  skep svc ls 'web*' -o json\n  skep svc ls -l tier=front")]
    Ls {
        /// Names or patterns; all without any
        names: Vec<String>,
        /// Only those with this label
        #[arg(short, long, value_name = "KEY=VALUE")]
        label: Option<String>,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Show services with their replicas; the exit code is 1 where one is not what it shall be
    #[command(after_help = "Examples:\n  skep svc status web\n  skep svc status '*' -o json")]
    Status {
        /// Which
        #[command(flatten)]
        which: Which,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Define services, or change them
    #[command(after_help = "Examples:\n  skep svc apply web.toml db.toml")]
    Apply {
        /// Files with one definition each
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Forget stopped services; their containers stay defined, see unprovision
    Rm(Which),
    /// Have replicas run
    Start(Which),
    /// Have none run
    Stop(Which),
    /// Have replicas begin anew, some at a time
    Restart(Which),
    /// Let services be as they are: what ends stays down
    Freeze(Which),
    /// Lead services to their target again
    Thaw(Which),
    /// Let replicas that have failed start again
    Clear(Which),
    /// Let a rolling restart go no further
    Abort(Which),
    /// Define the containers of services without a start
    Provision(Which),
    /// Remove the containers of stopped services with what they changed
    Unprovision(Which),
    /// Have so many replicas
    #[command(after_help = "Examples:\n  skep svc scale web 5")]
    Scale {
        /// The service
        name: String,
        /// How many
        replicas: u32,
    },
    /// Say why services are not what they shall be
    Why(Which),
    /// Follow what happens, as lines of JSON
    Events {
        /// Begin after this revision
        #[arg(long)]
        after: Option<u64>,
    },
    /// Print who did what, when and why, as lines of JSON
    Audit {
        /// Begin after this revision
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Read definitions in files again
    Reload,
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}
