//! The order in which the conditional rules of one call are tried.
//!
//! libseccomp keeps them as a tree: a level is a list of comparisons, a comparison that holds leads to a level of its
//! own, and where nothing below holds the next comparison of the level above is tried. Within a level the order is:
//! higher argument index first; then equality and inequality, then "less", then "greater"; then the higher value, for
//! "less" the lower one; then the order of the profile. With 64 bits the upper half of a value is a comparison of its
//! own, before that of the lower half. Read from the left, the tree gives the list that [`sort`] returns.
//!
//! Two rules with equal conditions, or one whose conditions are the beginning of another's: the one that stands first in
//! the profile decides. (libseccomp refuses such a profile where the actions differ, except when the shorter one
//! stands first.)

use runtime_spec::model::{SeccompArg, SeccompOp};

use super::Arch;
use super::rules::Clause;

/// One comparison of 32 bits.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Twice the argument index, plus one for the upper half.
    argument: u8,
    /// 3 equality, 2 less, 1 greater, as written.
    class: u8,
    /// What the comparison is made of in the end: "less" is a "greater or equal" that fails, "not equal" an "equal".
    test: Test,
    /// Whether the test must fail. Always `false` for an upper half: there the lower one decides.
    fails: bool,
    mask: u32,
    value: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal,
    Masked,
    Greater,
    GreaterOrEqual,
}

impl Step {
    fn is_same(&self, other: &Step) -> bool {
        let identity = |step: &Step| (step.argument, step.test, step.fails, step.mask, step.value);
        identity(self) == identity(other)
    }

    /// Whether `self`, already in a level, comes after a newcomer.
    fn is_after(&self, new: &Step) -> bool {
        let ranks = (self.argument, self.class).cmp(&(new.argument, new.class));
        let values = if self.class == 2 { new.value.cmp(&self.value) } else { self.value.cmp(&new.value) };
        ranks.then(values).is_lt()
    }
}

#[derive(Debug, Default)]
struct Level {
    nodes: Vec<Node>,
    /// The clause that ends here, after all nodes: they were there before it.
    end: Option<usize>,
}

#[derive(Debug)]
struct Node {
    step: Step,
    below: Level,
}

/// Puts clauses, given in the order of the profile, into the order in which they are tried. Drops those that can never
/// decide because an earlier one holds whenever they do.
pub(super) fn sort(clauses: Vec<Clause>, arch: Arch) -> Vec<Clause> {
    let mut top = Level::default();
    for (at, clause) in clauses.iter().enumerate() {
        insert(&mut top, &steps(clause, arch), at);
    }
    let mut places = Vec::with_capacity(clauses.len());
    collect(&top, &mut places);
    let mut clauses: Vec<Option<Clause>> = clauses.into_iter().map(Some).collect();
    places.into_iter().filter_map(|at| clauses[at].take()).collect()
}

fn steps(clause: &Clause, arch: Arch) -> Vec<Step> {
    let mut steps = Vec::with_capacity(2 * clause.conditions.len());
    for condition in &clause.conditions {
        let (mask, value) = match condition.op {
            SeccompOp::MaskedEq => (condition.value, condition.value_two),
            _ => (u64::MAX, condition.value),
        };
        if arch.compares_64_bits() {
            steps.push(step(condition, true, (mask >> 32) as u32, (value >> 32) as u32));
        }
        steps.push(step(condition, false, mask as u32, value as u32));
    }
    steps
}

fn step(condition: &SeccompArg, upper: bool, mask: u32, value: u32) -> Step {
    let (class, test) = match condition.op {
        SeccompOp::Eq | SeccompOp::Ne => (3, Test::Equal),
        SeccompOp::MaskedEq => (3, Test::Masked),
        SeccompOp::Lt => (2, Test::GreaterOrEqual),
        SeccompOp::Le => (2, Test::Greater),
        SeccompOp::Gt => (1, Test::Greater),
        SeccompOp::Ge => (1, Test::GreaterOrEqual),
    };
    let test = if upper && class < 3 { Test::Greater } else { test };
    let fails = !upper && matches!(condition.op, SeccompOp::Ne | SeccompOp::Lt | SeccompOp::Le);
    Step { argument: condition.index * 2 + u8::from(upper), class, test, fails, mask, value }
}

fn insert(level: &mut Level, steps: &[Step], clause: usize) {
    if level.end.is_some() {
        return;
    }
    let Some((first, rest)) = steps.split_first() else {
        level.end = Some(clause);
        return;
    };
    let stop = level.nodes.iter().position(|node| node.step.is_same(first) || node.step.is_after(first));
    match stop {
        Some(at) if level.nodes[at].step.is_same(first) => insert(&mut level.nodes[at].below, rest, clause),
        at => {
            let mut below = Level::default();
            insert(&mut below, rest, clause);
            level.nodes.insert(at.unwrap_or(level.nodes.len()), Node { step: *first, below });
        }
    }
}

fn collect(level: &Level, places: &mut Vec<usize>) {
    for node in &level.nodes {
        collect(&node.below, places);
    }
    places.extend(level.end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_spec::model::SeccompAction;

    fn arg(index: u8, op: SeccompOp, value: u64) -> SeccompArg {
        SeccompArg { index, value, value_two: 0, op }
    }

    /// Sorts clauses named by their errno and returns the names.
    fn check(arch: Arch, clauses: &[&[SeccompArg]], expected: &[u16]) {
        let clauses = clauses
            .iter()
            .zip(0..)
            .map(|(conditions, name)| Clause { conditions: conditions.to_vec(), action: SeccompAction::Errno(name) });
        let sorted = sort(clauses.collect(), arch);
        let names: Vec<SeccompAction> = sorted.iter().map(|clause| clause.action).collect();
        assert_eq!(names, expected.iter().map(|name| SeccompAction::Errno(*name)).collect::<Vec<_>>());
    }

    #[test]
    fn higher_arguments_come_first() {
        let clauses: [&[SeccompArg]; 2] = [&[arg(0, SeccompOp::Eq, 1)], &[arg(2, SeccompOp::Eq, 1)]];
        check(Arch::X86_64, &clauses, &[1, 0]);
        check(Arch::X86, &clauses, &[1, 0]);
    }

    #[test]
    fn equality_comes_before_less_before_greater() {
        let clauses: [&[SeccompArg]; 3] =
            [&[arg(0, SeccompOp::Gt, 9)], &[arg(0, SeccompOp::Lt, 8)], &[arg(0, SeccompOp::Eq, 7)]];
        check(Arch::X86, &clauses, &[2, 1, 0]);
    }

    #[test]
    fn higher_values_come_first_and_for_less_the_lower_ones() {
        let greater: [&[SeccompArg]; 2] = [&[arg(0, SeccompOp::Gt, 5)], &[arg(0, SeccompOp::Gt, 10)]];
        check(Arch::X86_64, &greater, &[1, 0]);
        let less: [&[SeccompArg]; 2] = [&[arg(0, SeccompOp::Le, 10)], &[arg(0, SeccompOp::Le, 5)]];
        check(Arch::X86_64, &less, &[1, 0]);
    }

    #[test]
    fn a_clause_that_another_covers_is_dropped_only_after_it() {
        let (a, b) = (arg(0, SeccompOp::Eq, 1), arg(1, SeccompOp::Eq, 2));
        check(Arch::X86_64, &[&[a], &[a, b]], &[0]);
        check(Arch::X86_64, &[&[a, b], &[a]], &[0, 1]);
        check(Arch::X86_64, &[&[a], &[a]], &[0]);
    }

    #[test]
    fn opposite_conditions_are_not_the_same() {
        for (one, other) in
            [(SeccompOp::Gt, SeccompOp::Le), (SeccompOp::Ge, SeccompOp::Lt), (SeccompOp::Eq, SeccompOp::Ne)]
        {
            for arch in [Arch::X86_64, Arch::X86] {
                let clauses: [&[SeccompArg]; 2] = [&[arg(0, other, 5)], &[arg(0, one, 5)]];
                check(arch, &clauses, &[0, 1]);
            }
        }
    }

    #[test]
    fn a_shared_beginning_keeps_clauses_together() {
        let (a, b, c) = (arg(0, SeccompOp::Eq, 9), arg(0, SeccompOp::Eq, 8), arg(1, SeccompOp::Eq, 2));
        let d = arg(1, SeccompOp::Eq, 3);
        check(Arch::X86, &[&[a, c], &[b, c], &[a, d]], &[2, 0, 1]);
    }
}
