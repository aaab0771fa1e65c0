use super::*;
use crate::model::{IdMapping, NamespaceKind, TimeClock, TimeOffset};

#[test]
fn kinds_and_paths() {
    let all: Vec<Value> =
        NamespaceKind::ALL.iter().map(|kind| json!({"type": kind.oci_name(), "path": "/n"})).collect();
    assert_eq!(lowered(json!({"linux": {"namespaces": all}})).namespaces.len(), 8);
    let spec = lowered(json!({"linux": {"namespaces": [{"type": "pid", "path": ""}, {"type": "ipc", "path": "/i"}]}}));
    assert!(spec.makes(NamespaceKind::Pid) && !spec.makes(NamespaceKind::Ipc));
    check(
        json!({"linux": {"namespaces": [
            {"type": "pid"}, {"type": "net"}, {"type": "pid", "path": "/p"}, {}, {"type": "ipc", "path": "i"},
        ]}}),
        &[
            (Error, "/linux/namespaces/1/type", "\"net\" is not a type of namespace"),
            (Error, "/linux/namespaces/2/type", "\"pid\" stands in the list twice"),
            (Error, "/linux/namespaces/3/type", "linux.namespaces[3].type is required"),
            (Error, "/linux/namespaces/4/path", "must be an absolute path, not \"i\""),
        ],
    );
}

/// A definition with a new user namespace and these maps.
fn user(uids: Value, gids: Value) -> Value {
    json!({"linux": {"namespaces": [{"type": "user"}], "uidMappings": uids, "gidMappings": gids}})
}

fn range(container: u64, host: u64, size: u64) -> Value {
    json!({"containerID": container, "hostID": host, "size": size})
}

#[test]
fn mappings() {
    let good = json!([range(0, 1000, 32_000)]);
    let spec = lowered(user(good.clone(), good.clone()));
    assert_eq!(spec.uid_mappings, [IdMapping { container_id: 0, host_id: 1000, size: 32_000 }]);
    check(user(json!([]), Value::Null), &[(Warning, "/linux/uidMappings", "is absent")]);
    let root = [IdMapping { container_id: 0, host_id: 0, size: 1 }];
    let spec = lowered(user(Value::Null, Value::Null));
    assert_eq!((&spec.uid_mappings[..], &spec.gid_mappings[..]), (&root[..], &root[..]));
    check(user(good.clone(), json!([])), &[(Error, "/linux/gidMappings", "is required for a new user namespace")]);
    check(
        json!({"linux": {"uidMappings": good}}),
        &[(Error, "/linux/uidMappings", "needs a namespace of type \"user\"")],
    );
    let path = json!({"linux": {"namespaces": [{"type": "user", "path": "/u"}], "uidMappings": good}});
    // The engine compares them with what the namespace has.
    check(path, &[]);
    check(
        user(json!([range(0, 0, 0)]), good.clone()),
        &[
            (Error, "/linux/uidMappings/0/size", "at least 1, not 0"),
            (Warning, "/linux/uidMappings", "id 0"),
            (Error, "/process/user/uid", "0 is not mapped"),
        ],
    );
    check(user(json!([range(0, 0, 4_294_967_295)]), good.clone()), &[]);
    check(
        user(json!([range(0, 1, 4_294_967_295)]), good.clone()),
        &[(Error, "/linux/uidMappings/0/hostID", "1 with size 4294967295 goes beyond 4294967294")],
    );
    check(
        user(json!([range(0, 1, 1), {"containerID": 9}]), good.clone()),
        &[(Error, "/linux/uidMappings/1/hostID", "is required"), (Error, "/linux/uidMappings/1/size", "is required")],
    );
    check(
        user(json!([range(0, 100, 10), range(9, 500, 10), range(50, 509, 1)]), good.clone()),
        &[
            (Error, "/linux/uidMappings/1", "overlaps the range with index 0"),
            (Error, "/linux/uidMappings/2", "overlaps the range with index 1"),
        ],
    );
    let many: Vec<Value> = (0..341).map(|id| range(id, id, 1)).collect();
    check(
        user(json!(many), good.clone()),
        &[(Error, "/linux/uidMappings", "has 341 ranges"), (Error, "/linux/uidMappings", "is required")],
    );
    check(
        user(json!([range(1, 1000, 1)]), good.clone()),
        &[(Warning, "/linux/uidMappings", "does not map id 0"), (Error, "/process/user/uid", "0 is not mapped")],
    );
}

#[test]
fn ids_of_the_process_are_mapped() {
    let mut patch = user(json!([range(0, 1000, 10)]), json!([range(0, 1000, 10)]));
    merge(&mut patch, &json!({"process": {"user": {"uid": 10, "gid": 11, "additionalGids": [9, 12]}}}));
    check(
        patch,
        &[
            (Error, "/process/user/uid", "10 is not mapped"),
            (Error, "/process/user/gid", "11 is not mapped"),
            (Error, "/process/user/additionalGids/1", "12 is not mapped"),
        ],
    );
    check(json!({"process": {"user": {"uid": 5000}}}), &[]);
}

#[test]
fn time_offsets() {
    let with = |offsets: Value| json!({"linux": {"namespaces": [{"type": "time"}], "timeOffsets": offsets}});
    let spec = lowered(with(json!({"boottime": {"secs": -5, "nanosecs": 7}, "monotonic": {}})));
    let expected = [
        TimeOffset { clock: TimeClock::Boottime, secs: -5, nanosecs: 7 },
        TimeOffset { clock: TimeClock::Monotonic, secs: 0, nanosecs: 0 },
    ];
    assert_eq!(spec.time_offsets, expected);
    check(with(json!({"realtime": {"secs": 1}})), &[(Error, "/linux/timeOffsets/realtime", "is not a clock")]);
    check(
        with(json!({"monotonic": {"nanosecs": 1_000_000_000}})),
        &[(Error, "/linux/timeOffsets/monotonic/nanosecs", "at most 999999999")],
    );
    check(
        json!({"linux": {"timeOffsets": {"monotonic": {}}}}),
        &[(Error, "/linux/timeOffsets", "needs a namespace of type \"time\"")],
    );
    check(
        json!({"linux": {"namespaces": [{"type": "time", "path": "/t"}], "timeOffsets": {"monotonic": {}}}}),
        &[(Error, "/linux/timeOffsets", "joined")],
    );
    check(json!({"linux": {"timeOffsets": {}}}), &[]);
}
