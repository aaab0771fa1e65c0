//! LXC's command lines: `lxc-start`, `lxc-ls` and the others.

mod copies;
mod running;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use integration::defined::{Defined, text};
use integration::requires::Need;
use integration::runtime::Call;
use integration::{Output, Sandbox, case_with};

/// A path of containers of a test's own.
struct Face<'a> {
    sb: &'a Sandbox,
    d: Defined<'a>,
    path: PathBuf,
}

impl<'a> Face<'a> {
    fn new(sb: &'a Sandbox) -> Face<'a> {
        Face { sb, d: Defined::new(sb), path: sb.host_dir("lxc") }
    }

    /// A container with a root file system and these keys.
    fn container(&self, suffix: &str, keys: &str) -> String {
        let name = self.d.name(suffix);
        let folder = self.path.join(&name);
        fs::create_dir(&folder).expect("make");
        let root = folder.join("rootfs");
        fs::rename(self.d.base(), &root).expect("move the root file system");
        let config = format!("lxc.rootfs.path = dir:{}\nlxc.cgroup.dir = {}\n{keys}", root.display(), self.sb.name);
        fs::write(folder.join("config"), config).expect("write");
        name
    }

    /// A container that cannot start, for what needs none that runs.
    fn bare(&self, name: &str, keys: &str) {
        fs::create_dir(self.path.join(name)).expect("make");
        fs::write(self.path.join(name).join("config"), keys).expect("write");
    }

    fn call(&self, tool: &str, args: &[&str]) -> Output {
        self.prepare(tool, args).run()
    }

    fn prepare(&self, tool: &str, args: &[&str]) -> Call {
        self.d.prepare(&[&[tool, "-P", text(&self.path)], args].concat())
    }
}

const SLEEPER: &str = "lxc.init.cmd = /bin/sh -c \"trap 'exit 0' TERM; while :; do sleep 0.1; done\"\nlxc.signal.halt = SIGTERM\n\
                       lxc.mount.auto = proc sys\n";

#[test]
fn a_container_leads_its_life_by_the_tools_of_lxc() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let web = face.container("web", &format!("{SLEEPER}lxc.group = a\nlxc.environment = COLOUR=blue\n"));
        let state = || face.call("lxc-info", &["-n", &web, "-sH"]).ok();
        assert_eq!(state(), "STOPPED");
        let pidfile = sb.dir.join("pid");
        assert_eq!(face.call("lxc-start", &[&web, "-p", text(&pidfile)]).ok(), "");
        let pid = sb.state(&web)["pid"].as_i64().expect("a pid").to_string();
        assert_eq!(fs::read_to_string(&pidfile).expect("read").trim(), pid);
        assert_eq!(state(), "RUNNING");
        assert_eq!(face.call("lxc-info", &["-n", &web, "-pH"]).ok(), pid);
        assert!(face.call("lxc-start", &[&web]).stderr.ends_with("Container is already running\n"));

        let all = face.call("lxc-info", &["--name", &web]).ok();
        let names: Vec<&str> = all.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(names[..4], ["Name", "State", "PID", "CPU use"]);
        assert!(names.contains(&"Memory use"), "{all}");
        let fancy = face.call("lxc-ls", &["-f"]).ok();
        let columns: Vec<&str> = fancy.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(columns, [web.as_str(), "RUNNING", "0", "a", "-", "-", "false"]);
        assert_eq!(face.call("lxc-ls", &["-1", "--running"]).ok(), web);
        assert_eq!(face.call("lxc-ls", &["--stopped"]).ok(), "");

        let attach = face.call("lxc-attach", &["-n", &web, "-v", "A=1", "--", "sh", "-c", "echo $A $COLOUR; exit 3"]);
        assert_eq!((attach.code, attach.stdout_now().trim()), (3, "1 blue"));
        assert_eq!(face.call("lxc-attach", &[&web, "-u", "7", "-g", "8", "--", "id"]).ok(), "uid=7 gid=8");

        face.call("lxc-freeze", &[&web]).ok();
        face.call("lxc-freeze", &[&web]).ok();
        assert_eq!(state(), "FROZEN");
        assert_eq!(face.call("lxc-ls", &["-1", "--frozen"]).ok(), web);
        face.call("lxc-unfreeze", &[&web]).ok();
        face.call("lxc-wait", &["-n", &web, "-s", "STOPPED|RUNNING"]).ok();
        let begun = Instant::now();
        assert_eq!(face.call("lxc-wait", &["-n", &web, "-s", "STOPPED", "-t", "1"]).code, 1);
        assert!(begun.elapsed() >= Duration::from_secs(1));

        face.call("lxc-cgroup", &["-n", &web, "pids.max", "50"]).ok();
        assert_eq!(face.call("lxc-cgroup", &["-n", &web, "pids.max"]).ok(), "50");
        face.call("lxc-cgroup", &["-n", &web, "no.such"]).fails_saying("Failed to retrieve value of 'no.such'");

        face.call("lxc-destroy", &["-n", &web]).fails_saying("is running");
        face.call("lxc-stop", &["-n", &web, "-r"]).ok();
        assert_ne!(sb.state(&web)["pid"].as_i64().expect("a pid").to_string(), pid);
        face.call("lxc-stop", &["-n", &web]).ok();
        assert_eq!(state(), "STOPPED");
        assert_eq!(face.call("lxc-stop", &["-n", &web]).code, 2);

        // A start takes the configuration as it is then.
        face.call("lxc-start", &[&web, "-s", "lxc.uts.name=other"]).ok();
        assert_eq!(face.call("lxc-attach", &[&web, "--", "hostname"]).ok(), "other");
        face.call("lxc-stop", &[&web, "-k"]).ok();
        face.call("lxc-start", &[&web]).ok();
        assert_eq!(face.call("lxc-attach", &[&web, "--", "hostname"]).ok(), web);
        face.call("lxc-destroy", &["-f", &web]).ok();
        assert!(!face.path.join(&web).exists());
        assert_eq!(face.d.call(&["ls", "-q"]).ok(), "");
    });
}

#[test]
fn a_template_makes_a_container_and_autostart_starts_it() {
    case_with(&[Need::Skep], |sb| {
        use std::os::unix::fs::PermissionsExt;
        let face = Face::new(sb);
        let web = face.d.name("web");
        let (template, config) = (sb.dir.join("template"), sb.dir.join("begin.conf"));
        let script = format!(
            "#!/bin/sh\nset -e\nfor a; do case $a in --path=*) path=${{a#*=}};; --rootfs=*) root=${{a#*=}};; fail) exit 3;; esac; done\n\
             cp -a {}/. \"$root\"\necho 'lxc.start.auto = 1' >> \"$path/config\"\n",
            face.d.base().display()
        );
        fs::write(&template, script).expect("write");
        fs::set_permissions(&template, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::write(&config, format!("{SLEEPER}lxc.cgroup.dir = {}\nlxc.start.delay = 0", sb.name)).expect("write");
        let given = ["-n", &web, "-t", text(&template), "-f", text(&config)];
        let failed = face.call("lxc-create", &[&given[..], &["--", "fail"]].concat());
        failed.fails_saying("ended with exit status: 3");
        assert!(!face.path.join(&web).exists());
        face.call("lxc-create", &given).ok();
        assert_eq!(face.call("lxc-create", &given).code, 1);
        assert_eq!(face.call("lxc-autostart", &["-L"]).ok(), format!("{web} 0"));
        face.call("lxc-autostart", &[]).ok();
        assert_eq!(face.call("lxc-info", &[&web, "-sH"]).ok(), "RUNNING");
        face.call("lxc-autostart", &["-s", "-g", "nobody"]).ok();
        assert_eq!(face.call("lxc-info", &[&web, "-sH"]).ok(), "RUNNING");
        face.call("lxc-autostart", &["-k"]).ok();
        assert_eq!(face.call("lxc-info", &[&web, "-sH"]).ok(), "STOPPED");
        face.call("lxc-destroy", &[&web]).ok();
        assert_eq!(face.call("lxc-destroy", &[&web]).code, 1);
    });
}

#[test]
fn a_container_of_another_kind_is_left_alone() {
    case_with(&[Need::Skep], |sb| {
        let face = Face::new(sb);
        let other = face.d.name("other");
        face.d.create(&other, text(&face.d.base()), &["--start"], &["sleep", "1000"]).ok();
        face.bare(&other, "lxc.rootfs.path = /nowhere\n");
        assert_eq!(face.call("lxc-info", &[&other, "-sH"]).ok(), "STOPPED");
        assert_eq!(face.call("lxc-stop", &[&other, "-k"]).code, 2);
        face.call("lxc-start", &[&other]).fails_saying("has files of its own");
        face.call("lxc-destroy", &["-f", &other]).ok();
        assert_eq!(face.d.listed(&other)["state"], "running");
        face.d.call(&["destroy", "-f", &other]).ok();
    });
}

/// The program is the tool that its own name says.
#[test]
fn a_link_with_a_tool_s_name_is_the_tool() {
    case_with(&[Need::Skep], |sb| {
        let link = sb.dir.join("lxc-config");
        symlink(&sb.runtime.path, &link).expect("link");
        let folder = Path::new(&sb.runtime.path).parent().expect("a folder");
        let libexec = folder.parent().expect("a prefix").join("libexec/skep");
        let libexec = if libexec.exists() { libexec } else { folder.to_owned() };
        let output = Command::new(&link).arg("-l").env("SKEP_LIBEXEC", libexec).output().expect("run");
        assert!(String::from_utf8_lossy(&output.stdout).contains("lxc.lxcpath\n"), "{output:?}");
        sb.call(&["lxc-nothing"]).run().fails_saying("skep has no such tool");
    });
}

/// What Debian's own tools print and return for the same command lines, where they are installed.
#[test]
fn answers_are_those_of_lxc() {
    case_with(&[Need::Skep, Need::Program("/usr/bin/lxc-start")], |sb| {
        let face = Face::new(sb);
        let keys = "lxc.group = g\nlxc.group = onboot\nlxc.start.auto = 1\nlxc.start.delay = 2\nlxc.cap.drop = sys_time mknod\n\
                    lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\nlxc.uts.name = \"in\"\n";
        face.bare("one", keys);
        face.bare("second", "lxc.start.auto = 1\n");
        face.bare("third", "lxc.group = g\n");
        let lines = [
            "ls",
            "ls -1",
            "ls -f",
            "ls -f -F name,groups,pid,unprivileged,interface,ram",
            "ls -f -F FOO",
            "ls -g g -1",
            "ls -g g,onboot",
            "ls --filter ^s.*d$",
            "ls --running",
            "ls --stopped -1",
            "ls --version",
            "info one",
            "info one -s",
            "info -sH -n one",
            "info one -p",
            "info one -c lxc.uts.name -c lxc.cap.drop",
            "info one -c lxc.group",
            "info one -c lxc.nothing",
            "info nobody",
            "info",
            "stop one",
            "stop nobody -k",
            "freeze one",
            "unfreeze one",
            "destroy nobody",
            "start nobody",
            "wait one",
            "wait one -s STOPPED",
            "wait one -s WHAT",
            "cgroup one",
            "cgroup one pids.max",
            "attach one -- true",
            "autostart -L",
            "autostart -L -A",
            "autostart -L -a",
            "autostart -L -g onboot",
            "console one",
            "console",
            "device one",
            "device one add /dev/null",
            "device nobody add /dev/null",
            "execute nobody -- true",
            "execute",
            "snapshot one -L",
            "snapshot one -L -C",
            "snapshot nobody -L",
            "snapshot nobody",
            "snapshot one -d snap0",
            "snapshot one -d ALL",
            "copy one",
            "copy nobody -N other",
            "copy one -N one",
            "copy nobody -N other -R",
            "top",
            "unshare",
            "unshare -s",
            "unshare -s UTSNAME",
            "unshare -s FOO true",
            "unshare -s UTSNAME,MOUNT true",
            "unshare -s UTSNAME|MOUNT -H inside -- hostname",
            "unshare -s UTSNAME -- false",
            "unshare -s UTSNAME -- no-such-program",
            "unshare -s UTSNAME -i none0 -- true",
            "unshare -s MOUNT -H inside -- true",
            "unshare -s UTSNAME -M -- true",
            "unshare -s PID -- sh -c echo\t$$",
            "unshare -s USER -u 5 -- id -u",
            "unshare -s USER -- id",
            "unshare -s NETWORK -- ip -br link",
            "unshare -d -s UTSNAME -- true",
        ];
        for line in lines {
            let mut words = line.split(' ');
            let tool = format!("lxc-{}", words.next().expect("a tool"));
            // A tab stands for a blank within a word.
            let args: Vec<String> = words.map(|word| word.replace('\t', " ")).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let theirs = Command::new(format!("/usr/bin/{tool}")).args(["-P", text(&face.path)]).args(&args).output();
            let theirs = theirs.expect("run");
            let ours = face.d.call(&[&[tool.as_str(), "-P", text(&face.path)], args.as_slice()].concat());
            let expected = (theirs.status.code(), String::from_utf8_lossy(&theirs.stdout).into_owned());
            assert_eq!((Some(ours.code), ours.stdout_now().to_owned()), expected, "lxc-{line}: {}", ours.stderr);
        }
    });
}
