//! Compares with libseccomp, fed as runc feeds it. Only with the feature `libseccomp-oracle`, which links the C library.
#![cfg(feature = "libseccomp-oracle")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{arg, argument_patterns, container_profile, rule, seccomp};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use proptest::prelude::*;
use runtime_spec::model::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};
use security::seccomp::{Arch, Instruction, compile};
use security::simulate::{Call, check_filter, filter};

const EPERM: SeccompAction = SeccompAction::Errno(1);
const ENOSYS: u32 = 0x0005_0026;

fn library_arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X86 => ScmpArch::X86,
        Arch::X32 => ScmpArch::X32,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Arm => ScmpArch::Arm,
        Arch::Riscv64 => ScmpArch::Riscv64,
        Arch::Ppc64le => ScmpArch::Ppc64Le,
        Arch::S390x => ScmpArch::S390X,
    }
}

fn library_action(action: SeccompAction) -> ScmpAction {
    match action {
        SeccompAction::KillProcess => ScmpAction::KillProcess,
        SeccompAction::KillThread => ScmpAction::KillThread,
        SeccompAction::Trap => ScmpAction::Trap,
        SeccompAction::Errno(errno) => ScmpAction::Errno(errno.into()),
        SeccompAction::Trace(data) => ScmpAction::Trace(data),
        SeccompAction::Log => ScmpAction::Log,
        SeccompAction::Allow => ScmpAction::Allow,
        SeccompAction::Notify => ScmpAction::Notify,
    }
}

fn library_condition(condition: &SeccompArg) -> ScmpArgCompare {
    let (op, datum) = match condition.op {
        SeccompOp::Ne => (ScmpCompareOp::NotEqual, condition.value),
        SeccompOp::Lt => (ScmpCompareOp::Less, condition.value),
        SeccompOp::Le => (ScmpCompareOp::LessOrEqual, condition.value),
        SeccompOp::Eq => (ScmpCompareOp::Equal, condition.value),
        SeccompOp::Ge => (ScmpCompareOp::GreaterEqual, condition.value),
        SeccompOp::Gt => (ScmpCompareOp::Greater, condition.value),
        SeccompOp::MaskedEq => (ScmpCompareOp::MaskedEqual(condition.value), condition.value_two),
    };
    ScmpArgCompare::new(condition.index.into(), op, datum)
}

/// The library's filter for the listed architectures, none of it added yet.
fn context(profile: &Seccomp) -> ScmpFilterContext {
    let mut context = ScmpFilterContext::new(library_action(profile.default_action)).unwrap();
    for arch in Arch::ALL.into_iter().filter(|arch| profile.architectures.iter().any(|name| name == arch.name())) {
        context.add_arch(library_arch(arch)).unwrap();
    }
    context
}

/// Adds one name of a rule as runc does. `Ok` for an unknown name.
fn add(
    context: &mut ScmpFilterContext,
    profile: &Seccomp,
    rule: &SeccompRule,
    name: &str,
) -> Result<(), libseccomp::error::SeccompError> {
    let Ok(call) = ScmpSyscall::from_name(name) else { return Ok(()) };
    if rule.action == profile.default_action {
        return Ok(());
    }
    let action = library_action(rule.action);
    let conditions: Vec<ScmpArgCompare> = rule.args.iter().map(library_condition).collect();
    let repeated = rule.args.iter().any(|a| rule.args.iter().filter(|b| a.index == b.index).count() > 1);
    if conditions.is_empty() {
        context.add_rule(action, call)?;
    } else if repeated {
        for condition in conditions {
            context.add_rule_conditional(action, call, &[condition])?;
        }
    } else {
        context.add_rule_conditional(action, call, &conditions)?;
    }
    Ok(())
}

fn export(context: &ScmpFilterContext) -> Vec<Instruction> {
    let mut file = tempfile();
    context.export_bpf(&file).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    let decode = |bytes: &[u8]| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    bytes.chunks_exact(8).map(decode).collect()
}

/// A file without a name.
fn tempfile() -> std::fs::File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("filter-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

/// The highest number that the profile names, as the module documentation of `security::seccomp` has it: like runc, but
/// the multiplexers and direct calls of sockets and IPC count.
fn highest(profile: &Seccomp, arch: Arch) -> Option<u32> {
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    names.filter_map(|name| ours_or_multiplexer(arch, name)).max()
}

fn ours_or_multiplexer(arch: Arch, name: &str) -> Option<u32> {
    let rewritten = ScmpSyscall::from_name_by_arch_rewrite(name, library_arch(arch)).ok();
    let rewritten = rewritten.and_then(|call| u32::try_from(call.as_raw_syscall()).ok());
    rewritten.max(security::seccomp::syscall_number(arch, name))
}

/// Drops names that the library does not know, or not for all architectures of the family: it is older than our tables.
fn known_to_the_library(mut profile: Seccomp) -> Seccomp {
    for rule in &mut profile.rules {
        rule.names.retain(|name| FAMILY.into_iter().all(|arch| is_known(name, arch)));
    }
    profile
}

fn is_known(name: &str, arch: Arch) -> bool {
    match (
        ScmpSyscall::from_name_by_arch_rewrite(name, library_arch(arch)),
        security::seccomp::syscall_number(arch, name),
    ) {
        (Err(_), _) => false,
        (Ok(call), Some(_)) => call.as_raw_syscall() >= 0,
        (Ok(_), None) => true,
    }
}

/// Compares all answers for the given architectures. The library's filter comes after the stage that answers ENOSYS, as
/// in runc.
fn compare(
    profile: &Seccomp,
    library: &[Instruction],
    archs: &[Arch],
    numbers: std::ops::Range<u32>,
    patterns: &[[u64; 6]],
) -> usize {
    let ours = compile(profile, Arch::X86_64).unwrap();
    check_filter(&ours.program).unwrap();
    let hides = !matches!(profile.default_action, SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace(_));
    let mut compared = 0;
    for &arch in archs {
        let highest = highest(profile, arch).filter(|_| hides);
        let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
        let listed = arch == Arch::X86_64 || profile.architectures.iter().any(|name| name == arch.name());
        for number in numbers.clone().map(|number| number | bit).chain([0x3fff_ffff | bit]) {
            for arguments in patterns {
                let call = Call::new(arch, number, *arguments);
                let expected = match highest {
                    Some(highest) if listed && number > highest => ENOSYS,
                    _ => filter(library, &call).unwrap().value,
                };
                let answer = filter(&ours.program, &call).unwrap().value;
                assert_eq!(answer, expected, "{call:x?}: ours {answer:#x}, library {expected:#x}");
                compared += 1;
            }
        }
    }
    compared
}

const FAMILY: [Arch; 3] = [Arch::X86_64, Arch::X86, Arch::X32];

fn check(profile: Seccomp) {
    let profile = known_to_the_library(profile);
    let mut library = context(&profile);
    for rule in &profile.rules {
        for name in &rule.names {
            add(&mut library, &profile, rule, name).unwrap();
        }
    }
    let archs = [&FAMILY[..], &[Arch::Aarch64]].concat();
    let compared = compare(&profile, &export(&library), &archs, 0..600, &argument_patterns());
    assert!(compared > 150_000);
}

#[test]
fn container_profile_gets_the_same_answers() {
    check(container_profile(&[]));
    check(container_profile(&["x86_64", "x86", "x32"]));
    check(container_profile(&["x86"]));
    check(container_profile(&["x32"]));
}

#[test]
fn container_profile_gets_the_same_answers_with_other_defaults() {
    for default in [SeccompAction::KillProcess, SeccompAction::Trap, SeccompAction::Log, SeccompAction::Trace(9)] {
        let mut profile = container_profile(&["x86", "x32"]);
        profile.default_action = default;
        check(profile);
    }
}

#[test]
fn a_deny_list_gets_the_same_answers() {
    let rules = vec![
        rule(&["mount", "umount2", "ptrace", "bpf"], EPERM, &[]),
        rule(&["socket"], SeccompAction::Errno(97), &[arg(0, SeccompOp::Eq, 40, 0)]),
        rule(&["shmat"], EPERM, &[arg(2, SeccompOp::Gt, 5, 0)]),
        rule(&["clone"], EPERM, &[arg(0, SeccompOp::MaskedEq, 0x0200_0000, 0x0200_0000)]),
        rule(&["clone3"], SeccompAction::Errno(38), &[]),
        rule(&["personality"], SeccompAction::KillProcess, &[arg(0, SeccompOp::Lt, 3, 0), arg(0, SeccompOp::Gt, 8, 0)]),
    ];
    check(seccomp(SeccompAction::Allow, &["x86_64", "x86", "x32"], rules));
}

#[test]
fn numbers_are_those_of_the_library() {
    for arch in Arch::ALL {
        let mut agreed = 0;
        for (name, number) in security::seccomp::syscalls(arch) {
            let Ok(call) = ScmpSyscall::from_name_by_arch(name, library_arch(arch)) else { continue };
            let library = call.as_raw_syscall();
            // Negative: a call that the library names but the architecture lacks, or one that it multiplexes.
            if library >= 0 {
                assert_eq!(u32::try_from(library).unwrap(), number, "{name} on {arch:?}");
                agreed += 1;
            }
        }
        assert!(agreed > 280, "only {agreed} names on {arch:?}");
    }
}

const SMALL: [u64; 7] = [0, 1, 2, 3, 5, 8, 0xffff_ffff];

/// Rules for one call with different actions and at most one condition each.
fn any_rules(
    indexes: std::ops::Range<u8>,
    ops: &[SeccompOp],
    values: &[u64],
) -> impl Strategy<Value = Vec<SeccompRule>> + use<> {
    let action = prop::sample::select(vec![SeccompAction::Allow, SeccompAction::Log, SeccompAction::Errno(7)]);
    let name = prop::sample::select(vec!["read", "read", "socket"]);
    let value = prop::sample::select(values.to_vec());
    let condition = (indexes, prop::sample::select(ops.to_vec()), value.clone(), value);
    prop::collection::vec((name, prop::option::weighted(0.9, condition), action), 1..7).prop_map(|rules| {
        let rules = rules.into_iter().map(|(name, condition, action)| {
            let args = condition.map(|(index, op, value, value_two)| arg(index, op, value, value_two));
            rule(&[name], action, args.as_slice())
        });
        rules.collect()
    })
}

/// Adds what the library takes (it refuses contradictions, and runc then the profile) and compares.
fn check_rules(rules: Vec<SeccompRule>, archs: &[Arch], patterns: &[[u64; 6]]) {
    let mut profile = seccomp(EPERM, &["x86", "x32"], Vec::new());
    let mut library = context(&profile);
    for rule in rules {
        if add(&mut library, &profile, &rule, &rule.names[0]).is_ok() {
            profile.rules.push(rule);
        }
    }
    let program = export(&library);
    for numbers in [0..4, 40..43, 100..104, 358..361] {
        compare(&profile, &program, archs, numbers, patterns);
    }
}

/// Arguments below 2^32.
fn small_patterns() -> Vec<[u64; 6]> {
    argument_patterns().into_iter().filter(|pattern| pattern.iter().all(|argument| *argument < 1 << 32)).collect()
}

// What libseccomp 2.5 gets wrong where rules overlap, and why these profiles have one 32-bit comparison per rule, or
// 64-bit ones whose upper halves are all zero:
// - It looks at the wrong word of the arguments where a rule fails in its second comparison (of another argument, or of
//   a lower half) and the next rule begins with the first word again.
// - The upper halves of several rules share one action, so that one rule's action may be taken for another's.
proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overlapping_rules_get_the_same_answers_with_32_bits(
        rules in any_rules(
            0..3,
            &[
                SeccompOp::Eq,
                SeccompOp::Ne,
                SeccompOp::Lt,
                SeccompOp::Le,
                SeccompOp::Gt,
                SeccompOp::Ge,
                SeccompOp::MaskedEq,
            ],
            &[0, 1, 2, 3, 5, 8, 0xffff_ffff, 0x1_0000_0001, 0x5_0000_0005],
        ),
    ) {
        check_rules(rules, &[Arch::X86, Arch::X32], &argument_patterns());
    }

    #[test]
    fn overlapping_equalities_get_the_same_answers(
        rules in any_rules(0..1, &[SeccompOp::Eq, SeccompOp::Ne], &SMALL),
    ) {
        check_rules(rules, &FAMILY, &small_patterns());
    }

    #[test]
    fn overlapping_lower_bounds_get_the_same_answers(
        rules in any_rules(0..1, &[SeccompOp::Gt, SeccompOp::Ge], &SMALL),
    ) {
        check_rules(rules, &FAMILY, &small_patterns());
    }

    #[test]
    fn overlapping_upper_bounds_get_the_same_answers(
        rules in any_rules(0..1, &[SeccompOp::Lt, SeccompOp::Le], &SMALL),
    ) {
        check_rules(rules, &FAMILY, &small_patterns());
    }
}
