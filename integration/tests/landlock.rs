//! Landlock rules in an annotation (docs/landlock.md), by what a process may still do.

use integration::requires::Need;
use integration::{Bundle, Sandbox, Value, case, case_with, json};

/// Rights to what a shell needs to run at all are not handled in these tests, so that only what is looked at is denied.
const WRITES: [&str; 3] = ["write_file", "make_reg", "make_dir"];

/// Adds rules to a bundle.
fn with(b: Bundle, rules: &Value) -> Bundle {
    b.set("/annotations", json!({ "io.skep.landlock": rules.to_string() }))
}

/// Denies [`WRITES`] but below `/tmp`, and to the null device.
fn only_tmp() -> Value {
    json!({
        "ruleset": { "handledAccessFS": WRITES },
        "rules": { "pathBeneath": [
            { "allowedAccess": WRITES, "paths": ["/tmp"] },
            { "allowedAccess": ["write_file", "make_dir"], "paths": ["/dev/null"] },
        ] }
    })
}

/// What the cases need.
const NEEDS: &[Need] = &[Need::Landlock(4)];

/// Says of each path whether a file can be made there.
const SCRIPT: &str = "for f in /tmp/a /home/b; do echo x 2>/dev/null > $f && echo made || echo denied; done; \
    mkdir /home/c 2>/dev/null || echo denied; cat /home/old";

/// A bundle in which only the rules can deny anything.
fn open(sb: &Sandbox) -> Bundle {
    sb.bundle().writable().file("/home/old", "old\n", 0o644)
}

#[test]
fn what_no_rule_grants_is_denied() {
    case_with(NEEDS, |sb| {
        assert_eq!(sb.run(&open(sb).sh(SCRIPT)).ok(), "made\nmade\nold");
        assert_eq!(sb.run(&with(open(sb), &only_tmp()).sh(SCRIPT)).ok(), "made\ndenied\ndenied\nold");
    });
}

#[test]
fn an_exec_is_under_the_same_rules() {
    case_with(NEEDS, |sb| {
        let c = sb.detached(&with(open(sb), &only_tmp()).sleeper());
        assert_eq!(sb.exec_sh(&c.id, SCRIPT).ok(), "made\ndenied\ndenied\nold");
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn the_rules_hold_for_a_user_without_no_new_privileges_and_under_a_filter() {
    case_with(NEEDS, |sb| {
        let b = with(open(sb), &only_tmp()).set("/process/noNewPrivileges", json!(false)).capabilities(&[]);
        let b = b.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        // The filter denies the calls that made the rules: they were made before.
        let calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
        let rules = json!([{ "names": calls, "action": "SCMP_ACT_KILL_PROCESS" }]);
        let b = b.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }));
        std::fs::set_permissions(b.rootfs().join("home"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .expect("chmod");
        assert_eq!(sb.run(&b.sh(SCRIPT)).ok(), "made\ndenied\ndenied\nold");
    });
}

#[test]
fn the_rules_hold_in_a_user_namespace() {
    case_with(NEEDS, |sb| {
        let b = with(open(sb).user_namespace(), &only_tmp()).set("/process/noNewPrivileges", json!(false));
        assert_eq!(sb.run(&b.sh(SCRIPT)).ok(), "made\ndenied\ndenied\nold");
    });
}

#[test]
fn the_program_itself_needs_the_right_to_be_executed() {
    case_with(NEEDS, |sb| {
        let rules = |paths: Value| {
            json!({
                "ruleset": { "handledAccessFS": ["execute"] },
                "rules": { "pathBeneath": [{ "allowedAccess": ["execute"], "paths": paths }] }
            })
        };
        let b = with(open(sb), &rules(json!(["/bin"])));
        assert_eq!(sb.run(&b.args(&["echo", "fine"])).ok(), "fine");
        let b = with(open(sb), &rules(json!(["/tmp"])));
        let out = sb.run(&b.args(&["echo", "fine"]));
        assert!(out.fails().contains("permission denied"), "{out:#?}");
    });
}

/// Tries to listen on and to connect to a port; each try has a word of its own.
const NETWORK: &str = "try() { timeout 5 nc \"$@\" < /dev/null > /dev/null 2>/tmp/e; grep -o 'Permission denied' /tmp/e; }; \
    (timeout 1 nc -l -p 81 2>&1 | grep -o 'Permission denied' || echo bound); \
    (timeout 1 nc -l -p 82 2>&1 | grep -o 'Permission denied' || echo bound); \
    try 127.0.0.1 91 && echo no-connect || echo refused-by-peer; \
    try 127.0.0.1 92 && echo no-connect || echo refused-by-peer";

#[test]
fn ports_are_granted_one_by_one() {
    case_with(NEEDS, |sb| {
        let rules = json!({
            "ruleset": { "handledAccessNet": ["bind_tcp", "connect_tcp"] },
            "rules": { "netPort": [
                { "allowedAccess": ["bind_tcp"], "ports": [81] },
                { "allowedAccess": ["connect_tcp"], "ports": [91] },
            ] }
        });
        let free = sb.run(&open(sb).sh(NETWORK)).ok();
        assert_eq!(free, "bound\nbound\nrefused-by-peer\nrefused-by-peer");
        let b = with(open(sb), &rules).capabilities(&["CAP_NET_BIND_SERVICE"]).sh(NETWORK);
        assert_eq!(sb.run(&b).ok(), "bound\nPermission denied\nrefused-by-peer\nPermission denied\nno-connect");
    });
}

#[test]
fn signals_do_not_leave_the_domain() {
    case_with(&[Need::Landlock(6)], |sb| {
        let rules = json!({ "ruleset": { "scoped": ["signal"] } });
        let c = sb.detached(&with(open(sb), &rules).sleeper());
        // The exec has a domain of its own, beside that of the first process.
        let out = sb.exec_sh(&c.id, "sleep 100 & kill $! && echo own; kill -TERM 1 2>&1");
        assert!(out.stdout.starts_with("own\n") && out.stdout.contains("not permitted"), "{out:#?}");
        sb.kill(&c.id, "KILL").ok();
        sb.wait_status(&c.id, "stopped");
        sb.delete(&c.id).ok();
    });
}

/// Links in the image lead inside the container, whatever they say.
#[test]
fn a_path_is_resolved_in_the_container() {
    case_with(NEEDS, |sb| {
        let b = with(open(sb).folder("/data").link("/tmp", "/data"), &only_tmp());
        let script = "echo x > /data/a && echo made; echo x 2>/dev/null > /home/b || echo denied";
        assert_eq!(sb.run(&b.sh(script)).ok(), "made\ndenied");
        let b = with(open(sb).link("/tmp", "/proc/1/root/tmp"), &only_tmp());
        sb.run(&b.sh("true")).fails_saying("/tmp");
    });
}

/// CRIU would bring the processes back free of the rules.
#[test]
fn a_container_under_rules_is_not_saved() {
    case_with(NEEDS, |sb| {
        let c = sb.detached(&with(open(sb), &only_tmp()).sleeper());
        let images = sb.host_dir("images");
        let out = sb.call(&["checkpoint", "--image-path"]).arg(&images).arg(&c.id).run();
        out.fails_saying("Landlock");
        assert_eq!(sb.status(&c.id), "running");
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn a_path_that_is_not_there_is_an_error_that_names_it() {
    case_with(NEEDS, |sb| {
        let mut rules = only_tmp();
        rules["rules"]["pathBeneath"][0]["paths"] = json!(["/no/such"]);
        let out = sb.create(&with(open(sb), &rules).sh("true"));
        out.code_is(1);
        out.fails_saying("/no/such");
        out.fails_saying("io.skep.landlock");
    });
}

#[test]
fn a_file_has_no_rights_of_folders() {
    case_with(NEEDS, |sb| {
        let mut rules = only_tmp();
        rules["rules"]["pathBeneath"][1]["allowedAccess"] = json!(["make_dir"]);
        sb.create(&with(open(sb), &rules).sh("true")).code_is(1).fails_saying("/dev/null is no folder");
    });
}

#[test]
fn names_that_are_not_known_are_refused_with_their_place() {
    case(|sb| {
        let mut rules = only_tmp();
        rules["ruleset"]["handledAccessFS"] = json!(["write"]);
        let out = sb.create(&with(open(sb), &rules).sh("true"));
        out.code_is(1);
        out.fails_saying("/annotations/io.skep.landlock/ruleset/handledAccessFS/0");
        sb.call(&["state", "none"]).run().fails();
    });
}
