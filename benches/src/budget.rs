//! Budgets: ratios and counts that a run must stay below, from a TOML file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::counts::{Counts, Kind};
use crate::sample::{Samples, median_of, ratio};

/// Runtimes that a budget may name without a `--runtime` for them: those that are looked for, and the floor.
const PEERS: [&str; 3] = ["crun", "runc", "floor"];

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budgets {
    /// The ratios, in the order of the file.
    #[serde(default)]
    pub(crate) ratio: Vec<Budget>,
    /// How far counts may be above their budgets, as a share of them.
    #[serde(default)]
    pub(crate) tolerance: f64,
    /// System calls.
    #[serde(default)]
    pub(crate) calls: Vec<Count>,
    /// Instructions.
    #[serde(default)]
    pub(crate) instructions: Vec<Count>,
}

/// A number of system calls or of instructions that a command of the first runtime takes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    pub(crate) command: String,
    /// Where no hierarchy of cgroup v1 is mounted.
    pub(crate) max: u64,
    /// As many more for each hierarchy of cgroup v1.
    #[serde(default)]
    pub(crate) hierarchy: u64,
}

/// One ratio: the first runtime's median wall time over another one's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    pub(crate) case: String,
    pub(crate) command: String,
    pub(crate) runtime: String,
    pub(crate) max: f64,
}

/// How something stands to its budget.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Kept(f64),
    Broken(f64),
    /// The first runtime, whose budget it is, gave no value: it failed, or the budget names what there is not.
    Failed(String),
    /// There was nothing to measure with or against; the reason.
    NotMeasured(String),
}

impl Verdict {
    /// Whether the check fails by it.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(self, Verdict::Broken(_) | Verdict::Failed(_))
    }

    /// A line on what was judged; values with so many decimals, and the budget as `max`.
    pub(crate) fn render(&self, what: &str, decimals: usize, max: f64) -> String {
        match self {
            Verdict::Kept(value) => format!("  kept    {what}: {value:.decimals$}, budget {max:.decimals$}\n"),
            Verdict::Broken(value) => format!("  BROKEN  {what}: {value:.decimals$}, budget {max:.decimals$}\n"),
            Verdict::Failed(reason) => format!("  FAILED  {what}: {reason}\n"),
            Verdict::NotMeasured(reason) => format!("  not measured  {what}: {reason}\n"),
        }
    }
}

impl Budgets {
    /// Reads the file. `cases` are the names of those that there are, `named` those of the runtimes that the caller named.
    ///
    /// # Errors
    /// The file cannot be read, or a budget could never be judged: a mistyped name would keep it for ever.
    pub(crate) fn read(path: &Path, cases: &[&str], named: &[&str]) -> Result<Budgets> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Budgets::parse(&text, cases, named).with_context(|| format!("cannot use {}", path.display()))
    }

    fn parse(text: &str, cases: &[&str], named: &[&str]) -> Result<Budgets> {
        let budgets: Budgets = toml::from_str(text)?;
        for budget in &budgets.ratio {
            let Budget { case, runtime, max, .. } = budget;
            ensure!(*max > 0.0, "{case}: a budget of {max} can never be kept");
            ensure!(cases.contains(&case.as_str()), "no case is called {case:?}");
            let is_known = PEERS.contains(&runtime.as_str()) || named.contains(&runtime.as_str());
            ensure!(is_known, "{case}: no runtime is called {runtime:?}");
        }
        for kind in [Kind::SystemCalls, Kind::Instructions] {
            for Count { command, .. } in budgets.counts(kind) {
                ensure!(
                    kind.commands().contains(&command.as_str()),
                    "{}: no command is called {command:?}",
                    kind.name()
                );
            }
        }
        Ok(budgets)
    }

    pub(crate) fn counts(&self, kind: Kind) -> &[Count] {
        match kind {
            Kind::SystemCalls => &self.calls,
            Kind::Instructions => &self.instructions,
        }
    }

    pub(crate) fn of_case(&self, case: &str) -> Vec<&Budget> {
        self.ratio.iter().filter(|budget| budget.case == case).collect()
    }

    /// Whether a ratio is one against this runtime.
    pub(crate) fn names(&self, runtime: &str) -> bool {
        self.ratio.iter().any(|budget| budget.runtime == runtime)
    }
}

impl Budget {
    /// Judges what a case gave; `None` is a case that was left out because the machine lacks what it needs.
    pub(crate) fn judge(&self, samples: Option<&[Samples]>) -> Verdict {
        let Some(samples) = samples else {
            return Verdict::NotMeasured("the machine lacks what the case needs".to_owned());
        };
        let own = samples.first().map_or("", |first| &first.runtime);
        if median_of(samples, own, &self.command).is_none() {
            return Verdict::Failed(format!("{own} gave no value for {:?}", self.command));
        }
        match ratio(samples, &self.command, &self.runtime) {
            Some(value) if value <= self.max => Verdict::Kept(value),
            Some(value) => Verdict::Broken(value),
            None => Verdict::NotMeasured(format!("{} gave no value", self.runtime)),
        }
    }

    pub(crate) fn render(&self, verdict: &Verdict) -> String {
        verdict.render(&format!("{} {} against {}", self.case, self.command, self.runtime), 3, self.max)
    }
}

impl Count {
    /// Judges what was counted where so many hierarchies are mounted. `tolerance` is a share of the budget.
    pub(crate) fn judge(&self, counts: &Counts, hierarchies: u64, tolerance: f64) -> Verdict {
        // What only some machines have is not counted on others.
        let Some(counted) = counts.get(&self.command) else {
            return match self.command.ends_with("-profile") {
                true => Verdict::NotMeasured("the machine lacks the seccomp profile".to_owned()),
                false => Verdict::Failed("it gave no value".to_owned()),
            };
        };
        let (value, budget) = (counted.total as f64, self.budget(hierarchies) as f64);
        if value <= budget * (1.0 + tolerance) { Verdict::Kept(value) } else { Verdict::Broken(value) }
    }

    pub(crate) fn budget(&self, hierarchies: u64) -> u64 {
        self.max + self.hierarchy * hierarchies
    }
}

/// Judges the budgets of one kind of counts; tells each verdict, and of a broken one what it is made of. Returns whether all are kept.
pub(crate) fn judge_counts(
    budgets: &Budgets,
    kind: Kind,
    counts: &Result<Counts, String>,
    hierarchies: u64,
    tell: &mut dyn FnMut(&str),
) -> bool {
    let counts = match counts {
        Ok(counts) => counts,
        Err(reason) => {
            tell(&format!("  FAILED  {}: {reason}\n", kind.name()));
            return false;
        }
    };
    let mut good = true;
    for budget in budgets.counts(kind) {
        let verdict = budget.judge(counts, hierarchies, budgets.tolerance);
        let what = format!("{} {}", kind.name(), budget.command);
        tell(&verdict.render(&what, 0, budget.budget(hierarchies) as f64));
        if let (Verdict::Broken(_), Some(counted)) = (&verdict, counts.get(&budget.command)) {
            let (percent, parts) = (budgets.tolerance * 100.0, counted.render_parts());
            tell(&format!("    more than {percent:.0} % above it. {parts}\n"));
        }
        good &= !verdict.is_bad();
    }
    good
}

/// Judges all budgets of a case by one measurement; where some are broken all of the case is measured once more, so that a
/// moment's noise breaks none. Returns whether all are kept, and tells each verdict.
pub(crate) fn judge_case(
    budgets: &[&Budget],
    measure: &mut dyn FnMut(&str) -> Option<Vec<Samples>>,
    tell: &mut dyn FnMut(&str),
) -> bool {
    let mut open = budgets.to_vec();
    let mut good = true;
    for (attempt, announcement) in ["", "  once more:\n"].into_iter().enumerate() {
        let samples = measure(announcement);
        let mut broken = Vec::new();
        for budget in open {
            let verdict = budget.judge(samples.as_deref());
            tell(&budget.render(&verdict));
            match verdict {
                Verdict::Broken(_) if attempt == 0 => broken.push(budget),
                verdict => good &= !verdict.is_bad(),
            }
        }
        if broken.is_empty() {
            break;
        }
        open = broken;
    }
    good
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::counts::Counted;
    use crate::sample::Cost;

    fn samples(name: &str, wall_ms: u64) -> Samples {
        let mut samples = Samples::new(name);
        samples.add(&[("run", Cost { wall: Duration::from_millis(wall_ms), cpu: Duration::ZERO })]);
        samples
    }

    fn budget(command: &str) -> Budget {
        Budget { case: "c".into(), command: command.into(), runtime: "crun".into(), max: 0.25 }
    }

    #[test]
    fn a_budget_is_judged_by_the_ratio_of_medians() {
        let judge = |samples: &[Samples]| budget("run").judge(Some(samples));
        assert_eq!(judge(&[samples("skep", 5), samples("crun", 20)]), Verdict::Kept(0.25));
        assert_eq!(judge(&[samples("skep", 10), samples("crun", 20)]), Verdict::Broken(0.5));
    }

    #[test]
    fn what_is_missing_is_told_and_fails_where_it_is_our_own() {
        let (ours, theirs) = (|| samples("skep", 5), || samples("crun", 20));
        let judge = |command: &str, samples: &[Samples]| budget(command).judge(Some(samples));
        assert!(judge("run", &[Samples::new("skep"), theirs()]).is_bad());
        assert!(judge("rum", &[ours(), theirs()]).is_bad());
        assert!(judge("run", &[Samples::new("skep"), Samples::new("crun")]).is_bad());
        assert_eq!(judge("run", &[ours()]), Verdict::NotMeasured("crun gave no value".into()));
        assert!(!judge("run", &[ours(), Samples::new("crun")]).is_bad());
        assert!(matches!(budget("run").judge(None), Verdict::NotMeasured(_)));
    }

    #[test]
    fn a_broken_budget_is_measured_once_more_together_with_the_others() {
        let check = |walls: [u64; 2], good: bool, lines: usize| {
            let mut walls = walls.into_iter();
            let (mut told, mut announced) = (String::new(), Vec::new());
            let (strict, loose) = (budget("run"), Budget { max: 10.0, ..budget("run") });
            let mut measure = |announcement: &str| {
                announced.push(announcement.to_owned());
                walls.next().map(|wall| vec![samples("skep", wall), samples("crun", 20)])
            };
            assert_eq!(judge_case(&[&strict, &loose], &mut measure, &mut |text| told += text), good, "{told}");
            assert_eq!(told.lines().count(), lines, "{told}");
        };
        check([5, 0], true, 2);
        check([10, 5], true, 3);
        check([10, 11], false, 3);
    }

    #[test]
    fn counts_may_be_above_their_budgets_by_the_tolerance() {
        let check = |total: u64, good: bool| {
            let mut budgets =
                Budgets::parse("tolerance = 0.02\n[[calls]]\ncommand = \"run\"\nmax = 100\nhierarchy = 10\n", &[], &[])
                    .unwrap();
            let parts = vec![("openat".to_owned(), total)];
            let counts = Ok(Counts::of("run", Counted { total, parts }));
            let mut told = String::new();
            assert_eq!(
                judge_counts(&budgets, Kind::SystemCalls, &counts, 10, &mut |text| told += text),
                good,
                "{told}"
            );
            assert_eq!(told.contains("openat"), !good, "{told}");
            budgets.calls[0].command = "exec".to_owned();
            assert!(!judge_counts(&budgets, Kind::SystemCalls, &counts, 10, &mut |text| told += text), "{told}");
            let failed = Err("it fails".to_owned());
            assert!(!judge_counts(&budgets, Kind::SystemCalls, &failed, 10, &mut |text| told += text), "{told}");
        };
        check(200, true);
        check(204, true);
        check(205, false);
    }

    #[test]
    fn a_budget_that_names_nothing_there_is_is_refused() {
        let check = |case: &str, runtime: &str, max: &str| {
            let text =
                format!("[[ratio]]\ncase = \"{case}\"\ncommand = \"run\"\nruntime = \"{runtime}\"\nmax = {max}\n");
            Budgets::parse(&text, &["list"], &["mine"]).map_err(|error| error.to_string()).err()
        };
        assert_eq!(check("list", "crun", "0.5"), None);
        assert_eq!(check("list", "mine", "0.5"), None);
        assert_eq!(check("lost", "crun", "0.5"), Some("no case is called \"lost\"".into()));
        assert_eq!(check("list", "rucn", "0.5"), Some("list: no runtime is called \"rucn\"".into()));
        assert!(check("list", "crun", "0.0").is_some());
    }

    #[test]
    fn the_budgets_of_the_tree_can_be_judged() {
        let cases: Vec<&str> = crate::cases::CASES.iter().map(|case| case.name).collect();
        Budgets::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml"), &cases, &[]).unwrap();
    }
}
