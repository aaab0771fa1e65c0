//! The command line of what changes a definition.

use clap::{Args, Subcommand};

use crate::args::Printed;

/// Examples of `config`.
pub const CONFIG_EXAMPLES: &str = "\
Examples:
  skep config get web1
  skep config set web1 memory=512M cpus=1.5 env.COLOUR=blue
  skep config set web1 'command=[\"/bin/httpd\", \"-f\"]'
  skep config unset web1 memory";

/// `config`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum ConfigVerb {
    /// Print one value, or all.
    Get {
        /// The container.
        name: String,
        /// Which one.
        key: Option<String>,
        /// How it is printed.
        #[command(flatten)]
        printed: Printed,
    },
    /// Set values. Limits hold at once, most others from the next start.
    Set {
        /// The container.
        name: String,
        /// What they are to be.
        #[arg(required = true, value_name = "KEY=VALUE")]
        entries: Vec<String>,
    },
    /// Take values away.
    Unset {
        /// The container.
        name: String,
        /// Which ones.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// Examples of `checkconfig`.
pub const CHECKCONFIG_EXAMPLES: &str = "\
Examples:
  skep checkconfig                all that are defined
  skep checkconfig web1
  skep checkconfig ./web1.toml -o json";

/// `checkconfig`.
#[derive(Debug, Args)]
pub struct CheckconfigArgs {
    /// Containers, or documents by a path with a slash or with .toml at its end; all containers without one.
    #[arg(value_name = "NAME|FILE")]
    pub what: Vec<String>,
    /// How it is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// `edit`.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// The container.
    pub name: String,
}
