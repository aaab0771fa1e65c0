//! Device rules as v1 lines and as an eBPF program, executed and compared.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use runtime_spec::model::{DeviceRule, DeviceRuleKind};
use security::devices::{
    Access, BpfInsn, DeviceError, RuleSet, V1File, V1Line, default_rules, emulate, initial, program, transition,
};
use security::simulate::{DeviceAccess, device};

const CHAR: Option<DeviceRuleKind> = Some(DeviceRuleKind::Char);
const BLOCK: Option<DeviceRuleKind> = Some(DeviceRuleKind::Block);

fn rule(allow: bool, kind: Option<DeviceRuleKind>, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind,
        major: u32::try_from(major).ok(),
        minor: u32::try_from(minor).ok(),
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    }
}

fn deny_all() -> DeviceRule {
    rule(false, None, -1, -1, "rwm")
}

fn allow_all() -> DeviceRule {
    rule(true, None, -1, -1, "rwm")
}

fn texts(lines: &[V1Line]) -> Vec<String> {
    lines.iter().map(|line| format!("{} {}", line.file.name(), line.text)).collect()
}

/// Emulates, then renders for a new cgroup.
fn check(rules: &[DeviceRule], expected: &[&str]) {
    assert_eq!(texts(&initial(&emulate(rules).unwrap())), expected);
}

#[test]
fn default_rules_are_those_of_every_container() {
    let mut rules = vec![deny_all()];
    rules.extend(default_rules());
    check(
        &rules,
        &[
            "devices.deny a *:* rwm",
            "devices.allow b *:* m",
            "devices.allow c *:* m",
            "devices.allow c 1:3 rwm",
            "devices.allow c 1:5 rwm",
            "devices.allow c 1:7 rwm",
            "devices.allow c 1:8 rwm",
            "devices.allow c 1:9 rwm",
            "devices.allow c 5:0 rwm",
            "devices.allow c 5:2 rwm",
            "devices.allow c 10:200 rwm",
            "devices.allow c 136:* rwm",
        ],
    );
}

#[test]
fn nothing_is_allowed_without_rules() {
    check(&[], &["devices.deny a *:* rwm"]);
    assert!(!emulate(&[]).unwrap().allows_everything());
    assert!(emulate(&[allow_all()]).unwrap().allows_everything());
}

#[test]
fn a_later_rule_for_everything_starts_anew() {
    check(&[rule(true, CHAR, 1, 3, "rwm"), allow_all()], &["devices.allow a *:* rwm"]);
    check(&[allow_all(), rule(false, CHAR, 1, 3, "r"), deny_all()], &["devices.deny a *:* rwm"]);
    check(&[allow_all(), rule(false, None, 8, -1, "w")], &["devices.deny a *:* rwm"]);
}

#[test]
fn allowing_both_kinds_with_a_limit_allows_no_more() {
    let expected = ["devices.deny a *:* rwm", "devices.allow b 10:229 rw", "devices.allow c 10:229 rw"];
    check(&[rule(true, None, 10, 229, "rw")], &expected);
}

#[test]
fn later_rules_win() {
    check(
        &[rule(true, CHAR, 1, 3, "rwm"), rule(false, CHAR, 1, 3, "w")],
        &["devices.deny a *:* rwm", "devices.allow c 1:3 rm"],
    );
    check(&[rule(true, CHAR, 1, 3, "rwm"), rule(false, CHAR, 1, -1, "rwm")], &["devices.deny a *:* rwm"]);
    check(
        &[allow_all(), rule(false, BLOCK, 8, 0, "rwm"), rule(true, BLOCK, 8, 0, "r")],
        &["devices.allow a *:* rwm", "devices.deny b 8:0 wm"],
    );
}

#[test]
fn rights_of_one_device_add_up_and_covered_ones_go() {
    check(
        &[rule(true, CHAR, 1, 3, "r"), rule(true, CHAR, 1, 3, "w")],
        &["devices.deny a *:* rwm", "devices.allow c 1:3 rw"],
    );
    check(
        &[rule(true, CHAR, 1, 3, "rw"), rule(true, CHAR, 1, -1, "rwm")],
        &["devices.deny a *:* rwm", "devices.allow c 1:* rwm"],
    );
    // A read-write open needs both rights in one exception, so this one stays whole.
    check(
        &[rule(true, CHAR, 1, 3, "rw"), rule(true, CHAR, 1, -1, "r")],
        &["devices.deny a *:* rwm", "devices.allow c 1:* r", "devices.allow c 1:3 rw"],
    );
    check(
        &[allow_all(), rule(false, CHAR, 1, 3, "rw"), rule(false, CHAR, 1, -1, "r")],
        &["devices.allow a *:* rwm", "devices.deny c 1:* r", "devices.deny c 1:3 w"],
    );
}

#[test]
fn a_hole_in_a_wider_rule_is_an_error() {
    for rules in [
        [rule(true, CHAR, 1, -1, "rwm"), rule(false, CHAR, 1, 3, "w")],
        [rule(true, CHAR, -1, -1, "m"), rule(false, CHAR, 10, 229, "rwm")],
        [rule(true, CHAR, 1, -1, "r"), rule(false, CHAR, -1, 3, "r")],
    ] {
        assert!(matches!(emulate(&rules), Err(DeviceError::Hole { .. })), "{rules:?}");
    }
    // Other rights or the other kind are no hole.
    assert!(emulate(&[rule(true, CHAR, 1, -1, "rm"), rule(false, CHAR, 1, 3, "w")]).is_ok());
    assert!(emulate(&[rule(true, CHAR, 1, -1, "rwm"), rule(false, BLOCK, 1, 3, "w")]).is_ok());
    let error = emulate(&[rule(true, CHAR, 1, -1, "rwm"), rule(false, CHAR, 1, 3, "w")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "device rule \"c 1:3 w\" would cut a hole into the earlier, wider rule \"c 1:* rwm\""
    );
}

#[test]
fn a_transition_adds_before_it_takes_away() {
    let from = emulate(&[rule(true, CHAR, 1, -1, "rw"), rule(true, CHAR, 5, 0, "rwm")]).unwrap();
    let to = emulate(&[rule(true, CHAR, 1, 3, "rw"), rule(true, CHAR, 5, 0, "rm")]).unwrap();
    let expected = ["devices.allow c 1:3 rw", "devices.deny c 1:* rw", "devices.deny c 5:0 w"];
    assert_eq!(texts(&transition(&from, &to).unwrap()), expected);
    assert_eq!(transition(&from, &from), Ok(vec![]));
}

#[test]
fn a_deny_list_changes_by_its_exceptions() {
    let from = emulate(&[allow_all(), rule(false, BLOCK, 8, 0, "rwm")]).unwrap();
    let to = emulate(&[allow_all(), rule(false, BLOCK, 8, 1, "w")]).unwrap();
    assert_eq!(texts(&transition(&from, &to).unwrap()), ["devices.deny b 8:1 w", "devices.allow b 8:0 rwm"]);
}

#[test]
fn a_live_cgroup_never_gets_a_line_for_everything() {
    let list = emulate(&[rule(true, CHAR, 1, 3, "rw")]).unwrap();
    let all = emulate(&[allow_all()]).unwrap();
    let most = emulate(&[allow_all(), rule(false, CHAR, 1, 3, "rw")]).unwrap();
    assert_eq!(texts(&transition(&list, &all).unwrap()), ["devices.allow c *:* rwm", "devices.allow b *:* rwm"]);
    assert_eq!(transition(&all, &list), Err(DeviceError::DefaultChange));
    assert_eq!(transition(&list, &most), Err(DeviceError::DefaultChange));
}

#[test]
fn the_kernels_list_is_read_back() {
    let mut rules = vec![deny_all()];
    rules.extend(default_rules());
    let set = emulate(&rules).unwrap();
    let list: String = initial(&set)[1..].iter().map(|line| format!("{}\n", line.text)).collect();
    assert_eq!(RuleSet::parse_list(&list), Ok(set));
    assert_eq!(RuleSet::parse_list("a *:* rwm\n"), Ok(emulate(&[allow_all()]).unwrap()));
    for bad in ["c 1:3", "x 1:3 rwm", "c 1 rwm", "c 1:y rwm", "c 1:3 q"] {
        assert_eq!(RuleSet::parse_list(bad), Err(DeviceError::List(bad.to_owned())));
    }
}

fn access_of(bits: u16) -> Access {
    [(1, Access::MKNOD), (2, Access::READ), (4, Access::WRITE)]
        .into_iter()
        .filter(|(bit, _)| bits & bit != 0)
        .fold(Access::default(), |all, (_, access)| all.union(access))
}

/// The verifier's first look: jumps lead forward and stay inside, nothing is out of reach, the end is an exit.
fn check_shape(program: &[BpfInsn]) {
    let mut reached = vec![false; program.len()];
    reached[0] = true;
    for (at, insn) in program.iter().enumerate() {
        assert!(reached[at], "instruction {at} is out of reach");
        let jumps = matches!(insn.code, 0x15 | 0x55 | 0x5d);
        if insn.code != 0x95 {
            reached[at + 1] = true;
        }
        if jumps {
            reached[at + 1 + usize::try_from(insn.off).unwrap()] = true;
        }
    }
    assert_eq!(program.last().unwrap().code, 0x95);
}

/// The program answers as the set does.
fn check_program(set: &RuleSet) {
    let program = program(set);
    check_shape(&program);
    assert!(program.len() <= 8 + 11 * set.exceptions().count(), "{} instructions", program.len());
    for kind in [DeviceRuleKind::Block, DeviceRuleKind::Char] {
        for major in [0, 1, 5, 8, 136, u32::MAX] {
            for minor in [0, 1, 3, 255, 0x8000_0000] {
                for access in 1..8 {
                    let number = if kind == DeviceRuleKind::Block { 1 } else { 2 };
                    let request = DeviceAccess { kind: number, access, major, minor };
                    let expected = set.allows(kind, major, minor, access_of(access));
                    assert_eq!(device(&program, &request), Ok(u64::from(expected)), "{request:?} {set:?}");
                }
            }
        }
    }
}

#[test]
fn programs_answer_as_their_sets() {
    check_program(&emulate(&[]).unwrap());
    check_program(&emulate(&[allow_all()]).unwrap());
    check_program(&emulate(&default_rules()).unwrap());
    check_program(&emulate(&[allow_all(), rule(false, CHAR, 1, 3, "w"), rule(false, BLOCK, 8, -1, "rwm")]).unwrap());
    check_program(&emulate(&[rule(true, CHAR, 0xffff_ffff, 0x8000_0000, "rw")]).unwrap());
}

#[test]
fn a_denied_right_denies_an_open_that_asks_for_more() {
    let set = emulate(&[allow_all(), rule(false, CHAR, 1, 3, "w")]).unwrap();
    let request = DeviceAccess { kind: 2, access: 2 | 4, major: 1, minor: 3 };
    assert_eq!(device(&program(&set), &request), Ok(0));
    assert_eq!(device(&program(&set), &DeviceAccess { access: 2, ..request }), Ok(1));
}

#[test]
fn instructions_have_the_kernels_layout() {
    let program = program(&emulate(&[rule(true, CHAR, 1, 3, "rwm")]).unwrap());
    let bytes: Vec<u8> = program.iter().flat_map(|insn| insn.to_bytes()).collect();
    assert_eq!(program.len(), 13);
    #[cfg(target_endian = "little")]
    {
        assert_eq!(bytes[..8], [0x61, 0x12, 0, 0, 0, 0, 0, 0], "r2 = *(u32 *)(r1 + 0)");
        assert_eq!(bytes[48..56], [0x55, 0x02, 4, 0, 2, 0, 0, 0], "if r2 != 2 goto +4");
        assert_eq!(bytes[56..64], [0x55, 0x04, 3, 0, 1, 0, 0, 0], "if r4 != 1 goto +3");
        assert_eq!(bytes[64..72], [0x55, 0x05, 2, 0, 3, 0, 0, 0], "if r5 != 3 goto +2");
        assert_eq!(bytes[72..88], [0xb4, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0], "return 1");
        assert_eq!(bytes[88..], [0xb4, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0], "return 0");
    }
}

fn any_rule() -> impl Strategy<Value = DeviceRule> {
    let number = || prop::sample::select(vec![-1_i64, 0, 1, 3, 5, 8]);
    let kind = prop::sample::select(vec![CHAR, CHAR, BLOCK, None]);
    (any::<bool>(), kind, number(), number(), 1..8_u8).prop_map(|(allow, kind, major, minor, access)| DeviceRule {
        read: access & 1 != 0,
        write: access & 2 != 0,
        mknod: access & 4 != 0,
        ..rule(allow, kind, major, minor, "")
    })
}

fn any_set() -> impl Strategy<Value = RuleSet> {
    prop::collection::vec(any_rule(), 0..8).prop_filter_map("cuts a hole", |rules| emulate(&rules).ok())
}

/// What a v1 cgroup does with a line: the kernel's rules, in short.
fn write(list: &mut RuleSet, line: &V1Line) {
    let mut fields = line.text.split([' ', ':']);
    let kind = fields.next().unwrap();
    assert_ne!(kind, "a");
    let allow = line.file == V1File::Allow;
    let current: Vec<String> = initial(list)[1..].iter().map(|line| line.text.clone()).collect();
    let mut exceptions: Vec<(String, String)> = current
        .iter()
        .map(|text| text.rsplit_once(' ').unwrap())
        .map(|(key, access)| (key.to_owned(), access.to_owned()))
        .collect();
    let (key, access) = line.text.rsplit_once(' ').unwrap();
    let place = exceptions.iter().position(|(known, _)| known == key);
    if allow == list.default_allow {
        let place = place.expect("takes away only what is there");
        exceptions[place].1.retain(|letter| !access.contains(letter));
        exceptions.retain(|(_, access)| !access.is_empty());
    } else {
        match place {
            Some(place) => exceptions[place].1.push_str(access),
            None => exceptions.push((key.to_owned(), access.to_owned())),
        }
    }
    let text: String = exceptions.iter().map(|(key, access)| format!("{key} {access}\n")).collect();
    let default_allow = list.default_allow;
    *list = RuleSet::parse_list(&text).unwrap();
    list.default_allow = default_allow;
}

/// All answers of a set, for comparison.
fn answers(set: &RuleSet) -> Vec<bool> {
    let mut answers = Vec::new();
    for kind in [DeviceRuleKind::Block, DeviceRuleKind::Char] {
        for major in [0, 1, 3, 5, 8, 9] {
            for minor in [0, 1, 3, 5, 8, 9] {
                answers.extend((1..8).map(|access| set.allows(kind, major, minor, access_of(access))));
            }
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sets_agree_with_their_programs(set in any_set()) {
        check_program(&set);
    }

    #[test]
    fn transitions_arrive_and_keep_what_both_sets_allow(from in any_set(), to in any_set()) {
        let Ok(lines) = transition(&from, &to) else {
            prop_assert_ne!(from.default_allow, to.default_allow);
            return Ok(());
        };
        let (before, after) = (answers(&from), answers(&to));
        let mut list = from.clone();
        for line in &lines {
            write(&mut list, line);
            for ((now, before), after) in answers(&list).iter().zip(&before).zip(&after) {
                prop_assert!(!(*before && *after) || *now, "{:?} denies what both allow", line);
            }
        }
        prop_assert_eq!(answers(&list), after);
    }
}
