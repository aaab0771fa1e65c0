//! Compiled filters, executed: every action, operator and architecture, and random profiles against a plain
//! interpreter of the rules.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{arg, argument_patterns, container_profile, rule, seccomp};
use proptest::prelude::*;
use runtime_spec::model::{Seccomp, SeccompAction, SeccompArg, SeccompOp, SeccompRule};
use security::seccomp::{Arch, BAD_ARCH, CompileError, Filter, compile, return_value, syscall_number, syscalls};
use security::simulate::{Call, check_filter, filter};

const ALLOW: SeccompAction = SeccompAction::Allow;
const EPERM: SeccompAction = SeccompAction::Errno(1);
const ENOSYS: SeccompAction = SeccompAction::Errno(38);

fn answer(compiled: &Filter, call: &Call) -> u32 {
    filter(&compiled.program, call).unwrap().value
}

fn check(compiled: &Filter, arch: Arch, number: u32, arguments: [u64; 6], expected: SeccompAction) {
    let call = Call::new(arch, number, arguments);
    assert_eq!(answer(compiled, &call), return_value(expected), "{call:x?}");
}

#[test]
fn every_action_has_the_kernels_value() {
    for (action, value) in [
        (SeccompAction::KillProcess, 0x8000_0000),
        (SeccompAction::KillThread, 0),
        (SeccompAction::Trap, 0x0003_0000),
        (SeccompAction::Errno(13), 0x0005_000d),
        (SeccompAction::Trace(7), 0x7ff0_0007),
        (SeccompAction::Log, 0x7ffc_0000),
        (SeccompAction::Allow, 0x7fff_0000),
        (SeccompAction::Notify, 0x7fc0_0000),
    ] {
        let default = if action == ALLOW { EPERM } else { ALLOW };
        let compiled = compile(&seccomp(default, &[], vec![rule(&["getpid"], action, &[])]), Arch::X86_64).unwrap();
        assert_eq!(answer(&compiled, &Call::new(Arch::X86_64, 39, [0; 6])), value);
        assert_eq!(compiled.notifies, action == SeccompAction::Notify);
        if action != SeccompAction::Notify {
            let compiled = compile(&seccomp(action, &[], Vec::new()), Arch::X86_64).unwrap();
            assert_eq!(answer(&compiled, &Call::new(Arch::X86_64, 39, [0; 6])), value);
        }
    }
}

/// Compares around a value, on an architecture with 64 bits and one with 32, for each argument.
fn check_operator(op: SeccompOp, value: u64, value_two: u64, holds: fn(u64, u64, u64) -> bool) {
    for arch in Arch::ALL {
        for index in 0..6 {
            let rules = vec![rule(&["read"], ALLOW, &[arg(index, op, value, value_two)])];
            let compiled = compile(&seccomp(EPERM, &[arch.name()], rules), arch).unwrap();
            let mut arguments: Vec<u64> = argument_patterns().iter().map(|pattern| pattern[0]).collect();
            arguments.extend([value.wrapping_sub(1), value, value.wrapping_add(1), value ^ (1 << 32), value_two]);
            for argument in arguments {
                let width = if arch.compares_64_bits() { u64::MAX } else { 0xffff_ffff };
                let expected = holds(argument & width, value & width, value_two & width);
                let mut all = [!argument; 6];
                all[usize::from(index)] = argument;
                let number = syscall_number(arch, "read").unwrap();
                check(&compiled, arch, number, all, if expected { ALLOW } else { EPERM });
            }
        }
    }
}

#[test]
fn every_operator_compares_as_it_says() {
    for value in [0, 5, 0xffff_ffff, 0x1_0000_0000, 0x5_0000_0005, u64::MAX] {
        check_operator(SeccompOp::Eq, value, 0, |a, b, _| a == b);
        check_operator(SeccompOp::Ne, value, 0, |a, b, _| a != b);
        check_operator(SeccompOp::Lt, value, 0, |a, b, _| a < b);
        check_operator(SeccompOp::Le, value, 0, |a, b, _| a <= b);
        check_operator(SeccompOp::Gt, value, 0, |a, b, _| a > b);
        check_operator(SeccompOp::Ge, value, 0, |a, b, _| a >= b);
    }
    for (mask, value) in [(0xff, 5), (0xff, 0x105), (0, 3), (0xff_0000_00ff, 0x5_0000_0005), (u64::MAX, 8)] {
        check_operator(SeccompOp::MaskedEq, mask, value, |a, mask, value| a & mask == value & mask);
    }
}

#[test]
fn every_architecture_filters_its_own_numbers() {
    for native in Arch::ALL {
        let compiled = compile(&seccomp(EPERM, &[], vec![rule(&["execve"], ALLOW, &[])]), native).unwrap();
        let number = syscall_number(native, "execve").unwrap();
        check(&compiled, native, number, [0; 6], ALLOW);
        check(&compiled, native, number - 1, [0; 6], EPERM);
        check(&compiled, native, number + 1, [0; 6], ENOSYS);
        for foreign in Arch::ALL.into_iter().filter(|arch| arch.audit() != native.audit()) {
            check(&compiled, foreign, number, [0; 6], BAD_ARCH);
        }
    }
}

#[test]
fn all_architectures_fit_into_one_filter() {
    let names: Vec<&str> = Arch::ALL.iter().map(|arch| arch.name()).collect();
    let compiled = compile(&container_profile(&names), Arch::X86_64).unwrap();
    check_filter(&compiled.program).unwrap();
    for arch in Arch::ALL {
        check(&compiled, arch, syscall_number(arch, "execve").unwrap(), [0; 6], ALLOW);
        check(&compiled, arch, syscall_number(arch, "mount").unwrap(), [0; 6], EPERM);
        check(&compiled, arch, syscall_number(arch, "personality").unwrap(), [8; 6], ALLOW);
        check(&compiled, arch, syscall_number(arch, "personality").unwrap(), [9; 6], EPERM);
    }
}

#[test]
fn x32_is_killed_unless_it_is_listed() {
    let rules = || vec![rule(&["read"], ALLOW, &[])];
    let without = compile(&seccomp(EPERM, &["x86"], rules()), Arch::X86_64).unwrap();
    check(&without, Arch::X32, 0x4000_0000, [0; 6], BAD_ARCH);
    check(&without, Arch::X32, 0x4000_0005, [0; 6], BAD_ARCH);
    let with = compile(&seccomp(EPERM, &["x32"], rules()), Arch::X86_64).unwrap();
    check(&with, Arch::X32, 0x4000_0000, [0; 6], ALLOW);
    check(&with, Arch::X32, 0x4000_0005, [0; 6], ENOSYS);
}

#[test]
fn a_call_that_a_tracer_skips_gets_the_default_action() {
    let compiled = compile(&seccomp(EPERM, &[], vec![rule(&["read"], ALLOW, &[])]), Arch::X86_64).unwrap();
    check(&compiled, Arch::X86_64, u32::MAX, [0; 6], EPERM);
}

#[test]
fn newer_calls_do_not_exist_unless_the_default_lets_them_pass() {
    for (default, beyond) in [
        (EPERM, ENOSYS),
        (SeccompAction::KillProcess, ENOSYS),
        (SeccompAction::KillThread, ENOSYS),
        (SeccompAction::Trap, ENOSYS),
        (ALLOW, ALLOW),
        (SeccompAction::Log, SeccompAction::Log),
        (SeccompAction::Trace(3), SeccompAction::Trace(3)),
    ] {
        let compiled =
            compile(&seccomp(default, &[], vec![rule(&["statx"], SeccompAction::Errno(9), &[])]), Arch::X86_64)
                .unwrap();
        check(&compiled, Arch::X86_64, 331, [0; 6], default);
        check(&compiled, Arch::X86_64, 332, [0; 6], SeccompAction::Errno(9));
        check(&compiled, Arch::X86_64, 333, [0; 6], beyond);
        check(&compiled, Arch::X86_64, 5000, [0; 6], beyond);
    }
}

#[test]
fn profiles_that_would_lock_up_are_refused() {
    let notify = SeccompAction::Notify;
    let check = |profile: &Seccomp, expected: CompileError| {
        assert_eq!(compile(profile, Arch::X86_64), Err(expected));
    };
    check(&seccomp(notify, &[], Vec::new()), CompileError::NotifyDefault);
    check(&seccomp(ALLOW, &[], vec![rule(&["read", "write"], notify, &[])]), CompileError::NotifyWrite);
    check(&seccomp(ALLOW, &["vax"], Vec::new()), CompileError::UnknownArchitecture("vax".to_owned()));
    let rules = vec![rule(&["read"], EPERM, &[arg(6, SeccompOp::Eq, 0, 0)])];
    check(&seccomp(ALLOW, &[], rules), CompileError::ArgumentIndex(6));
}

#[test]
fn a_filter_that_is_too_long_is_refused() {
    // Each call has values of its own, so that no two can share instructions.
    let one = |name, value| rule(&[name], EPERM, &[arg(0, SeccompOp::Eq, value, 0)]);
    let rules = syscalls(Arch::X86_64)
        .flat_map(|(name, number)| (0..8).map(move |value| one(name, u64::from(number) * 8 + value)))
        .collect();
    let error = compile(&seccomp(ALLOW, &[], rules), Arch::X86_64).unwrap_err();
    assert!(matches!(error, CompileError::TooLong(length) if length > 4096), "{error}");
}

#[test]
fn flags_pass_except_for_tsync() {
    let mut profile = container_profile(&[]);
    profile.flags = 1 | 2 | 4 | 32;
    assert_eq!(compile(&profile, Arch::X86_64).unwrap().flags, 2 | 4 | 32);
}

#[test]
fn container_profile_stays_small() {
    for (architectures, longest) in [(&[][..], 150), (&["x86", "x32"][..], 500)] {
        let length = compile(&container_profile(architectures), Arch::X86_64).unwrap().program.len();
        assert!(length <= longest, "{length} instructions for {architectures:?}");
    }
}

#[test]
fn instructions_have_the_kernels_layout() {
    let compiled = compile(&container_profile(&[]), Arch::X86_64).unwrap();
    let first = compiled.program[0];
    assert_eq!((first.code, first.k), (0x20, 4), "loads the architecture");
    let expected =
        if cfg!(target_endian = "little") { [0x20, 0, 0, 0, 4, 0, 0, 0] } else { [0, 0x20, 0, 0, 0, 0, 0, 4] };
    assert_eq!(first.to_bytes(), expected);
}

/// Socket and IPC calls by their selector.
const SELECTORS: [(&str, u32, u64); 6] = [
    ("socket", 102, 1),
    ("accept", 102, 5),
    ("sendmmsg", 102, 20),
    ("semop", 117, 1),
    ("shmat", 117, 21),
    ("recv", 102, 10),
];

/// Names that random profiles are made of: with arguments, multiplexed, at both ends of the tables, unknown.
const NAMES: [&str; 22] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "poll",
    "ioctl",
    "socket",
    "accept",
    "sendmmsg",
    "semop",
    "shmat",
    "recv",
    "socketcall",
    "ipc",
    "clone",
    "personality",
    "execve",
    "statx",
    "listns",
    "arch_prctl",
    "no_such_call",
];

/// Whether one condition holds, in the plainest terms.
fn holds(arch: Arch, condition: &SeccompArg, arguments: &[u64; 6]) -> bool {
    let width = if arch.compares_64_bits() { u64::MAX } else { 0xffff_ffff };
    let (argument, value) = (arguments[usize::from(condition.index)] & width, condition.value & width);
    match condition.op {
        SeccompOp::Eq => argument == value,
        SeccompOp::Ne => argument != value,
        SeccompOp::Lt => argument < value,
        SeccompOp::Le => argument <= value,
        SeccompOp::Gt => argument > value,
        SeccompOp::Ge => argument >= value,
        SeccompOp::MaskedEq => argument & value == condition.value_two & value,
    }
}

/// Whether this one condition list, cut down by a selector, says nothing at all.
fn is_empty(arch: Arch, conditions: &[SeccompArg], selected: bool) -> bool {
    let width = if arch.compares_64_bits() { u64::MAX } else { 0xffff_ffff };
    !selected && conditions.iter().all(|condition| condition.op == SeccompOp::MaskedEq && condition.value & width == 0)
}

/// What a profile says about a call: rule by rule, name by name, with one action besides the default, so that the order
/// of conditional rules does not matter.
fn interpret(profile: &Seccomp, arch: Arch, number: u32, arguments: &[u64; 6]) -> SeccompAction {
    let mut highest = None;
    let (mut always, mut sometimes) = (None, None);
    for rule in &profile.rules {
        for name in &rule.names {
            let selectors = SELECTORS.iter().filter(|(call, ..)| call == name && arch.multiplexes());
            let mut ways: Vec<(u32, Option<u64>)> =
                selectors.map(|(_, number, selector)| (*number, Some(*selector))).collect();
            ways.extend(syscall_number(arch, name).map(|number| (number, None)));
            for (way, selector) in ways {
                highest = highest.max(Some(way));
                if way == number && rule.action != profile.default_action {
                    apply(arch, rule, selector, arguments, &mut always, &mut sometimes);
                }
            }
        }
    }
    let permissive = matches!(profile.default_action, ALLOW | SeccompAction::Log | SeccompAction::Trace(_));
    match (always.or(sometimes), highest) {
        _ if arch == Arch::S390x && number == 0 && !permissive => ENOSYS,
        (Some(action), _) => action,
        (None, Some(highest)) if !permissive && number > highest => ENOSYS,
        _ => profile.default_action,
    }
}

fn apply(
    arch: Arch,
    rule: &SeccompRule,
    selector: Option<u64>,
    arguments: &[u64; 6],
    always: &mut Option<SeccompAction>,
    sometimes: &mut Option<SeccompAction>,
) {
    let repeated = rule.args.iter().any(|a| rule.args.iter().filter(|b| a.index == b.index).count() > 1);
    let alternatives: Vec<Vec<SeccompArg>> =
        if repeated { rule.args.iter().map(|one| vec![*one]).collect() } else { vec![rule.args.clone()] };
    for conditions in alternatives {
        if is_empty(arch, &conditions, selector.is_some()) {
            always.get_or_insert(rule.action);
        }
        let rest = conditions.iter().filter(|condition| selector.is_none() || condition.index != 0);
        let width = if arch.compares_64_bits() { u64::MAX } else { 0xffff_ffff };
        if selector.is_none_or(|selector| arguments[0] & width == selector)
            && rest.into_iter().all(|condition| holds(arch, condition, arguments))
        {
            sometimes.get_or_insert(rule.action);
        }
    }
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, Just(0xffff_ffff), Just(0x1_0000_0000), Just(0x1_0000_0002), any::<u64>()]
}

fn any_arg() -> impl Strategy<Value = SeccompArg> {
    let op = prop::sample::select(vec![
        SeccompOp::Eq,
        SeccompOp::Ne,
        SeccompOp::Lt,
        SeccompOp::Le,
        SeccompOp::Gt,
        SeccompOp::Ge,
        SeccompOp::MaskedEq,
    ]);
    (0..6_u8, op, any_value(), any_value()).prop_map(|(index, op, value, value_two)| arg(index, op, value, value_two))
}

fn any_profile() -> impl Strategy<Value = Seccomp> {
    let defaults = vec![EPERM, ALLOW, SeccompAction::KillProcess, SeccompAction::Trap, SeccompAction::Log];
    let rules = prop::collection::vec(
        (
            prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..4),
            prop::collection::vec(any_arg(), 0..4),
            any::<bool>(),
        ),
        0..12,
    );
    (
        prop::sample::select(defaults),
        prop::sample::select(vec![SeccompAction::Trace(5), SeccompAction::Errno(7)]),
        rules,
    )
        .prop_map(|(default, action, rules)| {
            let rules = rules.iter().map(|(names, args, acts)| rule(names, if *acts { action } else { default }, args));
            let architectures: Vec<&str> = Arch::ALL.iter().map(|arch| arch.name()).collect();
            seccomp(default, &architectures, rules.collect())
        })
}

/// Numbers worth asking for: those of the names, their neighbours, the multiplexers, the ends.
fn numbers(arch: Arch) -> Vec<u32> {
    let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
    let mut numbers: Vec<u32> = NAMES.iter().filter_map(|name| syscall_number(arch, name)).collect();
    let neighbours: Vec<u32> =
        numbers.iter().flat_map(|number| [number.saturating_sub(1).max(bit), number + 1]).collect();
    numbers.extend(neighbours);
    numbers.extend([bit, bit + 102, bit + 117, bit + 600, bit + 0x3000_0000]);
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_profiles_agree_with_the_interpreter(
        profile in any_profile(),
        arguments in prop::collection::vec(prop::array::uniform6(any_value()), 4),
    ) {
        let compiled = compile(&profile, Arch::X86_64).unwrap();
        prop_assert!(check_filter(&compiled.program).is_ok());
        for arch in Arch::ALL {
            for number in numbers(arch) {
                for arguments in &arguments {
                    let expected = interpret(&profile, arch, number, arguments);
                    let call = Call::new(arch, number, *arguments);
                    prop_assert_eq!(answer(&compiled, &call), return_value(expected), "{:x?}", call);
                }
            }
        }
    }
}
