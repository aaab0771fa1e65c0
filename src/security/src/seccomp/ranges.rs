//! All 2^32 system call numbers of one audit architecture, as ranges that are treated alike.

use runtime_spec::model::SeccompAction;

use super::rules::{Calls, Rules, Verdict};
use super::tables::{ARM_PRIVATE_BASE, X32_BIT};
use super::{Arch, BAD_ARCH};

/// `ENOSYS`, the same number on all eight architectures.
const ENOSYS: u16 = 38;

/// A call that a tracer has told the kernel to skip.
const SKIPPED: u32 = u32::MAX;

/// From `start` to the start of the next range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// First number.
    pub(super) start: u32,
    /// What happens with calls in it.
    pub(super) verdict: Verdict,
}

/// What surrounds the rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// For calls without a rule.
    pub(super) default: SeccompAction,
    /// Whether x32 is filtered along with x86-64.
    pub(super) x32: bool,
}

impl Frame {
    /// Whether numbers above the highest one that the profile names get `ENOSYS`: only when such calls would not be let
    /// through anyway. (A tracer is expected to handle new calls by itself.)
    fn hides_newer_calls(self) -> bool {
        !matches!(self.default, SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace(_))
    }

    fn beyond(self, calls: &Calls) -> SeccompAction {
        if self.hides_newer_calls() && calls.highest.is_some() { SeccompAction::Errno(ENOSYS) } else { self.default }
    }
}

/// Divides all numbers of one audit architecture. The first range starts at 0, starts rise, neighbours differ.
pub(super) fn divide(arch: Arch, rules: &Rules, frame: Frame) -> Vec<Range> {
    let mut ranges = Ranges::default();
    let calls = rules.calls(arch);
    let beyond = frame.beyond(&calls);
    ranges.add_calls(0, calls, frame.default, beyond);
    match arch {
        // The kernel reports setup (0) when a number is passed in a register and is none that it knows.
        Arch::S390x if frame.hides_newer_calls() => ranges.replace_first(SeccompAction::Errno(ENOSYS)),
        Arch::X86_64 if frame.x32 => {
            let calls = rules.calls(Arch::X32);
            let beyond = frame.beyond(&calls);
            ranges.add_calls(X32_BIT, calls, frame.default, beyond);
        }
        Arch::X86_64 => {
            ranges.add(X32_BIT, Verdict::Action(BAD_ARCH));
            ranges.add(SKIPPED, Verdict::Action(frame.default));
        }
        _ => {}
    }
    ranges.0
}

#[derive(Debug, Default)]
struct Ranges(Vec<Range>);

impl Ranges {
    /// Adds all numbers from `first` on: `default` up to the highest named one except for those with a rule, `beyond`
    /// above it.
    fn add_calls(&mut self, first: u32, calls: Calls, default: SeccompAction, beyond: SeccompAction) {
        let after = calls.highest.map_or(first, |highest| highest + 1);
        let gap = |number| Verdict::Action(if number < after { default } else { beyond });
        let mut next = Some(first);
        for (number, verdict) in calls.verdicts {
            if let Some(next) = next.filter(|next| *next < number) {
                self.add(next, gap(next));
                if next < after && after < number {
                    self.add(after, gap(after));
                }
            }
            self.add(number, verdict);
            next = number.checked_add(1);
        }
        if let Some(next) = next {
            self.add(next, gap(next));
            if next < after {
                self.add(after, gap(after));
            }
        }
    }

    fn add(&mut self, start: u32, verdict: Verdict) {
        if self.0.last().is_none_or(|last| last.verdict != verdict) {
            self.0.push(Range { start, verdict });
        }
    }

    /// Gives number 0 another action.
    fn replace_first(&mut self, action: SeccompAction) {
        let Some(first) = self.0.first_mut() else { return };
        let action = Verdict::Action(action);
        if first.verdict == action {
            return;
        }
        let rest = std::mem::replace(&mut first.verdict, action);
        if self.0.get(1).is_none_or(|second| second.start > 1) {
            self.0.insert(1, Range { start: 1, verdict: rest });
        }
    }
}

// The private calls of Arm lie above every ordinary number, so they are added after `beyond` has begun.
const _: () = assert!(ARM_PRIVATE_BASE > 0xffff);

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_spec::model::SeccompRule;

    const ALLOW: SeccompAction = SeccompAction::Allow;
    const EPERM: SeccompAction = SeccompAction::Errno(1);
    const NEWER: SeccompAction = SeccompAction::Errno(38);

    fn check(arch: Arch, names: &[&str], default: SeccompAction, x32: bool, expected: &[(u32, SeccompAction)]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let action = if default == ALLOW { EPERM } else { ALLOW };
        let rules = Rules::new(&[SeccompRule { names, action, args: Vec::new() }], default);
        let expected: Vec<Range> =
            expected.iter().map(|(start, action)| Range { start: *start, verdict: Verdict::Action(*action) }).collect();
        assert_eq!(divide(arch, &rules, Frame { default, x32 }), expected);
    }

    #[test]
    fn neighbours_with_one_action_are_one_range() {
        let expected = [(0, ALLOW), (3, EPERM), (8, ALLOW), (9, NEWER), (X32_BIT, BAD_ARCH), (SKIPPED, EPERM)];
        check(Arch::X86_64, &["read", "write", "open", "lseek"], EPERM, false, &expected);
    }

    #[test]
    fn numbers_above_the_highest_named_one_do_not_exist() {
        let expected = [(0, EPERM), (3, ALLOW), (4, NEWER)];
        check(Arch::X86, &["read"], EPERM, false, &expected);
        check(Arch::X86, &["read"], ALLOW, false, &[(0, ALLOW), (3, EPERM), (4, ALLOW)]);
        check(Arch::X86, &["no_such_call"], EPERM, false, &[(0, EPERM)]);
    }

    #[test]
    fn x32_follows_x86_64() {
        let expected = [(0, ALLOW), (1, NEWER), (X32_BIT, ALLOW), (X32_BIT + 1, NEWER)];
        check(Arch::X86_64, &["read"], EPERM, true, &expected);
        let expected = [(0, ALLOW), (X32_BIT, BAD_ARCH), (SKIPPED, ALLOW)];
        check(Arch::X86_64, &[], ALLOW, false, &expected);
    }

    #[test]
    fn private_calls_of_arm_leave_newer_ones_hidden() {
        let expected = [(0, EPERM), (3, ALLOW), (4, NEWER), (0xf0002, ALLOW), (0xf0003, NEWER)];
        check(Arch::Arm, &["read", "cacheflush"], EPERM, false, &expected);
    }

    #[test]
    fn the_multiplexer_of_unknown_numbers_does_not_exist_on_s390x() {
        check(Arch::S390x, &["read"], EPERM, false, &[(0, NEWER), (1, EPERM), (3, ALLOW), (4, NEWER)]);
        check(Arch::S390x, &["exit"], EPERM, false, &[(0, NEWER), (1, ALLOW), (2, NEWER)]);
        check(Arch::S390x, &["exit"], ALLOW, false, &[(0, ALLOW), (1, EPERM), (2, ALLOW)]);
    }
}
