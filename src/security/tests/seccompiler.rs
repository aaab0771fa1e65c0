//! Compares with the crate seccompiler in what it can say: one action for all rules, three architectures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{argument_patterns, container_profile};
use runtime_spec::model::{Seccomp, SeccompAction, SeccompArg, SeccompOp};
use seccompiler as other;
use security::seccomp::{Arch, Instruction, compile, syscall_number};
use security::simulate::{Call, filter};

const ENOSYS: u32 = 0x0005_0026;

fn other_condition(condition: &SeccompArg) -> other::SeccompCondition {
    let (op, value) = match condition.op {
        SeccompOp::Eq => (other::SeccompCmpOp::Eq, condition.value),
        SeccompOp::Ne => (other::SeccompCmpOp::Ne, condition.value),
        SeccompOp::Lt => (other::SeccompCmpOp::Lt, condition.value),
        SeccompOp::Le => (other::SeccompCmpOp::Le, condition.value),
        SeccompOp::Gt => (other::SeccompCmpOp::Gt, condition.value),
        SeccompOp::Ge => (other::SeccompCmpOp::Ge, condition.value),
        SeccompOp::MaskedEq => (other::SeccompCmpOp::MaskedEq(condition.value), condition.value_two),
    };
    other::SeccompCondition::new(condition.index, other::SeccompCmpArgLen::Qword, op, value).unwrap()
}

fn other_program(profile: &Seccomp, arch: Arch, target: other::TargetArch) -> Vec<Instruction> {
    let mut rules: BTreeMap<i64, Vec<other::SeccompRule>> = BTreeMap::new();
    for rule in &profile.rules {
        for number in rule.names.iter().filter_map(|name| syscall_number(arch, name)) {
            let chain = rules.entry(number.into()).or_default();
            if !rule.args.is_empty() {
                chain.push(other::SeccompRule::new(rule.args.iter().map(other_condition).collect()).unwrap());
            }
        }
    }
    let (denied, allowed) = (other::SeccompAction::Errno(1), other::SeccompAction::Allow);
    let program: other::BpfProgram =
        other::SeccompFilter::new(rules, denied, allowed, target).unwrap().try_into().unwrap();
    program.iter().map(|one| Instruction { code: one.code, jt: one.jt, jf: one.jf, k: one.k }).collect()
}

fn check(arch: Arch, target: other::TargetArch) {
    let mut profile = container_profile(&[]);
    profile.rules.retain(|rule| rule.action == SeccompAction::Allow);
    let ours = compile(&profile, arch).unwrap().program;
    let theirs = other_program(&profile, arch, target);
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let highest = names.filter_map(|name| syscall_number(arch, name)).max().unwrap();
    for number in 0..600 {
        for arguments in argument_patterns() {
            let call = Call::new(arch, number, arguments);
            let expected = if number > highest { ENOSYS } else { filter(&theirs, &call).unwrap().value };
            assert_eq!(filter(&ours, &call).unwrap().value, expected, "{call:x?}");
        }
    }
    assert!(ours.len() * 3 < theirs.len(), "{} against {}", ours.len(), theirs.len());
}

#[test]
fn x86_64_gets_the_same_answers() {
    check(Arch::X86_64, other::TargetArch::x86_64);
}

#[test]
fn aarch64_gets_the_same_answers() {
    check(Arch::Aarch64, other::TargetArch::aarch64);
}

#[test]
fn riscv64_gets_the_same_answers() {
    check(Arch::Riscv64, other::TargetArch::riscv64);
}
