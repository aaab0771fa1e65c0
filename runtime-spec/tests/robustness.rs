//! No bytes, and no change to a good definition, make the crate panic or contradict itself.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use proptest::prelude::*;
use runtime_spec::{Finding, Report, Severity, example, load, load_process, load_resources};
use serde_json::Value;

/// What holds for every report.
fn check(report: &Report) {
    let refused = report.findings.iter().any(|f| f.severity == Severity::Error);
    assert_eq!(report.spec.is_none(), refused, "{:?}", report.findings);
    check_findings(&report.findings);
}

/// What holds for every list of findings.
fn check_findings(findings: &[Finding]) {
    for finding in findings {
        assert!(finding.pointer.is_empty() || finding.pointer.starts_with('/'), "{finding:?}");
        assert!(finding.section.contains(".md, "), "{finding:?}");
        assert!(!finding.message.contains('\n'), "{finding:?}");
    }
}

/// All three documents from the same bytes.
fn load_all(bytes: &[u8]) {
    check(&load(bytes));
    check_findings(&load_process(bytes).0);
    check_findings(&load_resources(bytes).0);
}

/// Values that a field may wrongly have.
fn odd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-zA-Z_0-9:/.,=-]{0,12}".prop_map(Value::from),
        prop_oneof![Just("ro"), Just("rbind"), Just("idmap"), Just("user"), Just("SCMP_ACT_NOTIFY"), Just("../..")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z./~]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Replaces, removes or repeats what a walk with these turns ends at.
fn mutate(value: &mut Value, turns: &[usize], new: Value) {
    let Some((turn, rest)) = turns.split_first() else {
        *value = new;
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let name = map.keys().nth(turn % map.len()).unwrap().clone();
            if rest.is_empty() && turn % 5 == 0 {
                map.remove(&name);
            } else {
                mutate(map.get_mut(&name).unwrap(), rest, new);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let index = turn % list.len();
            if rest.is_empty() && turn % 5 == 0 {
                let again = list[index].clone();
                list.push(again);
            } else {
                mutate(&mut list[index], rest, new);
            }
        }
        value => *value = new,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load_all(&bytes);
    }

    #[test]
    fn any_json(value in odd()) {
        load_all(value.to_string().as_bytes());
    }

    #[test]
    fn bytes_of_a_good_definition_with_damage(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = serde_json::to_vec(&example::rootless(true, 1000, 1000)).unwrap();
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        load_all(&bytes);
        load_all(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn values_of_a_good_definition_with_changes(
        changes in prop::collection::vec((prop::collection::vec(0_usize..40, 1..6), odd()), 1..4),
    ) {
        let mut document = serde_json::to_value(example::rootless(true, 1000, 1000)).unwrap();
        for (turns, new) in changes {
            mutate(&mut document, &turns, new);
        }
        load_all(document.to_string().as_bytes());
    }
}
