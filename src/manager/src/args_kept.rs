//! The command line of what is kept: snapshots, copies, templates.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::Printed;
use crate::output::Format;
use crate::validate::WAIT_MAX;

/// Examples of `snapshot`.
pub const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  skep snapshot web1 before-upgrade --comment 'as of Monday'
  skep snapshot web1 --list
  skep stop web1; skep restore web1 before-upgrade; skep start web1";

/// Examples of `template`.
pub const TEMPLATE_EXAMPLES: &str = "\
Examples:
  skep template build /srv/templates/php --version 8.3
  skep create web1 --from template:php --start
  skep template switch php 8.2; skep refresh web1
  skep template gc --keep 2";

/// `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// The container.
    pub name: String,
    /// The snapshot's name; snap0, snap1 and so on without it.
    #[arg(conflicts_with_all = ["list", "remove"])]
    pub snapshot: Option<String>,
    /// A note.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["list", "remove"])]
    pub comment: Option<String>,
    /// List its snapshots.
    #[arg(long, short, conflicts_with = "remove")]
    pub list: bool,
    /// Remove this snapshot.
    #[arg(long, value_name = "SNAP")]
    pub remove: Option<String>,
    /// How the list is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The container.
    pub name: String,
    /// The snapshot.
    pub snapshot: String,
}

/// `copy` and `rename`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The container that there is.
    #[arg(value_name = "NAME")]
    pub from: String,
    /// The new name.
    #[arg(value_name = "NEW")]
    pub to: String,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The container.
    pub name: String,
    /// Also what is kept in snapshots: all that differs from what it was made from.
    #[arg(long, short)]
    pub all: bool,
    /// How the list is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The container.
    pub name: String,
    /// Where the archive is written; `-` is standard output.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `refresh`.
#[derive(Debug, Args)]
pub struct RefreshArgs {
    /// The containers.
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All that run.
    #[arg(long)]
    pub all: bool,
    /// Change nothing; list what would be restarted, and changed files that hide newer ones.
    #[arg(long)]
    pub dry_run: bool,
    /// Seconds until what does not end is killed.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=WAIT_MAX))]
    pub time: u64,
    /// How the list is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// `gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Change nothing; list what would be removed.
    #[arg(long)]
    pub dry_run: bool,
    /// Of each template keep this many of the newest versions that nothing uses.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub keep: usize,
    /// How the list is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// `template`.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    /// What is wanted.
    #[command(subcommand)]
    pub verb: TemplateVerb,
}

/// What is wanted of templates.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum TemplateVerb {
    /// Build a version from a folder with a template.toml.
    Build(BuildArgs),
    /// List templates and their versions.
    #[command(alias = "ls")]
    List(Printed),
    /// Show one version, the current one by default.
    Show(ShowArgs),
    /// Make a version the one that containers take at their next start.
    Switch(SwitchArgs),
    /// Remove versions that are not current and that no running container uses.
    Gc(GcArgs),
    /// Remove a template, or one version of it.
    #[command(alias = "rm")]
    Remove(RemoveArgs),
}

/// `template build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The folder with template.toml, and the folders scripts and hooks beside it.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Name of the version; one more than the greatest number without it.
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Leave the current version the current one.
    #[arg(long)]
    pub no_switch: bool,
}

/// `template show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The template.
    pub name: String,
    /// The version.
    pub version: Option<String>,
    /// How it is printed.
    #[arg(long, short = 'o', alias = "output", value_name = "FORMAT", value_enum, default_value = "yaml")]
    pub format: Format,
}

/// `template switch`.
#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// The template.
    pub name: String,
    /// The version.
    #[arg(value_name = "VERSION")]
    pub to: String,
}

/// `template remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The template.
    pub name: String,
    /// The version; without it all of them.
    pub version: Option<String>,
}
