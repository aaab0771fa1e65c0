//! Tables of cases: what is run, how it is counted, how it is reported.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cell::Cell;
use super::command::{Cli, Done, until};
use super::expectations::{self, Expectation};
use super::pty::Terminal;

/// The name of the case that [`report_left`] reports.
const LEFT: &str = "nothing_left_behind";

/// One case of a client.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, unique in the table. Containers of the case are named after it.
    pub name: &'static str,
    /// Whether it runs alone, because it counts or measures.
    pub alone: bool,
    /// What it does.
    pub run: fn(&Test<'_>) -> Result<()>,
}

/// Names a case after its function: `cases![stop, kill]`, and `cases![alone: fifty]` for those that run alone.
#[macro_export]
macro_rules! cases {
    (alone: $($name:ident),* $(,)?) => { [$($crate::client::Case { name: stringify!($name), alone: true, run: $name }),*] };
    ($($name:ident),* $(,)?) => { [$($crate::client::Case { name: stringify!($name), alone: false, run: $name }),*] };
}

/// What a case works with.
#[derive(Debug)]
pub struct Test<'a> {
    /// The client's command line.
    pub cli: &'a Cli,
    /// The name of the case, which `{}` in its commands stands for.
    pub name: &'a str,
    /// The cell.
    pub cell: &'a Cell,
}

impl Test<'_> {
    /// Runs one command; `{}` in it stands for the name of the case, `last` is one more argument if it is not empty.
    ///
    /// # Errors
    /// It cannot be started or does not end in time.
    pub fn run(&self, words: &str, last: &str) -> Result<Done> {
        self.cli.run(&self.fill(words), last)
    }

    /// Runs one command whose words may hold blanks; `{}` stands for the name of the case.
    ///
    /// # Errors
    /// As [`Test::run`].
    pub fn words(&self, words: &[&str]) -> Result<Done> {
        let filled: Vec<String> = words.iter().map(|word| self.fill(word)).collect();
        self.cli.run_words(&filled.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs one command that must end with 0 and returns its output.
    ///
    /// # Errors
    /// It ends otherwise.
    pub fn ok(&self, words: &str, last: &str) -> Result<String> {
        self.run(words, last)?.ok()
    }

    /// Runs one command that must print exactly this.
    ///
    /// # Errors
    /// It fails or prints something else.
    pub fn prints(&self, words: &str, last: &str, want: &str) -> Result<()> {
        let got = self.ok(words, last)?;
        ensure!(got == want, "`{} {last}` printed {got:?}, not {want:?}", self.fill(words));
        Ok(())
    }

    /// Runs one command that must end with `code` and whose outputs must contain `text`, in any case of letters.
    ///
    /// # Errors
    /// It ends otherwise or says something else.
    pub fn fails(&self, words: &str, last: &str, code: i32, text: &str) -> Result<()> {
        let said = self.run(words, last)?.code(code)?;
        ensure!(said.to_lowercase().contains(&text.to_lowercase()), "`{}`: no {text:?} in: {said}", self.fill(words));
        Ok(())
    }

    /// Waits until the output of a command contains `want`.
    ///
    /// # Errors
    /// Not within 20 s.
    pub fn until_prints(&self, words: &str, want: &str) -> Result<()> {
        let mut last = String::new();
        let waited = until(&format!("{want:?} from `{}`", self.fill(words)), Duration::from_secs(20), || {
            let done = self.run(words, "")?;
            last = format!("{}{}", done.out, done.err);
            Ok(done.out.contains(want))
        });
        waited.with_context(|| format!("it printed {last:?}"))
    }

    /// Starts one command on a terminal of 100 columns and 30 rows.
    ///
    /// # Errors
    /// The terminal or the command cannot be made.
    pub fn terminal(&self, words: &str) -> Result<Terminal> {
        let words = self.fill(words);
        let arguments: Vec<&str> = words.split_whitespace().collect();
        Terminal::start(&self.cli.command(), &arguments)
    }

    /// Runs one command that reads `input` and must end with 0, and returns its output.
    ///
    /// # Errors
    /// It ends otherwise.
    pub fn ok_with_input(&self, words: &str, last: &str, input: &str) -> Result<String> {
        self.cli.run_with_input(&self.fill(words), last, input)?.ok()
    }

    /// Makes a folder of the case's own below the cell's, for whom that belongs to.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = self.cell.dir.join("cases").join(self.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let owner = std::fs::metadata(&self.cell.dir)?;
        for path in [folder.as_path(), &self.cell.dir.join("cases")] {
            std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(folder)
    }

    /// Puts the case's name in the place of each `{}`; the clients' own templates have two braces.
    fn fill(&self, words: &str) -> String {
        words.replace("{}", self.name)
    }
}

/// The end of one case.
#[derive(Debug)]
enum End {
    Passed,
    AsExpected(String),
    Failed(String),
}

/// Runs a table: `jobs` cases at a time, then those that want to be alone, and `clean` after each.
///
/// Prints a line for every case that did not just pass, and the counts. A case is over when `clean` has removed its
/// containers; an error there is an error of the case.
///
/// # Errors
/// A case failed, or a case that is expected to fail did not.
pub fn run_table(
    client: &str,
    cell: &Cell,
    cli: &Cli,
    cases: &[Case],
    jobs: usize,
    clean: &(dyn Fn(&Test<'_>) -> Result<()> + Sync),
) -> Result<()> {
    let filter = std::env::var("CASES").unwrap_or_default();
    let expected = expectations::read(&cell.runtime.name)?;
    check_names(client, cases, &expected)?;
    let start = Instant::now();
    let ends = Mutex::new(Vec::new());
    let run = |case: &Case| -> Result<()> {
        let test = Test { cli, name: case.name, cell };
        let started = Instant::now();
        let result = (case.run)(&test);
        // Engines unmount in the background: what is busy now is free a moment later.
        let cleaned = clean(&test).or_else(|_| {
            std::thread::sleep(Duration::from_secs(1));
            clean(&test).context("clean up")
        });
        let result = result.and(cleaned);
        let full = format!("{client}/{}", case.name);
        let end = judge(result, expected.iter().find(|line| line.case == full));
        report(&full, &end, started.elapsed())?;
        ends.lock().map_err(|_| anyhow::anyhow!("a case panicked"))?.push(end);
        Ok(())
    };
    let chosen = |alone: bool| cases.iter().filter(move |case| case.alone == alone);
    let wanted = |case: &&Case| case.name.contains(&filter);
    run_at_once(&chosen(false).filter(wanted).collect::<Vec<_>>(), jobs, &run)?;
    run_at_once(&chosen(true).filter(wanted).collect::<Vec<_>>(), 1, &run)?;
    let ends = ends.into_inner().map_err(|_| anyhow::anyhow!("a case panicked"))?;
    summarise(client, cell, &ends, start.elapsed())
}

/// Reports the last case of every client: that its containers left nothing behind.
///
/// # Errors
/// Something was left and no expectation says so, or the other way round when all cases ran.
pub fn report_left(client: &str, cell: &Cell, result: Result<()>) -> Result<()> {
    let full = format!("{client}/{LEFT}");
    let expected = expectations::read(&cell.runtime.name)?;
    let some = std::env::var("CASES").is_ok_and(|filter| !filter.is_empty());
    let line = expected.iter().find(|line| line.case == full && !(some && result.is_ok()));
    let end = judge(result, line);
    report(&full, &end, Duration::ZERO)?;
    ensure!(!matches!(end, End::Failed(_)), "{client} left something behind");
    Ok(())
}

/// Checks that names are unique and that every expectation for this client names a case.
fn check_names(client: &str, cases: &[Case], expected: &[Expectation]) -> Result<()> {
    let mut names: Vec<&str> = cases.iter().map(|case| case.name).chain([LEFT]).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        anyhow::bail!("two cases are named {}", twice[0]);
    }
    for line in expected {
        let own = line.case.strip_prefix(client).and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = own {
            ensure!(names.binary_search(&name).is_ok(), "an expectation names the unknown case {}", line.case);
        }
    }
    Ok(())
}

fn run_at_once(cases: &[&Case], jobs: usize, run: &(impl Fn(&Case) -> Result<()> + Sync)) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(case)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a case panicked"))??;
        }
        Ok(())
    })
}

fn judge(result: Result<()>, expected: Option<&Expectation>) -> End {
    match (result, expected) {
        (Ok(()), None) => End::Passed,
        (Ok(()), Some(line)) => End::Failed(format!("passes now; remove its expectation ({})", line.reason)),
        (Err(error), Some(line)) if format!("{error:#}").contains(&line.failure) => {
            End::AsExpected(line.reason.clone())
        }
        (Err(error), _) => End::Failed(format!("{error:#}")),
    }
}

fn report(case: &str, end: &End, took: Duration) -> Result<()> {
    let seconds = took.as_secs_f32();
    match end {
        End::Passed => say(&format!("pass  {case} ({seconds:.1} s)")),
        End::AsExpected(reason) => say(&format!("as expected, fails  {case}: {reason}")),
        End::Failed(error) => say(&format!("FAIL  {case} ({seconds:.1} s): {error}")),
    }
}

fn summarise(client: &str, cell: &Cell, ends: &[End], took: Duration) -> Result<()> {
    let count = |which: fn(&End) -> bool| ends.iter().filter(|end| which(end)).count();
    let failed = count(|end| matches!(end, End::Failed(_)));
    let passed = count(|end| matches!(end, End::Passed));
    let expected = count(|end| matches!(end, End::AsExpected(_)));
    let version = &cell.runtime.version;
    say(&format!(
        "{client} with {version}: {} cases, {passed} passed, {expected} as expected, {failed} failed, {:.0} s",
        ends.len(),
        took.as_secs_f32()
    ))?;
    ensure!(failed == 0, "{failed} cases of {client} failed");
    Ok(())
}

/// Writes one line to standard error, past the test harness's capture, so that counts are always seen.
///
/// # Errors
/// The write fails.
pub fn say(line: &str) -> Result<()> {
    writeln!(std::io::stderr().lock(), "{line}").context("cannot write to standard error")
}
