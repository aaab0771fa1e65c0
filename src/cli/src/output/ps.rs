//! `ps`: the host's ps(1), cut down to the processes of one container.

use std::process::Command;

use anyhow::{Context, bail};

use crate::caller::find_program;

/// What ps(1) is asked where the command line says nothing.
const DEFAULT_OPTIONS: &str = "-ef";

/// Runs ps(1) of the host and keeps the lines of these processes, below the header.
///
/// # Errors
/// There is no ps(1), it fails, or its output has no PID column.
pub fn read_processes(options: &[String], pids: &[i32]) -> anyhow::Result<String> {
    let program = find_program("ps").context("ps is not installed: no such program in PATH")?;
    let mut command = Command::new(program);
    if options.is_empty() {
        command.arg(DEFAULT_OPTIONS);
    }
    let output = command.args(options).output().context("cannot run ps")?;
    if !output.status.success() {
        bail!("ps failed with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    filter(&String::from_utf8_lossy(&output.stdout), pids)
}

/// Keeps the header and the lines whose column PID names one of `pids`.
///
/// # Errors
/// There is no such column, or it holds no number.
pub fn filter(table: &str, pids: &[i32]) -> anyhow::Result<String> {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|title| title == "PID") else {
        bail!("the output of ps has no PID column: {header:?}");
    };
    let mut out = format!("{header}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let cell = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = cell.parse().with_context(|| format!("ps printed a line without a process id: {line:?}"))?;
        if pids.contains(&pid) {
            out += line;
            out.push('\n');
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_container_stay() {
        let table = "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sleep 1\n\nroot  112    12 PID 12\n";
        assert_eq!(filter(table, &[12]).expect("a table"), "UID   PID  PPID CMD\nroot   12     1 sleep 1\n");
        assert_eq!(filter(table, &[]).expect("a table"), "UID   PID  PPID CMD\n");
    }

    #[test]
    fn a_table_without_the_column_is_refused() {
        assert!(filter("A B\n1 2\n", &[1]).is_err());
        assert!(filter("A PID\n1 x\n", &[1]).is_err());
        assert!(filter("A PID\n1\n", &[1]).is_err());
        assert!(filter("", &[1]).is_err());
    }

    #[test]
    fn the_hosts_ps_shows_this_process() {
        let pid = i32::try_from(std::process::id()).expect("a process id");
        let table = read_processes(&[], &[pid]).expect("ps");
        assert_eq!(table.lines().count(), 2, "{table}");
        let error = read_processes(&["--no-such-option".to_owned()], &[pid]).unwrap_err();
        assert!(error.to_string().starts_with("ps failed with exit status: 1"), "{error}");
    }
}
