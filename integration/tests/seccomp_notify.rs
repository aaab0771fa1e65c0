//! The seccomp agent: what it is told, what it may answer, and what happens when it goes away.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use integration::console::{FdSocket, Message, readable};
use integration::{Bundle, Sandbox, Value, case, json};
use rustix::io::Errno;
use sys::notify::{self, Answer, Notification};

/// How long a notification may take to come.
const DEADLINE: Duration = Duration::from_secs(20);

/// All names under which a C library may make a folder.
const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

/// A filter that asks an agent about these rules' calls and allows the rest.
fn asking(b: Bundle, socket: &FdSocket, rules: Value) -> Bundle {
    b.writable().set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules,
            "listenerPath": socket.path, "listenerMetadata": "{\"some\": \"metadata\"}",
        }),
    )
}

fn asking_for_mkdir(b: Bundle, socket: &FdSocket) -> Bundle {
    asking(b, socket, json!([{ "names": MKDIR, "action": "SCMP_ACT_NOTIFY" }]))
}

/// The descriptor of a message, and its document.
#[track_caller]
fn parts(mut message: Message) -> (OwnedFd, Value) {
    let text = String::from_utf8_lossy(&message.bytes);
    let document = text.parse().unwrap_or_else(|e| panic!("not JSON: {e}: {text}"));
    assert_eq!(message.fds.len(), 1, "{text}");
    (message.fds.remove(0), document)
}

/// A container that sleeps under a filter that asks at this socket, with the parts of the message of its start.
#[track_caller]
fn asking_sleeper(sb: &Sandbox, socket: &FdSocket) -> (Bundle, (OwnedFd, Value)) {
    let b = asking_for_mkdir(sb.bundle(), socket).sleeper();
    sb.create(&b).ok();
    let first = parts(socket.receive());
    sb.start(&b.id).ok();
    (b, first)
}

/// The next call that waits.
#[track_caller]
fn next(listener: &OwnedFd) -> Notification {
    assert!(readable(listener, DEADLINE), "no notification comes");
    let call = notify::receive(listener.as_fd()).expect("receive the notification");
    assert!(notify::is_waiting(listener.as_fd(), call.id).expect("ask for the notification"));
    call
}

/// Answers the next call.
#[track_caller]
fn answer(listener: &OwnedFd, answer: Answer) {
    let call = next(listener);
    notify::respond(listener.as_fd(), call.id, answer).expect("answer");
    assert!(!notify::is_waiting(listener.as_fd(), call.id).expect("ask for the notification"));
}

/// Runs a bundle in the foreground while `agent` has the descriptor, and returns what the container printed.
#[track_caller]
fn run_with(sb: &Sandbox, socket: &FdSocket, b: &Bundle, agent: impl FnOnce(&OwnedFd, &Value)) -> String {
    let running = sb.verb("run", b, &[]).spawn();
    let (listener, document) = parts(socket.receive());
    agent(&listener, &document);
    drop(listener);
    running.wait(DEADLINE).ok()
}

#[test]
fn the_document_has_all_that_the_specification_wants() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = asking_for_mkdir(sb.bundle(), &socket).set("/annotations", json!({ "a.b": "c" })).sh("mkdir /tmp/x");
        sb.create(&b).ok();
        let (listener, document) = parts(socket.receive());
        let pid = sb.state(&b.id)["pid"].clone();
        let expected = json!({
            "ociVersion": document["ociVersion"],
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": "{\"some\": \"metadata\"}",
            "state": {
                "ociVersion": document["ociVersion"], "id": b.id, "status": "creating", "pid": pid, "bundle": b.dir,
                "annotations": { "a.b": "c" },
            },
        });
        assert_eq!(document, expected);
        assert!(document["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{document}");
        // The call comes from the process that the document names, once it is started.
        sb.start(&b.id).ok();
        let call = next(&listener);
        assert_eq!(json!(call.pid), pid);
        notify::respond(listener.as_fd(), call.id, Answer::Error(Errno::XDEV)).expect("answer");
        sb.wait_status(&b.id, "stopped");
    });
}

#[test]
fn an_agent_answers_with_an_error_a_value_or_the_call_itself() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        for no_new_privileges in [true, false] {
            let script = "for n in 1 2 3; do mkdir /tmp/$n 2>/tmp/e && echo done || grep -o 'cross-device' /tmp/e; \
                [ -d /tmp/$n ] && echo there || echo absent; done";
            let b = asking_for_mkdir(sb.bundle(), &socket).sh(script);
            let b = b.set("/process/noNewPrivileges", json!(no_new_privileges));
            let text = run_with(sb, &socket, &b, |listener, _| {
                answer(listener, Answer::Error(Errno::XDEV));
                answer(listener, Answer::Value(0));
                answer(listener, Answer::Continue);
            });
            assert_eq!(text, "cross-device\nabsent\ndone\nabsent\ndone\nthere");
        }
    });
}

#[test]
fn a_value_is_what_the_call_returns() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = asking(sb.bundle(), &socket, json!([{ "names": ["umask"], "action": "SCMP_ACT_NOTIFY" }]));
        let text = run_with(sb, &socket, &b.sh("umask"), |listener, _| {
            // The shell asks by setting one and sets it back.
            for _ in 0..2 {
                answer(listener, Answer::Value(0o153));
            }
        });
        assert_eq!(text, "0153");
    });
}

#[test]
fn an_agent_opens_a_file_for_the_container() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        // Opens that make a file are asked about: O_CREAT in the flags.
        let rule = |name: &str, index: u32| {
            let arg = json!({ "index": index, "value": 0o100, "valueTwo": 0o100, "op": "SCMP_CMP_MASKED_EQ" });
            json!({ "names": [name], "action": "SCMP_ACT_NOTIFY", "args": [arg] })
        };
        let b = asking(sb.bundle(), &socket, json!([rule("open", 1), rule("openat", 2)]));
        let file = sb.dir.join("outside");
        let text = run_with(sb, &socket, &b.sh("echo hello > /no/such/folder; echo $?"), |listener, _| {
            let call = next(listener);
            let outside = std::fs::File::create(&file).expect("make the file");
            let number =
                notify::respond_with_fd(listener.as_fd(), call.id, outside.as_fd()).expect("hand over the file");
            assert!(number > 2, "{number}");
        });
        assert_eq!(text, "0");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "hello\n");
    });
}

#[test]
fn each_exec_has_a_descriptor_of_its_own() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let (b, _first) = asking_sleeper(sb, &socket);
        let init = sb.state(&b.id)["pid"].clone();
        for errno in [Errno::XDEV, Errno::NOSPC] {
            let file = sb.dir.join("exec.pid");
            let options = ["--pid-file", file.to_str().expect("UTF-8")];
            let running = sb.exec_call(&b.id, &options, &["mkdir", "/tmp/x"]).spawn();
            let (listener, document) = parts(socket.receive());
            assert_eq!(document["state"]["status"], json!("running"));
            assert_eq!((&document["state"]["pid"], &document["metadata"]), (&init, &json!("{\"some\": \"metadata\"}")));
            let call = next(&listener);
            assert_eq!(document["pid"], json!(call.pid));
            assert_ne!(document["pid"], init);
            notify::respond(listener.as_fd(), call.id, Answer::Error(errno)).expect("answer");
            let out = running.wait(DEADLINE);
            out.code_is(1);
            let word = if errno == Errno::XDEV { "cross-device" } else { "No space left" };
            assert!(out.stderr.contains(word), "{out:#?}");
            assert_eq!(json!(integration::sandbox::read_pid(&file)), document["pid"]);
        }
    });
}

#[test]
fn the_filter_of_a_user_namespace_asks_too() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let b = asking_for_mkdir(sb.bundle().user_namespace(), &socket).sh("mkdir /tmp/x 2>&1 | grep -o cross-device");
        let text = run_with(sb, &socket, &b, |listener, _| answer(listener, Answer::Error(Errno::XDEV)));
        assert_eq!(text, "cross-device");
    });
}

/// A socket file that nobody listens at any more is what an agent leaves that was killed.
#[test]
fn an_agent_that_is_gone_at_the_start_is_an_error_that_names_its_socket() {
    case(|sb| {
        let path = sb.dir.join("gone");
        drop(UnixListener::bind(&path).expect("bind"));
        let b = sb.bundle().writable().sh("true").set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                "syscalls": [{ "names": MKDIR, "action": "SCMP_ACT_NOTIFY" }],
            }),
        );
        let out = sb.create(&b);
        out.code_is(1);
        out.fails_saying(path.to_str().expect("UTF-8"));
        assert!(out.stderr.to_lowercase().contains("refused"), "{out:#?}");
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn an_exec_without_its_agent_fails_and_the_container_lives_on() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let (b, _first) = asking_sleeper(sb, &socket);
        let path = socket.path.clone();
        drop(socket);
        let out = sb.exec(&b.id, &["true"]);
        out.code_is(255);
        out.fails_saying(path.to_str().expect("UTF-8"));
        assert_eq!(sb.status(&b.id), "running");
        assert_eq!(sb.call(&["ps", "--format=json", &b.id]).run().json().as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn a_call_whose_agent_dies_before_the_answer_is_enosys_and_so_is_every_later_one() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let script = "for n in 1 2; do mkdir /tmp/$n 2>&1 | grep -o 'not implemented'; done";
        let b = asking_for_mkdir(sb.bundle(), &socket).sh(script);
        let text = run_with(sb, &socket, &b, |listener, _| {
            next(listener);
        });
        assert_eq!(text, "not implemented\nnot implemented");
    });
}

/// The agent learns that nobody will ask any more: the descriptor hangs up with the last process of the filter.
#[test]
fn the_descriptor_ends_with_the_container() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "agent");
        let (b, (listener, _)) = asking_sleeper(sb, &socket);
        assert!(!readable(&listener, Duration::ZERO));
        sb.delete_force(&b.id).ok();
        assert!(readable(&listener, DEADLINE), "the descriptor does not hang up");
        assert!(notify::receive(listener.as_fd()).expect_err("nobody asks").is(Errno::NOENT));
    });
}
