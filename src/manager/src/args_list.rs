//! The command line of `ls`.

use clap::{Args, ValueEnum};

/// Examples of `ls`.
pub const EXAMPLES: &str = "\
Columns: name state ipv4 ipv6 cpu mem pids uptime template; wide has besides pid from command network restart. Others: limit
(of memory), restarts, created, links, storage, defined.
CPU is percent of one processor: since the start, or with --watch since the last time. CSV has bytes and seconds.

Examples:
  skep ls -f state=running --sort -mem
  skep ls --columns name,mem,limit -f 'name=web*'
  skep ls -o csv >containers.csv; skep ls -o json | jq '.[].ipv4'
  skep ls --watch 5";

/// `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// How it is printed.
    #[arg(long, short = 'o', alias = "output", value_name = "FORMAT", value_enum, default_value_t)]
    pub format: LsFormat,
    /// Print these columns, in this order: names with commas between.
    #[arg(long, value_name = "A,B", value_enum, value_delimiter = ',', ignore_case = true)]
    pub columns: Vec<Column>,
    /// Only those of which COLUMN is VALUE, or with != is not; * stands for anything. May be repeated.
    #[arg(long, short, value_name = "COLUMN=VALUE", value_parser = parse_filter)]
    pub filter: Vec<Filter>,
    /// Sort by this column; with - before it the greatest first.
    #[arg(long, value_name = "[-]COLUMN", value_parser = parse_sort, allow_hyphen_values = true, default_value = "name")]
    pub sort: Sort,
    /// Again and again, every 2 seconds or as often as is said; q or Control-c leaves.
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = crate::args_running::parse_delay)]
    pub watch: Option<f64>,
    /// Print names alone, as -o name.
    #[arg(long, short)]
    pub quiet: bool,
}

/// How `ls` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LsFormat {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// Lines of CSV with a header, in bytes and seconds.
    Csv,
    /// Names alone.
    Name,
}

/// A column of `ls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// The container's name.
    Name,
    /// As in the state document, or `restarting`.
    State,
    /// Its addresses.
    Ipv4,
    /// Its addresses.
    Ipv6,
    /// Percent of one processor.
    Cpu,
    /// Memory that it uses.
    #[value(alias = "memory")]
    Mem,
    /// Processes and threads.
    Pids,
    /// For how long it has run.
    Uptime,
    /// Its template.
    Template,
    /// Its first process.
    Pid,
    /// What its files are.
    From,
    /// Program and arguments.
    Command,
    /// What connects it.
    Network,
    /// What happens when it ends by itself.
    Restart,
    /// How often that happened.
    Restarts,
    /// Most memory.
    Limit,
    /// When it was defined, or made.
    Created,
    /// Its links besides.
    Links,
    /// How its files are put together.
    Storage,
    /// Whether it is defined.
    Defined,
}

impl Column {
    /// Those of the table.
    pub const USUAL: [Column; 9] = [
        Column::Name,
        Column::State,
        Column::Ipv4,
        Column::Ipv6,
        Column::Cpu,
        Column::Mem,
        Column::Pids,
        Column::Uptime,
        Column::Template,
    ];
    /// What `wide` has besides.
    pub const WIDE: [Column; 5] = [Column::Pid, Column::From, Column::Command, Column::Network, Column::Restart];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of which column.
    pub column: Column,
    /// The value, with `*` for anything.
    pub pattern: String,
    /// Whether it has to be another.
    pub not: bool,
}

fn parse_column(text: &str) -> Result<Column, String> {
    Column::from_str(text, true).map_err(|_| {
        let names: Vec<String> = Column::value_variants().iter().map(|column| column.name()).collect();
        format!("there is no column {text:?}: want {}", names.join(", "))
    })
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let wrong = || format!("{text:?}: want name=, state=, or another column, and a value");
    let (column, pattern) = text.split_once('=').ok_or_else(wrong)?;
    let (column, not) = column.strip_suffix('!').map_or((column, false), |column| (column, true));
    let column = parse_column(column).map_err(|error| format!("{}; {error}", wrong()))?;
    Ok(Filter { column, pattern: pattern.to_owned(), not })
}

impl Filter {
    /// Whether a value passes. Of a column with several, one has to be it.
    #[must_use]
    pub fn passes(&self, value: &str) -> bool {
        let fits = fits(&self.pattern, value) || value.split(',').any(|value| fits(&self.pattern, value));
        fits != self.not
    }
}

/// Whether a text is what a pattern says, in which `*` is any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(front) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let back = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(back)
}

/// What the list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub column: Column,
    /// The greatest first.
    pub down: bool,
}

fn parse_sort(text: &str) -> Result<Sort, String> {
    let (name, down) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    Ok(Sort { column: parse_column(name)?, down })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_patterns() {
        let check = |filter: &str, value: &str, expected: bool| {
            assert_eq!(parse_filter(filter).unwrap().passes(value), expected, "{filter} of {value:?}");
        };
        check("name=web1", "web1", true);
        check("name=web", "web1", false);
        check("name=web*", "web1", true);
        check("name=*b*1", "web1", true);
        check("name=*b*b1", "web1", false);
        check("name!=web*", "db", true);
        check("ipv4=10.0.0.*", "192.0.2.1,10.0.0.2", true);
        check("command=a,b", "a,b", true);
        check("template=", "", true);
        for text in ["name", "colour=red", ""] {
            parse_filter(text).unwrap_err();
        }
        assert_eq!(parse_sort("-MEM"), Ok(Sort { column: Column::Mem, down: true }));
        parse_sort("--mem").unwrap_err();
    }
}
