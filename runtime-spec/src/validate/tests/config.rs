use super::*;

#[test]
fn version() {
    for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.3.7", "1.0.0-rc5", "1.2.1+dev"] {
        check(json!({"ociVersion": good}), &[]);
    }
    check(json!({"ociVersion": "1.4.0"}), &[(Warning, "/ociVersion", "1.4.0 is newer than 1.3")]);
    check(json!({"ociVersion": "2.0.0"}), &[(Error, "/ociVersion", "major version 2")]);
    check(json!({"ociVersion": "0.9.0"}), &[(Error, "/ociVersion", "major version 0")]);
    check(
        json!({"ociVersion": "1.0"}),
        &[(Error, "/ociVersion", "must be a semantic version such as 1.2.0, not \"1.0\"")],
    );
    check(json!({"ociVersion": null}), &[(Error, "/ociVersion", "ociVersion is required")]);
}

#[test]
fn root() {
    check(json!({"root": null}), &[(Error, "/root", "root is required")]);
    check(json!({"root": {"path": null}}), &[(Error, "/root/path", "is required")]);
    check(json!({"root": {"path": ""}}), &[(Error, "/root/path", "must not be empty")]);
    check(json!({"root": {"path": "a\0b"}}), &[(Error, "/root/path", "NUL")]);
    let spec = lowered(json!({"root": {"path": "/srv/r", "readonly": true}}));
    assert_eq!((spec.root.path.as_str(), spec.root.readonly), ("/srv/r", true));
}

#[test]
fn names() {
    let spec = lowered(json!({"hostname": "h", "domainname": "d"}));
    assert_eq!((spec.hostname.as_deref(), spec.domainname.as_deref()), (Some("h"), Some("d")));
    assert_eq!(lowered(json!({"hostname": ""})).hostname, None);
    let bare = json!({"hostname": "h", "domainname": "d", "linux": {"namespaces": [{"type": "mount"}]}});
    check(
        bare,
        &[
            (Error, "/hostname", "hostname \"h\" needs a namespace of type \"uts\""),
            (Error, "/domainname", "domainname \"d\" needs"),
        ],
    );
    check(json!({"linux": {"namespaces": [{"type": "uts", "path": "/ns/uts"}]}, "hostname": "h"}), &[]);
    check(json!({"hostname": "h".repeat(64)}), &[]);
    check(json!({"hostname": "h".repeat(65)}), &[(Error, "/hostname", "longer than 64 bytes")]);
}

#[test]
fn annotations() {
    let spec = lowered(json!({"annotations": {"com.example.a": "1", "b": ""}}));
    assert_eq!(spec.annotations.len(), 2);
    check(json!({"annotations": {"": "x"}}), &[(Error, "/annotations/", "empty key")]);
    check(
        json!({"annotations": {"a/b": 1, "c": {}, "d": true, "e": []}}),
        &[
            (Error, "/annotations/a~1b", "annotations[\"a/b\"] must be a string, not 1"),
            (Error, "/annotations/c", "an object"),
            (Error, "/annotations/d", "not true"),
            (Error, "/annotations/e", "an array"),
        ],
    );
}

#[test]
fn process_may_be_absent() {
    check(json!({"process": null}), &[(Warning, "/process", "can be created but not started")]);
    assert_eq!(lowered(json!({"process": null})).process, None);
}

#[test]
fn linux_may_be_absent() {
    check(json!({"linux": null}), &[]);
}

#[test]
fn what_is_not_known_is_passed_over() {
    check(
        json!({
            "vendor": {"a": [1e300, null]},
            "windows": {"layerFolders": 5}, "vm": 1, "solaris": [], "zos": "z", "freebsd": {"jail": {}},
            "process": {"commandLine": 7, "x": 1}, "linux": {"intelRdt": {"enableCMT": 3}, "x": {}},
        }),
        &[],
    );
}

#[test]
fn hooks() {
    let spec = lowered(json!({"hooks": {
        "prestart": [{"path": "/a"}, {"path": "/b", "args": ["b", "1"], "env": ["K=v"], "timeout": 5}],
        "poststop": [{"path": "/z"}],
    }}));
    assert_eq!(spec.hooks.prestart.len(), 2);
    let hook = &spec.hooks.prestart[1];
    assert_eq!((hook.path.as_str(), hook.args.len(), hook.env.len(), hook.timeout_s), ("/b", 2, 1, Some(5)));
    assert_eq!(spec.hooks.poststop[0].path, "/z");
    for point in HOOK_POINTS {
        check(json!({"hooks": {point: [{"path": "a"}]}}), &[(Error, &format!("/hooks/{point}/0/path"), "absolute")]);
    }
    check(json!({"hooks": {"poststart": [{}]}}), &[(Error, "/hooks/poststart/0/path", "is required")]);
    check(
        json!({"hooks": {"prestart": [{"path": "/a", "timeout": 0}, {"path": "/a", "timeout": -1}]}}),
        &[
            (Error, "/hooks/prestart/0/timeout", "must be greater than zero, not 0"),
            (Error, "/hooks/prestart/1/timeout", "not -1"),
        ],
    );
    check(
        json!({"hooks": {"prestart": [{"path": "/a", "timeout": 4_294_967_296_u64}]}}),
        &[(Warning, "/hooks/prestart/0/timeout", "longer")],
    );
    check(
        json!({"hooks": {"prestart": [{"path": "/a", "env": ["A\0"]}]}}),
        &[(Error, "/hooks/prestart/0/env/0", "NUL")],
    );
}

#[test]
fn wrong_types_are_all_told_at_once_with_their_place() {
    check(
        json!({
            "root": {"path": 7, "readonly": "yes"},
            "process": {"user": {"uid": -1, "gid": 1.5, "additionalGids": [1, "2", null]}, "args": "sh", "cwd": []},
            "mounts": [{"destination": "/a", "type": "tmpfs", "options": "ro"}, "x"],
            "linux": {"resources": {"memory": {"limit": 1e30}, "cpu": {"shares": 1e3}, "pids": 5}, "namespaces": {}},
        }),
        &[
            (Error, "/root/path", "root.path must be a string, not 7"),
            (Error, "/root/readonly", "must be true or false, not the string \"yes\""),
            (Error, "/process/user/uid", "must be a whole number from 0 to 4294967295, not -1"),
            (Error, "/process/user/gid", "not 1.5"),
            (Error, "/process/user/additionalGids/1", "not the string \"2\""),
            (Error, "/process/user/additionalGids/2", "not null"),
            (Error, "/process/args", "process.args must be an array, not the string \"sh\""),
            (Error, "/process/cwd", "must be a string, not an array"),
            (Error, "/mounts/0/options", "must be an array"),
            (Error, "/mounts/1", "mounts[1] must be an object"),
            (Error, "/linux/resources/memory/limit", "not 1e30"),
            (Error, "/linux/resources/cpu/shares", "not 1000.0"),
            (Error, "/linux/resources/pids", "must be an object, not 5"),
            (Error, "/linux/namespaces", "must be an array, not an object"),
        ],
    );
}

/// The pointer and text of the only finding of these bytes.
#[track_caller]
fn only(bytes: &[u8], expected: Expected<'_>) {
    let report = load(bytes);
    compare(&report.findings, &[expected]);
    assert_eq!(report.spec.is_some(), expected.0 == Warning);
}

#[test]
fn text_that_is_not_json() {
    only(b"", (Error, "", "the document is not valid JSON: EOF"));
    only(b"{]", (Error, "", "not valid JSON"));
    only(b"null", (Error, "", "the document must be an object, not null"));
    only(b"[]", (Error, "", "the document must be an object, not an array"));
    only(b"\xff", (Error, "", "not valid JSON"));
    only(br#"{"process": {"args": ["a", x]}}"#, (Error, "/process/args/1", "line 1 column 28"));
    only(br#"{"linux": {"resources": {"cpu": {"quota": 1e999}}}}"#, (Error, "/linux/resources/cpu/quota", "range"));
    let deep = format!("{{\"x\": {}", "[".repeat(5000));
    let place = format!("/x{}", "/0".repeat(126));
    only(deep.as_bytes(), (Error, &place, "not valid JSON: recursion limit exceeded"));
}

#[test]
fn text_after_the_end_and_names_that_stand_twice_are_odd() {
    let text = base().to_string();
    assert_eq!(load(format!("{text} \n").as_bytes()).findings, []);
    only(format!("{text} {{").as_bytes(), (Warning, "", "goes on after its end"));
    let twice = text.replacen('{', "{\"hostname\": \"g\", \"hostname\": \"h\", ", 1);
    let report = load(twice.as_bytes());
    compare(&report.findings, &[(Warning, "/hostname", "stands here twice")]);
    assert_eq!(report.spec.unwrap().hostname.as_deref(), Some("h"));
    let keys = text.replacen('{', "{\"annotations\": {\"a\": \"1\", \"a\": \"2\"}, ", 1);
    let report = load(keys.as_bytes());
    compare(&report.findings, &[(Warning, "/annotations/a", "stands here twice")]);
    assert_eq!(report.spec.unwrap().annotations["a"], "2");
}
