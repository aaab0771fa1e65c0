//! Profiles of system calls in LXC's two forms, to the seccomp structure of config.json.

use super::{Log, Place, Source};
use crate::oci::{Seccomp, SeccompArg, SeccompSyscall};

/// MNT_FORCE of umount(2) (include/linux/fs.h).
const MNT_FORCE: u64 = 1;
/// EPERM, which LXC's monitor answers for a `notify` where no proxy is set.
const EPERM: u64 = 1;
/// EACCES, which a forced unmount gets.
const EACCES: u64 = 13;
/// ENOSYS.
const ENOSYS: u64 = 38;

/// Sections of a profile by the architecture, as config.json names it.
const SECTIONS: [(&str, &str); 18] = [
    ("x86", "SCMP_ARCH_X86"),
    ("x86_64", "SCMP_ARCH_X86_64"),
    ("x32", "SCMP_ARCH_X32"),
    ("arm", "SCMP_ARCH_ARM"),
    ("arm64", "SCMP_ARCH_AARCH64"),
    ("loongarch64", "SCMP_ARCH_LOONGARCH64"),
    ("mips64", "SCMP_ARCH_MIPS64"),
    ("mips64n32", "SCMP_ARCH_MIPS64N32"),
    ("mips", "SCMP_ARCH_MIPS"),
    ("mipsel64", "SCMP_ARCH_MIPSEL64"),
    ("mipsel64n32", "SCMP_ARCH_MIPSEL64N32"),
    ("mipsel", "SCMP_ARCH_MIPSEL"),
    ("ppc64", "SCMP_ARCH_PPC64"),
    ("ppc64le", "SCMP_ARCH_PPC64LE"),
    ("ppc", "SCMP_ARCH_PPC"),
    ("s390x", "SCMP_ARCH_S390X"),
    ("riscv64", "SCMP_ARCH_RISCV64"),
    ("s390", "SCMP_ARCH_S390"),
];

/// Comparisons by the two names that each has.
const OPERATORS: [(&str, &str); 14] = [
    ("SCMP_CMP_NE", "SCMP_CMP_NE"),
    ("SCMP_CMP_LT", "SCMP_CMP_LT"),
    ("SCMP_CMP_LE", "SCMP_CMP_LE"),
    ("SCMP_CMP_EQ", "SCMP_CMP_EQ"),
    ("SCMP_CMP_GE", "SCMP_CMP_GE"),
    ("SCMP_CMP_GT", "SCMP_CMP_GT"),
    ("SCMP_CMP_MASKED_EQ", "SCMP_CMP_MASKED_EQ"),
    ("!=", "SCMP_CMP_NE"),
    ("<", "SCMP_CMP_LT"),
    ("<=", "SCMP_CMP_LE"),
    ("==", "SCMP_CMP_EQ"),
    (">=", "SCMP_CMP_GE"),
    (">", "SCMP_CMP_GT"),
    ("&=", "SCMP_CMP_MASKED_EQ"),
];

/// What a rule, or all that no rule names, leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Action {
    name: &'static str,
    errno: Option<u64>,
}

const ALLOW: Action = Action { name: "SCMP_ACT_ALLOW", errno: None };
const KILL: Action = Action { name: "SCMP_ACT_KILL", errno: None };

/// Reads a profile. `native` are the machine's architectures as config.json names them, its own first; `name_of` is the
/// name of a system call by its number there, for profiles of version 1, which have numbers alone.
pub(super) fn read(
    source: Source<'_>,
    native: &[&str],
    name_of: &dyn Fn(u32) -> Option<String>,
    log: &mut Log,
) -> Option<Seccomp> {
    let at = |index: usize| Place { file: source.name.to_owned(), line: index + 1 };
    let mut lines = source.text.lines().enumerate().map(|(index, line)| (at(index), line.trim()));
    let version = lines.next().map_or("", |(_, line)| line);
    let Some((policy_at, policy)) = lines.next() else {
        log.error(&at(0), "a profile has its version and its policy on the first two lines");
        return None;
    };
    let mut profile = Seccomp {
        architectures: Some(native.iter().map(|arch| (*arch).to_owned()).collect()),
        syscalls: Some(Vec::new()),
        ..Seccomp::default()
    };
    let (default, rule) = policies(version, &policy_at, policy, log)?;
    profile.default_action = Some(default.name.to_owned());
    profile.default_errno_ret = default.errno;
    let mut reading = Reading { rule, native, name_of, section: Section::All, log, rules: Vec::new() };
    for (place, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if version == "1" { reading.number(&place, line) } else { reading.line(&place, line) }
    }
    profile.syscalls = Some(reading.rules);
    Some(profile)
}

/// Reads a profile: what it says, and what is wrong with it.
#[must_use]
pub fn parse_profile(
    source: Source<'_>,
    native: &[&str],
    name_of: &dyn Fn(u32) -> Option<String>,
) -> (Option<Seccomp>, Vec<super::Finding>) {
    let mut log = Log::default();
    let profile = read(source, native, name_of, &mut log);
    (profile, log.into_findings())
}

/// What happens to calls that no rule names, and what a rule without an action leads to.
fn policies(version: &str, place: &Place, policy: &str, log: &mut Log) -> Option<(Action, Action)> {
    let mut words = policy.split_whitespace();
    let list = words.next().unwrap_or_default();
    let is_allow = matches!(list, "allowlist" | "whitelist");
    if !is_allow && !matches!(list, "denylist" | "blacklist") {
        log.error(place, format!("{list:?} is no policy: want allowlist or denylist"));
        return None;
    }
    match version {
        "1" if is_allow => Some((KILL, ALLOW)),
        "1" => {
            log.error(place, "a profile of version 1 is an allowlist");
            None
        }
        "2" => {
            let words: Vec<&str> = words.collect();
            let given = if words.is_empty() { None } else { Some(parse_action(&words, place, log)?.0) };
            // A word behind the policy is for what no rule names in an allowlist, and for the rules of a denylist.
            Some(match (is_allow, given) {
                (true, given) => (given.unwrap_or(KILL), ALLOW),
                (false, given) => (ALLOW, given.unwrap_or(KILL)),
            })
        }
        other => {
            log.error(place, format!("version {other:?} of profiles is not known"));
            None
        }
    }
}

/// Whom the rules that follow are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    All,
    /// An architecture that this machine runs.
    Ours,
    /// Another one.
    Foreign,
}

struct Reading<'a> {
    rule: Action,
    native: &'a [&'a str],
    name_of: &'a dyn Fn(u32) -> Option<String>,
    section: Section,
    log: &'a mut Log,
    rules: Vec<SeccompSyscall>,
}

impl Reading<'_> {
    /// A line of version 1: the number of a call.
    fn number(&mut self, place: &Place, line: &str) {
        match line.parse().ok().map(|number: u32| (number, (self.name_of)(number))) {
            Some((_, Some(name))) => self.push(&name, self.rule.clone(), Vec::new()),
            Some((number, None)) => {
                self.log.warn(place, format!("{number} is no system call of this machine: it is passed over"));
            }
            None => self.log.error(place, format!("{line:?} is no number of a system call")),
        }
    }

    /// A line of version 2: a section, or a call with what it leads to.
    fn line(&mut self, place: &Place, line: &str) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name.trim()) {
            self.begin(place, name);
            return;
        }
        // Behind a # stands a comment, unlike in a configuration.
        let line = line.split('#').next().unwrap_or_default().trim();
        if self.section == Section::Foreign || line.is_empty() {
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = (words[0], &words[1..]);
        if name == "reject_force_umount" {
            let forced = SeccompArg {
                index: Some(1),
                value: Some(MNT_FORCE),
                value_two: Some(MNT_FORCE),
                op: Some("SCMP_CMP_MASKED_EQ".to_owned()),
            };
            let refused = Action { name: "SCMP_ACT_ERRNO", errno: Some(EACCES) };
            self.push("umount2", refused, vec![forced]);
            return;
        }
        let (action, conditions) = match rest.iter().position(|word| word.starts_with('[')) {
            Some(at) => rest.split_at(at),
            None => (rest, &[][..]),
        };
        let action = if action.is_empty() {
            Some(self.rule.clone())
        } else {
            parse_action(action, place, self.log).map(|(action, _)| action)
        };
        let (Some(action), Some(conditions)) = (action, self.conditions(place, &conditions.join(""))) else { return };
        self.push(name, action, conditions);
    }

    fn begin(&mut self, place: &Place, name: &str) {
        let known = SECTIONS.iter().find(|(section, _)| *section == name);
        self.section = match known {
            _ if name == "all" => Section::All,
            Some((_, arch)) if self.native.contains(arch) => Section::Ours,
            Some(_) => Section::Foreign,
            None => {
                self.log.error(place, format!("[{name}] is no section: want all or an architecture"));
                Section::Foreign
            }
        };
        if self.section == Section::Ours {
            let text =
                format!("[{name}]: its rules hold for all architectures of this machine, config.json has no others");
            self.log.warn(place, text);
        }
    }

    /// `[index,value,operator]` or `[index,value,operator,mask]`, any number.
    fn conditions(&mut self, place: &Place, text: &str) -> Option<Vec<SeccompArg>> {
        let mut found = Vec::new();
        for part in text.split('[').map(|part| part.trim_end_matches(',')).filter(|part| !part.is_empty()) {
            let condition = part.strip_suffix(']').and_then(parse_condition);
            let Some(condition) = condition else {
                self.log
                    .error(place, format!("[{part} is no condition: want [INDEX,VALUE,OPERATOR] and a mask for &="));
                return None;
            };
            found.push(condition);
        }
        Some(found)
    }

    fn push(&mut self, name: &str, action: Action, conditions: Vec<SeccompArg>) {
        self.rules.push(SeccompSyscall {
            names: Some(vec![name.to_owned()]),
            action: Some(action.name.to_owned()),
            errno_ret: action.errno,
            args: Some(conditions).filter(|list| !list.is_empty()),
        });
    }
}

fn parse_condition(text: &str) -> Option<SeccompArg> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let ([index, value, operator] | [index, value, operator, _]) = parts.as_slice() else { return None };
    let index = index.parse().ok().filter(|index| *index < 6)?;
    let value = parse_value(value)?;
    let op = OPERATORS.iter().find(|(name, _)| name == operator)?.1;
    let mask = parts.get(3).map_or(Some(0), |mask| parse_value(mask))?;
    // Of a masked comparison config.json has the mask first.
    let (value, value_two) = if op == "SCMP_CMP_MASKED_EQ" { (mask, Some(value)) } else { (value, None) };
    Some(SeccompArg { index: Some(index), value: Some(value), value_two, op: Some(op.to_owned()) })
}

/// A number in decimal, or in hexadecimal after `0x`.
fn parse_value(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads an action; with it how many words it has.
fn parse_action(words: &[&str], place: &Place, log: &mut Log) -> Option<(Action, usize)> {
    let plain = |name| Some((Action { name, errno: None }, 1));
    match words {
        ["errno", number, ..] => match number.parse() {
            Ok(errno @ 0..=4095) => Some((Action { name: "SCMP_ACT_ERRNO", errno: Some(errno) }, 2)),
            _ => {
                log.error(place, format!("errno {number:?} is no number from 0 to 4095"));
                None
            }
        },
        ["errno"] => Some((Action { name: "SCMP_ACT_ERRNO", errno: Some(ENOSYS) }, 1)),
        ["kill", ..] => plain("SCMP_ACT_KILL"),
        ["trap", ..] => plain("SCMP_ACT_TRAP"),
        ["allow", ..] => plain("SCMP_ACT_ALLOW"),
        ["notify", ..] => {
            log.warn(place, "notify: nobody is asked here, and the call fails with EPERM as in LXC without a proxy");
            Some((Action { name: "SCMP_ACT_ERRNO", errno: Some(EPERM) }, 1))
        }
        [other, ..] => {
            log.error(place, format!("{other:?} is no action: want errno N, kill, trap, allow or notify"));
            None
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    const NATIVE: [&str; 2] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"];

    fn profile(text: &str) -> (Option<Seccomp>, Vec<super::super::Finding>) {
        let names = |number| (number < 3).then(|| ["read", "write", "open"][number as usize].to_owned());
        parse_profile(Source { name: "p", text }, &NATIVE, &names)
    }

    fn rules(profile: Option<Seccomp>) -> Vec<(String, String, Option<u64>)> {
        let list = profile.unwrap().syscalls.unwrap();
        list.into_iter().map(|rule| (rule.names.unwrap().concat(), rule.action.unwrap(), rule.errno_ret)).collect()
    }

    #[test]
    fn the_first_form_has_numbers() {
        let (found, findings) = profile("1\nallowlist\n0\n1\n999\n");
        assert_eq!(found.as_ref().unwrap().default_action.as_deref(), Some("SCMP_ACT_KILL"));
        let allowed = |name: &str| (name.to_owned(), "SCMP_ACT_ALLOW".to_owned(), None);
        assert_eq!(rules(found), [allowed("read"), allowed("write")]);
        assert!(findings.len() == 1 && findings[0].severity == Severity::Warning && findings[0].place.line == 5);
    }

    #[test]
    fn the_second_form_has_names_sections_and_conditions() {
        let text = "2\ndenylist\nreject_force_umount # comment\n[all]\nmknod errno 0\nioctl errno 1 [1,0x5401,==] [2,3,&=,7]\n\
                    [arm64]\nread kill\n[x86_64]\nwrite trap\nbpf notify\nptrace\n";
        let (found, findings) = profile(text);
        let list = found.clone().unwrap().syscalls.unwrap();
        assert_eq!(list[2].args.as_ref().unwrap()[0].value, Some(0x5401));
        let masked = &list[2].args.as_ref().unwrap()[1];
        assert_eq!((masked.value, masked.value_two), (Some(7), Some(3)));
        let names: Vec<String> = rules(found).into_iter().map(|(name, action, _)| format!("{name} {action}")).collect();
        assert_eq!(
            names,
            [
                "umount2 SCMP_ACT_ERRNO",
                "mknod SCMP_ACT_ERRNO",
                "ioctl SCMP_ACT_ERRNO",
                "write SCMP_ACT_TRAP",
                "bpf SCMP_ACT_ERRNO",
                "ptrace SCMP_ACT_KILL"
            ]
        );
        assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{findings:?}");
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let (found, findings) = profile("2\nallowlist errno 5\n[vax]\n[all]\nread errno 99999\nread fly\nread [1,2]\n");
        assert_eq!(found.unwrap().default_errno_ret, Some(5));
        assert_eq!(findings.iter().map(|finding| finding.place.line).collect::<Vec<_>>(), [3, 5, 6, 7]);
        for text in ["", "2", "3\nallowlist", "2\nsomelist", "1\ndenylist"] {
            assert!(profile(text).0.is_none(), "{text:?}");
        }
    }
}
