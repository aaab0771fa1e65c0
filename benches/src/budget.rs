//! Budgets: ratios that a run must stay below, from a TOML file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::sample::{Samples, ratio};

/// The file: a list of ratios.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budgets {
    /// The ratios, in the order of the file.
    pub(crate) ratio: Vec<Budget>,
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

/// How a ratio stands to its budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Kept(f64),
    Broken(f64),
    /// One of the two runtimes gave no value.
    NotMeasured,
}

impl Budgets {
    pub(crate) fn read(path: &Path) -> Result<Budgets> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let budgets: Budgets = toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        for budget in &budgets.ratio {
            ensure!(budget.max > 0.0, "{}: a budget of {} can never be kept", budget.case, budget.max);
        }
        Ok(budgets)
    }

    pub(crate) fn of_case(&self, case: &str) -> impl Iterator<Item = &Budget> {
        self.ratio.iter().filter(move |budget| budget.case == case)
    }
}

impl Budget {
    pub(crate) fn judge(&self, samples: &[Samples]) -> Verdict {
        match ratio(samples, &self.command, &self.runtime) {
            Some(value) if value <= self.max => Verdict::Kept(value),
            Some(value) => Verdict::Broken(value),
            None => Verdict::NotMeasured,
        }
    }

    pub(crate) fn render(&self, verdict: Verdict) -> String {
        let Budget { case, command, runtime, max } = self;
        let what = format!("{case} {command} against {runtime}");
        match verdict {
            Verdict::Kept(value) => format!("  kept    {what}: {value:.3}, budget {max:.3}\n"),
            Verdict::Broken(value) => format!("  BROKEN  {what}: {value:.3}, budget {max:.3}\n"),
            Verdict::NotMeasured => format!("  not measured  {what}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sample::Cost;

    fn samples(name: &str, wall_ms: u64) -> Samples {
        let mut samples = Samples::new(name);
        samples.add(&[("run", Cost { wall: Duration::from_millis(wall_ms), cpu: Duration::ZERO })]);
        samples
    }

    #[test]
    fn a_budget_is_judged_by_the_ratio_of_medians() {
        let budget = Budget { case: "c".into(), command: "run".into(), runtime: "crun".into(), max: 0.25 };
        assert_eq!(budget.judge(&[samples("skep", 5), samples("crun", 20)]), Verdict::Kept(0.25));
        assert_eq!(budget.judge(&[samples("skep", 10), samples("crun", 20)]), Verdict::Broken(0.5));
        assert_eq!(budget.judge(&[samples("skep", 10), samples("runc", 20)]), Verdict::NotMeasured);
    }

    #[test]
    fn the_budgets_of_the_tree_name_cases_that_there_are() {
        let budgets = Budgets::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml")).unwrap();
        for budget in budgets.ratio {
            assert!(crate::cases::CASES.iter().any(|case| case.name == budget.case), "{}", budget.case);
        }
    }
}
