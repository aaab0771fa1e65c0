//! The command line itself: options, help, version, features, spec and the log.

use std::fs;

use integration::{case, json};

#[test]
fn options_may_stand_before_or_after_the_id_of_delete() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        sb.call(&["delete", "-f", &c.id]).run().ok();
        let c = sb.detached(&sb.bundle().sleeper());
        sb.call(&["delete", "-force", &c.id]).run().ok();
    });
}

#[test]
fn help_is_success_for_every_verb() {
    case(|sb| {
        for verb in
            "create start run exec state kill delete list ps pause resume update events spec features".split(' ')
        {
            let out = sb.call(&[verb, "--help"]).run();
            assert!(out.ok().contains(verb), "{out:#?}");
        }
        assert!(!sb.call(&["--help"]).run().ok().is_empty());
    });
}

#[test]
fn a_missing_argument_is_a_usage_error() {
    case(|sb| {
        for verb in ["create", "start", "state", "kill", "delete", "pause", "resume"] {
            let out = sb.call(&[verb]).run();
            out.fails();
        }
    });
}

#[test]
fn an_unknown_verb_is_an_error() {
    case(|sb| {
        sb.call(&["nosuchverb"]).run().fails();
    });
}

#[test]
fn version_is_three_lines_that_go_runc_parses() {
    case(|sb| {
        let out = sb.program(sb.runtime.path.to_str().expect("UTF-8")).arg("--version").run();
        let text = out.ok();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() >= 3, "{text}");
        assert_eq!(lines[0].split(' ').nth(1), Some("version"), "{text}");
        assert!(lines[1].starts_with("commit: "), "{text}");
        assert!(lines[2].starts_with("spec: 1."), "{text}");
    });
}

#[test]
fn called_as_runc_the_version_says_runc() {
    case(|sb| {
        let link = sb.dir.join("runc");
        std::os::unix::fs::symlink(&sb.runtime.path, &link).expect("link");
        let text = sb.program(link.to_str().expect("UTF-8")).arg("--version").run().ok();
        assert!(text.starts_with("runc version "), "{text}");
    });
}

#[test]
fn features_is_json_on_stdout_and_nothing_on_stderr() {
    case(|sb| {
        let out = sb.call(&["features"]).run();
        let features = out.json();
        assert_eq!(out.stderr, "");
        for pointer in [
            "/ociVersionMin",
            "/ociVersionMax",
            "/hooks",
            "/mountOptions",
            "/linux/namespaces",
            "/linux/capabilities",
            "/linux/cgroup/v1",
            "/linux/seccomp/actions",
        ] {
            assert!(features.pointer(pointer).is_some(), "no {pointer} in {features}");
        }
        let namespaces = features["linux"]["namespaces"].as_array().expect("array");
        assert!(namespaces.contains(&json!("user")), "{namespaces:?}");
    });
}

#[test]
fn features_of_1_3_are_announced() {
    case(|sb| {
        let features = sb.call(&["features"]).run().json();
        assert_eq!(features.pointer("/linux/mountExtensions/idmap/enabled"), Some(&json!(true)));
        assert_eq!(features.pointer("/linux/netDevices/enabled"), Some(&json!(true)));
        assert!(features["mountOptions"].as_array().is_some_and(|o| o.contains(&json!("rro"))));
        assert!(features["linux"]["namespaces"].as_array().is_some_and(|o| o.contains(&json!("time"))));
    });
}

#[test]
fn spec_writes_a_config_that_runs() {
    case(|sb| {
        let b = sb.bundle();
        sb.call(&["spec"]).cwd(&b.dir).run().ok();
        let text = fs::read_to_string(b.dir.join("config.json")).expect("config.json");
        let mut b = b;
        b.spec = serde_json::from_str(&text).expect("JSON");
        assert_eq!(b.spec["process"]["args"], json!(["sh"]));
        let group = json!(format!("/{}/{}", sb.name, b.id));
        let b = b.set("/process/terminal", json!(false)).set("/linux/cgroupsPath", group).sh("echo spec");
        assert_eq!(sb.run(&b).ok(), "spec");
    });
}

#[test]
fn spec_does_not_overwrite() {
    case(|sb| {
        let dir = sb.host_dir("spec");
        sb.call(&["spec", "--bundle"]).arg(&dir).run().ok();
        fs::write(dir.join("config.json"), "mine").expect("write");
        sb.call(&["spec", "-b"]).arg(&dir).run().fails();
        assert_eq!(fs::read_to_string(dir.join("config.json")).expect("read"), "mine");
    });
}

#[test]
fn spec_rootless_has_a_user_namespace() {
    case(|sb| {
        let dir = sb.host_dir("spec");
        sb.call(&["spec", "--rootless", "--bundle"]).arg(&dir).run().ok();
        let spec: integration::Value =
            serde_json::from_str(&fs::read_to_string(dir.join("config.json")).expect("read")).expect("JSON");
        assert!(spec["linux"]["namespaces"].to_string().contains("user"), "{spec}");
        assert!(spec["linux"]["uidMappings"].is_array(), "{spec}");
    });
}

#[test]
fn the_json_log_has_level_msg_and_time_and_stderr_has_the_message() {
    case(|sb| {
        let log = sb.dir.join("log.json");
        let log = log.to_str().expect("UTF-8");
        let out = sb.call(&["--log", log, "--log-format", "json", "state", "nobody"]).run();
        assert!(out.fails().contains("does not exist"));
        let text = fs::read_to_string(log).expect("the log");
        let last: integration::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["level"], json!("error"));
        assert!(last["msg"].as_str().is_some_and(|m| m.contains("does not exist")), "{last}");
        assert!(last["time"].is_string(), "{last}");
    });
}

#[test]
fn the_text_log_names_level_and_message() {
    case(|sb| {
        let log = sb.dir.join("log");
        sb.call(&["--log", log.to_str().expect("UTF-8"), "state", "nobody"]).run().fails();
        let text = fs::read_to_string(&log).expect("the log");
        assert!(text.contains("level=error") && text.contains("does not exist") && text.contains("time="), "{text}");
    });
}

#[test]
fn the_log_is_appended_to() {
    case(|sb| {
        let log = sb.dir.join("log.json");
        fs::write(&log, "{\"level\":\"info\",\"msg\":\"first\"}\n").expect("write");
        sb.call(&["--log", log.to_str().expect("UTF-8"), "--log-format=json", "state", "nobody"]).run().fails();
        let text = fs::read_to_string(&log).expect("the log");
        assert!(text.starts_with("{\"level\":\"info\"") && text.lines().count() >= 2, "{text}");
    });
}

#[test]
fn debug_writes_only_json_lines_to_a_json_log() {
    case(|sb| {
        let log = sb.dir.join("log.json");
        let b = sb.bundle().args(&["true"]);
        b.write();
        let call =
            sb.call(&["--debug", "--log", log.to_str().expect("UTF-8"), "--log-format", "json", "run", "--bundle"]);
        call.arg(&b.dir).arg(&b.id).run().ok();
        let text = fs::read_to_string(&log).unwrap_or_default();
        for line in text.lines() {
            let parsed: Result<integration::Value, _> = serde_json::from_str(line);
            assert!(parsed.is_ok_and(|v| v["level"].is_string()), "not a log line: {line}");
        }
    });
}
