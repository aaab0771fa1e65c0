//! What a whole system gets of its groups.

use super::*;
use crate::guest_cgroups::{ANNOTATION, GuestCgroups};

const AT: &str = "/annotations/io.skep.guest-cgroups";

#[test]
fn groups_for_a_guest_need_a_namespace() {
    assert_eq!(patched(&json!({})).spec.unwrap().guest_cgroups, None);
    let namespaces = json!([{"type": "mount"}, {"type": "cgroup"}]);
    let unified = json!({"annotations": {ANNOTATION: "unified"}, "linux": {"namespaces": namespaces}});
    assert_eq!(patched(&unified).spec.unwrap().guest_cgroups, Some(GuestCgroups::Unified));
    check(
        json!({"annotations": {ANNOTATION: "some"}}),
        &[
            (Error, AT, "needs a namespace of type \"cgroup\""),
            (Error, AT, "must be \"all\" or \"unified\", not \"some\""),
        ],
    );
}
