//! The command line of what is done with containers while they run.

use clap::Args;

use crate::args::Printed;
use crate::definition::{Autostart, Ready, parse_ready};
use crate::validate::WAIT_MAX;

/// Examples of `wait`.
pub const WAIT_EXAMPLES: &str = "\
Examples:
  skep wait web1                  until it has stopped; prints how it ended
  skep wait web1 running --time 5";

/// `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The containers.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Show what it writes until it ends, and exit with its code.
    #[arg(long, short = 'F')]
    pub foreground: bool,
    /// Let it read this command's standard input; with --foreground, and not one with a terminal of its own.
    #[arg(long, short, requires = "foreground")]
    pub interactive: bool,
}

/// `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The container.
    pub name: String,
    /// The state: stopped, running, paused, restarting or ready.
    #[arg(value_enum, ignore_case = true, default_value_t)]
    pub state: Awaited,
    /// Seconds to wait; for ever without it.
    #[arg(long, short, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=WAIT_MAX))]
    pub time: Option<u64>,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Awaited {
    /// It has no process, and nobody is going to start it again by itself.
    #[default]
    Stopped,
    /// It has one.
    Running,
    /// All that it has stands still, by `freeze` or an engine.
    #[value(alias = "frozen")]
    Paused,
    /// It has ended, and its monitor is about to start it again.
    Restarting,
    /// It runs, and shows that it is ready (`autostart.ready`); of a system with systemd, that no job is left.
    Ready,
}

impl Awaited {
    /// The word on the command line.
    #[must_use]
    pub fn render(self) -> &'static str {
        match self {
            Awaited::Stopped => "stopped",
            Awaited::Running => "running",
            Awaited::Paused => "paused",
            Awaited::Restarting => "restarting",
            Awaited::Ready => "ready",
        }
    }
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The container.
    pub name: String,
    /// Only the last lines.
    #[arg(long, short = 'n', value_name = "LINES")]
    pub lines: Option<usize>,
    /// Go on with what it writes until it ends.
    #[arg(long, short)]
    pub follow: bool,
}

/// `console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// The container.
    pub name: String,
    /// Another terminal than the console: 1 is the first one of `create --ttys`.
    #[arg(long, short, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=i64::from(runtime_spec::ttys::MAX)))]
    pub tty: Option<u16>,
    /// The key that, with Control, begins a command: then q leaves, and the key itself sends it.
    #[arg(long, short, value_name = "KEY", default_value = "a", value_parser = parse_escape)]
    pub escape: char,
}

/// Examples of `attach`.
pub const ATTACH_EXAMPLES: &str = "\
Examples:
  skep attach web1                a shell
  skep attach web1 -- ps ax";

/// `attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// The container.
    pub name: String,
    /// Program and arguments; a shell without them.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    /// Run as USER[:GROUP], numbers; root without it.
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Set a variable; may be repeated.
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Begin in this folder.
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
}

/// `info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The containers.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// How it is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// What a monitor tells.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The container.
    pub name: String,
    /// The run.
    pub run: String,
}

fn parse_escape(text: &str) -> Result<char, String> {
    match text.trim_start_matches('^').to_ascii_lowercase().chars().collect::<Vec<_>>()[..] {
        [key] if key.is_ascii_lowercase() => Ok(key),
        _ => Err(format!("{text:?}: want a letter")),
    }
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The container.
    pub name: String,
    /// How many lines of the log are shown.
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 10)]
    pub lines: usize,
    /// How it is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// Examples of `top`.
pub const TOP_EXAMPLES: &str = "\
Keys: q leaves; c, m, p and n sort by processor, memory, tasks and name.

Examples:
  skep top --sort memory
  skep top --batch --number 1
  skep top --json --number 2 --delay 1 | tail -n 1";

/// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks.
    #[arg(long, short, value_name = "SECONDS", default_value = "3", value_parser = parse_delay)]
    pub delay: f64,
    /// What the first line has most of.
    #[arg(long, short, value_name = "WHAT", value_enum, default_value_t)]
    pub sort: SortBy,
    /// Write plain text, one table below the other.
    #[arg(long, short)]
    pub batch: bool,
    /// Write one JSON document a line for each look, in place of tables.
    #[arg(long)]
    pub json: bool,
    /// Stop after so many tables.
    #[arg(long, short, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub number: Option<u64>,
}

/// What `top` sorts by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SortBy {
    /// Names.
    Name,
    /// Processor time since the last look.
    #[default]
    Cpu,
    /// Memory.
    Memory,
    /// Processes and threads.
    Pids,
}

pub(crate) fn parse_delay(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?}: want seconds, from 0.1 to 86400")),
    }
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also what is as it should be.
    #[arg(long, short)]
    pub all: bool,
    /// How it is printed.
    #[command(flatten)]
    pub printed: Printed,
}

/// Examples of `autostart`.
pub const AUTOSTART_EXAMPLES: &str = "\
Examples:
  skep create db --from postgres --autostart --ready tcp:5432
  skep create web --from app --autostart --after db --group front
  skep autostart --list
  skep autostart --group front
  skep autostart --stop --time 30";

/// What `create` says of it.
#[derive(Debug, Args)]
pub struct AutostartOptions {
    /// Let it begin with the machine.
    #[arg(long)]
    pub autostart: bool,
    /// Those of a lower order come first; 0 without it.
    #[arg(long, value_name = "NUMBER", requires = "autostart", allow_negative_numbers = true)]
    pub order: Option<i32>,
    /// Not before this container is ready; may be repeated.
    #[arg(long, value_name = "NAME", requires = "autostart")]
    pub after: Vec<String>,
    /// A group that can be started alone; may be repeated.
    #[arg(long, value_name = "GROUP", requires = "autostart")]
    pub group: Vec<String>,
    /// When it is ready: something listens on a port inside, or a command succeeds there.
    #[arg(long, value_name = "tcp:PORT|exec:COMMAND", requires = "autostart", value_parser = parse_ready)]
    pub ready: Option<Ready>,
    /// Seconds until it has to be ready.
    #[arg(long, value_name = "SECONDS", requires = "ready", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=WAIT_MAX))]
    pub ready_timeout: u64,
}

impl AutostartOptions {
    /// For the definition.
    #[must_use]
    pub fn autostart(&self) -> Option<Autostart> {
        self.autostart.then(|| Autostart {
            order: self.order.unwrap_or(0),
            after: self.after.clone(),
            groups: self.group.clone(),
            ready: self.ready.clone(),
            timeout: self.ready_timeout,
        })
    }
}

/// `autostart`.
#[derive(Debug, Args)]
pub struct AutostartArgs {
    /// Only those of this group; may be repeated.
    #[arg(long, short, value_name = "GROUP")]
    pub group: Vec<String>,
    /// Stop them, the last ones first.
    #[arg(long, conflicts_with = "list")]
    pub stop: bool,
    /// Only say what would be started, and in which waves.
    #[arg(long)]
    pub list: bool,
    /// With --stop: seconds until each is killed.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=WAIT_MAX))]
    pub time: u64,
    /// How the list is printed.
    #[command(flatten)]
    pub printed: Printed,
}
