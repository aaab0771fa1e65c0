//! Which rules of a profile apply to which call of an architecture, and in which order.
//!
//! # Precedence
//! What libseccomp does with the rules that runc hands it, one by one, in the order of the profile:
//!
//! 1. A rule whose action is the default action is dropped.
//! 2. A rule with two conditions on one argument falls apart into one rule per condition (all of its conditions, not only
//!    those of that argument), each an alternative. Otherwise all conditions must hold.
//! 3. A masked comparison with a mask of zero always holds; the other value of a masked comparison is masked too.
//! 4. If one rule of a call has no condition (left), the first such rule decides, whatever stands before or after it.
//! 5. Else the rules are tried one after the other; if none holds, the default action applies. The order matters only
//!    where rules with different actions overlap: [`order`] says how.

use runtime_spec::model::{SeccompAction, SeccompArg, SeccompOp, SeccompRule};

use super::Arch;
use super::order;
use super::tables::{self, Place};

/// Conditions that must all hold, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// By rising argument index, each index once.
    pub(super) conditions: Vec<SeccompArg>,
    /// What happens.
    pub(super) action: SeccompAction,
}

/// What happens with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Always this.
    Action(SeccompAction),
    /// The first clause that holds, else the default action.
    Clauses {
        /// Says how arguments are compared.
        arch: Arch,
        /// At least one, each with at least one condition.
        clauses: Vec<Clause>,
    },
}

/// The rules of one profile with their names looked up once.
#[derive(Debug)]
pub(super) struct Rules {
    /// Known names in the order of the profile, with the place of their rule.
    names: Vec<(Place, usize)>,
    /// What each rule of the profile turns into. Empty for one whose action is the default action.
    clauses: Vec<Vec<Clause>>,
}

/// What one architecture gets.
#[derive(Debug)]
pub(super) struct Calls {
    /// By rising number.
    pub(super) verdicts: Vec<(u32, Verdict)>,
    /// The highest number that the profile names, whatever it says about it.
    pub(super) highest: Option<u32>,
}

impl Rules {
    pub(super) fn new(rules: &[SeccompRule], default: SeccompAction) -> Rules {
        let names = rules.iter().enumerate().flat_map(|(at, rule)| {
            rule.names.iter().filter_map(move |name| tables::find(name).map(|place| (place, at)))
        });
        let clauses = rules.iter().map(|rule| if rule.action == default { Vec::new() } else { split(rule) }).collect();
        Rules { names: names.collect(), clauses }
    }

    /// Sorts the rules by the numbers of one architecture.
    pub(super) fn calls(&self, arch: Arch) -> Calls {
        let mut found: Vec<(u32, usize, Option<u8>)> = Vec::with_capacity(self.names.len());
        for &(place, rule) in &self.names {
            if let Some(call) = tables::multiplexed(arch, place) {
                found.push((call.number, rule, Some(call.selector)));
            }
            if let Some(number) = tables::number(arch, place) {
                found.push((number, rule, None));
            }
        }
        let highest =
            found.iter().map(|(number, ..)| *number).filter(|number| !tables::is_private(arch, *number)).max();
        found.sort_by_key(|(number, ..)| *number);
        let mut verdicts = Vec::with_capacity(found.len());
        for group in found.chunk_by(|a, b| a.0 == b.0) {
            if let Some(verdict) = self.verdict(arch, group) {
                verdicts.push((group[0].0, verdict));
            }
        }
        Calls { verdicts, highest }
    }

    /// Puts together all rules of one number. `None` when all have the default action.
    fn verdict(&self, arch: Arch, group: &[(u32, usize, Option<u8>)]) -> Option<Verdict> {
        // The common case needs no list: a rule without conditions that stands first decides.
        if let [(_, rule, None), ..] = group
            && let [clause] = &self.clauses[*rule][..]
            && clause.conditions.is_empty()
        {
            return Some(Verdict::Action(clause.action));
        }
        let mut clauses = Vec::new();
        for (_, rule, selector) in group {
            clauses.extend(self.clauses[*rule].iter().map(|clause| reduce(clause, arch, *selector)));
        }
        if let Some(always) = clauses.iter().find(|clause| clause.conditions.is_empty()) {
            return Some(Verdict::Action(always.action));
        }
        if clauses.len() > 1 {
            clauses = order::sort(clauses, arch);
        }
        (!clauses.is_empty()).then_some(Verdict::Clauses { arch, clauses })
    }
}

/// Turns a rule into alternatives that name each argument at most once.
fn split(rule: &SeccompRule) -> Vec<Clause> {
    let mut conditions = rule.args.clone();
    conditions.sort_by_key(|condition| condition.index);
    if conditions.windows(2).all(|pair| pair[0].index != pair[1].index) {
        return vec![Clause { conditions, action: rule.action }];
    }
    rule.args.iter().map(|condition| Clause { conditions: vec![*condition], action: rule.action }).collect()
}

/// Cuts a clause down to what one architecture compares: 32 or 64 bits, masked, without what always holds. The first
/// argument of a call through a multiplexer is the selector, so a condition on it gives way.
fn reduce(clause: &Clause, arch: Arch, selector: Option<u8>) -> Clause {
    let width = if arch.compares_64_bits() { u64::MAX } else { u64::from(u32::MAX) };
    let selected =
        selector.map(|selector| SeccompArg { index: 0, value: u64::from(selector), value_two: 0, op: SeccompOp::Eq });
    let rest = clause.conditions.iter().filter(|condition| selected.is_none() || condition.index != 0);
    let conditions = selected.iter().chain(rest).filter_map(|condition| {
        let value = condition.value & width;
        match condition.op {
            SeccompOp::MaskedEq if value == 0 => None,
            SeccompOp::MaskedEq => Some(SeccompArg { value, value_two: condition.value_two & value, ..*condition }),
            _ => Some(SeccompArg { value, value_two: 0, ..*condition }),
        }
    });
    Clause { conditions: conditions.collect(), action: clause.action }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(index: u8, op: SeccompOp, value: u64, value_two: u64) -> SeccompArg {
        SeccompArg { index, value, value_two, op }
    }

    fn rule(name: &str, action: SeccompAction, args: &[SeccompArg]) -> SeccompRule {
        SeccompRule { names: vec![name.to_owned()], action, args: args.to_vec() }
    }

    fn check(arch: Arch, number: u32, rules: &[SeccompRule], expected: Option<Verdict>) {
        let calls = Rules::new(rules, SeccompAction::Errno(1)).calls(arch);
        let found = calls.verdicts.into_iter().find(|(at, _)| *at == number).map(|(_, verdict)| verdict);
        assert_eq!(found, expected);
    }

    fn one(conditions: &[SeccompArg], action: SeccompAction) -> Clause {
        Clause { conditions: conditions.to_vec(), action }
    }

    fn clauses(arch: Arch, clauses: &[Clause]) -> Option<Verdict> {
        Some(Verdict::Clauses { arch, clauses: clauses.to_vec() })
    }

    const ALLOW: SeccompAction = SeccompAction::Allow;

    #[test]
    fn the_first_unconditional_rule_decides() {
        let five = arg(0, SeccompOp::Eq, 5, 0);
        let rules = [
            rule("read", SeccompAction::Log, &[five]),
            rule("read", ALLOW, &[]),
            rule("read", SeccompAction::Trap, &[]),
            rule("read", SeccompAction::KillThread, &[five]),
        ];
        check(Arch::X86_64, 0, &rules, Some(Verdict::Action(ALLOW)));
        check(Arch::X86, 3, &rules, Some(Verdict::Action(ALLOW)));
    }

    #[test]
    fn a_rule_with_the_default_action_does_nothing() {
        check(Arch::X86_64, 0, &[rule("read", SeccompAction::Errno(1), &[])], None);
        let rules = [rule("read", SeccompAction::Errno(1), &[]), rule("read", ALLOW, &[])];
        check(Arch::X86_64, 0, &rules, Some(Verdict::Action(ALLOW)));
    }

    #[test]
    fn a_repeated_argument_makes_every_condition_an_alternative() {
        let (a, b, c) = (arg(0, SeccompOp::Eq, 1, 0), arg(1, SeccompOp::Eq, 2, 0), arg(0, SeccompOp::Eq, 3, 0));
        let expected = clauses(Arch::X86_64, &[one(&[b], ALLOW), one(&[c], ALLOW), one(&[a], ALLOW)]);
        check(Arch::X86_64, 0, &[rule("read", ALLOW, &[a, b, c])], expected);
    }

    #[test]
    fn conditions_on_different_arguments_must_all_hold() {
        let (a, b) = (arg(0, SeccompOp::Eq, 1, 0), arg(3, SeccompOp::Lt, 2, 0));
        let expected = clauses(Arch::X86_64, &[one(&[a, b], ALLOW)]);
        check(Arch::X86_64, 0, &[rule("read", ALLOW, &[b, a])], expected);
    }

    #[test]
    fn masks_are_applied_to_both_sides_and_an_empty_one_always_holds() {
        let masked = arg(1, SeccompOp::MaskedEq, 0xf0, 0xff);
        let expected = clauses(Arch::X86_64, &[one(&[arg(1, SeccompOp::MaskedEq, 0xf0, 0xf0)], ALLOW)]);
        check(Arch::X86_64, 0, &[rule("read", ALLOW, &[masked])], expected);
        let empty = arg(1, SeccompOp::MaskedEq, 0, 7);
        check(Arch::X86_64, 0, &[rule("read", ALLOW, &[empty])], Some(Verdict::Action(ALLOW)));
        let upper = arg(1, SeccompOp::MaskedEq, 0xff << 32, 0);
        check(Arch::X86, 3, &[rule("read", ALLOW, &[upper])], Some(Verdict::Action(ALLOW)));
        let expected = clauses(Arch::X86_64, &[one(&[upper], ALLOW)]);
        check(Arch::X86_64, 0, &[rule("read", ALLOW, &[upper])], expected);
    }

    #[test]
    fn thirty_two_bit_architectures_compare_half() {
        let wide = arg(0, SeccompOp::Eq, 0x1_0000_0002, 0);
        let narrow = |arch| clauses(arch, &[one(&[arg(0, SeccompOp::Eq, 2, 0)], ALLOW)]);
        check(Arch::X86, 3, &[rule("read", ALLOW, &[wide])], narrow(Arch::X86));
        check(Arch::X32, 0x4000_0000, &[rule("read", ALLOW, &[wide])], narrow(Arch::X32));
        let full = clauses(Arch::X86_64, &[one(&[wide], ALLOW)]);
        check(Arch::X86_64, 0, &[rule("read", ALLOW, &[wide])], full);
    }

    #[test]
    fn sockets_and_ipc_also_pass_the_multiplexers() {
        let rules = [rule("socket", ALLOW, &[arg(0, SeccompOp::Ne, 40, 0)]), rule("shmat", ALLOW, &[])];
        let select = |number| clauses(Arch::X86, &[one(&[arg(0, SeccompOp::Eq, number, 0)], ALLOW)]);
        let direct = |arch| clauses(arch, &[one(&[arg(0, SeccompOp::Ne, 40, 0)], ALLOW)]);
        check(Arch::X86, 102, &rules, select(1));
        check(Arch::X86, 359, &rules, direct(Arch::X86));
        check(Arch::X86, 117, &rules, select(21));
        check(Arch::X86, 397, &rules, Some(Verdict::Action(ALLOW)));
        check(Arch::X86_64, 41, &rules, direct(Arch::X86_64));
        check(Arch::X86_64, 102, &rules, None);
        check(Arch::X86, 102, &[rule("socketcall", ALLOW, &[])], Some(Verdict::Action(ALLOW)));
    }

    #[test]
    fn the_highest_number_counts_every_known_name() {
        let rules = Rules::new(
            &[rule("read", ALLOW, &[]), rule("statx", SeccompAction::Errno(1), &[]), rule("nope", ALLOW, &[])],
            SeccompAction::Errno(1),
        );
        assert_eq!(rules.calls(Arch::X86_64).highest, Some(332));
        assert_eq!(rules.calls(Arch::X32).highest, Some(0x4000_0000 + 332));
        assert_eq!(Rules::new(&[], ALLOW).calls(Arch::X86).highest, None);
    }

    #[test]
    fn private_calls_of_arm_are_not_the_highest() {
        let rules = Rules::new(&[rule("cacheflush", ALLOW, &[]), rule("read", ALLOW, &[])], SeccompAction::Errno(1));
        assert_eq!(rules.calls(Arch::Arm).highest, Some(3));
    }
}
