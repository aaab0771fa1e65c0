//! Completions for shells, from the tables that the parser and `--help` use.

use std::fmt::Write;

use cli::args::flags::{Flag, Takes};
use cli::args::verbs::{FIRST, GLOBAL, VERBS, Verb};

/// Why writing to a string is no concern.
const STRING: &str = "writing to a string cannot fail";

/// All scripts: file name, text.
pub(crate) fn render() -> Vec<(String, String)> {
    vec![("bash/skep".to_owned(), bash()), ("zsh/_skep".to_owned(), zsh()), ("fish/skep.fish".to_owned(), fish())]
}

fn shown(list: &[&'static Flag]) -> Vec<&'static Flag> {
    list.iter().copied().filter(|flag| !flag.hidden).collect()
}

fn takes_id(verb: &Verb) -> bool {
    verb.operands.contains("container-id")
}

fn bash() -> String {
    let mut out = String::from(
        "# Completion of skep for bash.\n_skep() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= word\n    \
         for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n        case $word in\n",
    );
    let names: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    writeln!(out, "            {}) verb=$word; break ;;\n        esac\n    done", names.join("|")).expect(STRING);
    out += "    case $verb:$prev in\n";
    for verb in VERBS {
        for flag in shown(verb.flags) {
            bash_value(&mut out, verb.name, flag);
        }
    }
    for flag in shown(GLOBAL) {
        bash_value(&mut out, "*", flag);
    }
    out += "    esac\n    case $verb in\n";
    for verb in VERBS {
        let options = options(&[&shown(verb.flags)[..], &shown(GLOBAL)].concat());
        writeln!(out, "        {})", verb.name).expect(STRING);
        writeln!(out, "            [[ $cur == -* ]] && COMPREPLY=($(compgen -W '{options}' -- \"$cur\")) && return")
            .expect(STRING);
        if takes_id(verb) {
            out += "            COMPREPLY=($(compgen -W \"$(skep list --quiet 2>/dev/null)\" -- \"$cur\"))\n";
        }
        out += "            ;;\n";
    }
    let first = options(&[&shown(GLOBAL)[..], &shown(FIRST)].concat());
    writeln!(out, "        *) COMPREPLY=($(compgen -W '{} {first}' -- \"$cur\")) ;;\n    esac\n}}", names.join(" "))
        .expect(STRING);
    out + "complete -F _skep skep\n"
}

fn options(flags: &[&Flag]) -> String {
    let names = flags.iter().map(|flag| match flag.short {
        Some(short) => format!("-{short} --{}", flag.long),
        None => format!("--{}", flag.long),
    });
    names.collect::<Vec<_>>().join(" ")
}

fn bash_value(out: &mut String, verb: &str, flag: &Flag) {
    let action = match flag.takes {
        Takes::Nothing => return,
        Takes::Text(_) | Takes::Number => "COMPREPLY=()".to_owned(),
        Takes::File => "COMPREPLY=($(compgen -f -- \"$cur\"))".to_owned(),
        Takes::Dir => "COMPREPLY=($(compgen -d -- \"$cur\"))".to_owned(),
        Takes::OneOf(words) => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", words.join(" ")),
    };
    let short = flag.short.map(|short| format!("|{verb}:-{short}")).unwrap_or_default();
    writeln!(out, "        {verb}:--{}{short}) {action}; return ;;", flag.long).expect(STRING);
}

fn zsh() -> String {
    let mut out = String::from(
        "#compdef skep\n# Completion of skep for zsh.\n_skep_ids() { compadd -- ${(f)\"$(skep list --quiet 2>/dev/null)\"} }\n_skep() {\n    \
         local context state state_descr line verb\n    typeset -A opt_args\n    _arguments -C \\\n",
    );
    for flag in shown(&[GLOBAL, FIRST].concat()) {
        writeln!(out, "        {} \\", zsh_option(flag)).expect(STRING);
    }
    out += "        '1: :->verb' '*:: :->rest'\n    case $state in\n    verb)\n        local -a verbs=(\n";
    for verb in VERBS {
        writeln!(out, "            '{}:{}'", verb.name, zsh_text(verb.about)).expect(STRING);
    }
    out += "        )\n        _describe command verbs ;;\n    rest)\n        case $words[1] in\n";
    for verb in VERBS {
        writeln!(out, "        {})\n            _arguments \\", verb.name).expect(STRING);
        for flag in shown(&[verb.flags, GLOBAL].concat()) {
            writeln!(out, "                {} \\", zsh_option(flag)).expect(STRING);
        }
        let operand =
            if takes_id(verb) { "'1:container:_skep_ids' '*::argument:_normal'" } else { "'*:argument:_default'" };
        writeln!(out, "                {operand} ;;").expect(STRING);
    }
    out + "        esac ;;\n    esac\n}\n_skep \"$@\"\n"
}

/// `'(-b --bundle)'{-b+,--bundle=}'[text]:DIR:_directories'`.
fn zsh_option(flag: &Flag) -> String {
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Text(_) | Takes::Number => format!(":{}: ", flag.takes.placeholder()),
        Takes::File => ":FILE:_files".to_owned(),
        Takes::Dir => ":DIR:_directories".to_owned(),
        Takes::OneOf(words) => format!(":word:({})", words.join(" ")),
    };
    let text = zsh_text(flag.help);
    let (plus, equals) = if value.is_empty() { ("", "") } else { ("+", "=") };
    let many = if flag.repeats { "*" } else { "" };
    match flag.short {
        Some(short) if flag.repeats => format!("'*'{{-{short}{plus},--{}{equals}}}'[{text}]{value}'", flag.long),
        Some(short) => format!("'(-{short} --{0})'{{-{short}{plus},--{0}{equals}}}'[{text}]{value}'", flag.long),
        None => format!("'{many}--{}{equals}[{text}]{value}'", flag.long),
    }
}

/// Text inside single quotes and brackets.
fn zsh_text(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

fn fish() -> String {
    let mut out = String::from("# Completion of skep for fish.\ncomplete -c skep -f\n");
    for flag in shown(&[GLOBAL, FIRST].concat()) {
        fish_option(&mut out, "", flag);
    }
    for verb in VERBS {
        let about = fish_text(verb.about);
        writeln!(out, "complete -c skep -n __fish_use_subcommand -a {} -d '{about}'", verb.name).expect(STRING);
        let seen = format!(" -n '__fish_seen_subcommand_from {}'", verb.name);
        for flag in shown(verb.flags) {
            fish_option(&mut out, &seen, flag);
        }
        if takes_id(verb) {
            writeln!(out, "complete -c skep{seen} -a '(skep list --quiet 2>/dev/null)'").expect(STRING);
        }
    }
    out
}

fn fish_option(out: &mut String, condition: &str, flag: &Flag) {
    let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Text(_) | Takes::Number => " -x".to_owned(),
        Takes::File => " -r -F".to_owned(),
        Takes::Dir => " -x -a '(__fish_complete_directories)'".to_owned(),
        Takes::OneOf(words) => format!(" -x -a '{}'", words.join(" ")),
    };
    writeln!(out, "complete -c skep{condition} -l {}{short}{value} -d '{}'", flag.long, fish_text(flag.help))
        .expect(STRING);
}

fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_option_of_every_command_occurs() {
        let (bash, zsh, fish) = (bash(), zsh(), fish());
        for verb in VERBS {
            let part = |text: &str, from: &str, to: &str| {
                let start = text.find(from).unwrap_or_else(|| panic!("no {from:?}")) + from.len();
                text[start..].split(to).next().unwrap_or_default().to_owned()
            };
            let in_bash = part(&bash, &format!("        {})\n", verb.name), ";;");
            let in_zsh = part(&zsh, &format!("        {})\n", verb.name), ";;");
            for flag in [verb.flags, GLOBAL].concat() {
                let name = format!("--{}", flag.long);
                let in_words = in_bash.split([' ', '\'']).any(|word| word == name);
                assert_eq!(in_words, !flag.hidden, "bash: {} {name}", verb.name);
                assert_eq!(in_zsh.contains(&zsh_option(flag)), !flag.hidden, "zsh: {} {name}", verb.name);
            }
            for flag in verb.flags {
                let line = format!("seen_subcommand_from {}' -l {} ", verb.name, flag.long);
                assert_eq!(fish.contains(&line), !flag.hidden, "fish: {} --{}", verb.name, flag.long);
            }
        }
        for flag in shown(&[GLOBAL, FIRST].concat()) {
            assert!(
                fish.contains(&format!("complete -c skep -l {} ", flag.long)) || flag.short.is_some(),
                "--{}",
                flag.long
            );
            assert!(fish.contains(&format!("-l {}", flag.long)), "--{}", flag.long);
        }
    }

    /// What bash offers after these words, the last of which is begun.
    #[track_caller]
    fn check(words: &[&str], expected: &[&str]) {
        let script = format!(
            "{}\nCOMP_WORDS=({}); COMP_CWORD={}; _skep; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            bash(),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1
        );
        let said = Command::new("bash").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        assert_eq!(text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(), expected, "{words:?}");
    }

    #[test]
    fn bash_completes() {
        check(&["skep", "cre"], &["create"]);
        check(&["skep", "--root", "/x", "pau"], &["pause"]);
        check(&["skep", "create", "--bun"], &["--bundle"]);
        check(&["skep", "--log-format", "j"], &["json"]);
        check(&["skep", "list", "--format", "j"], &["json"]);
        check(&["skep", "state", "--log-lev"], &["--log-level"]);
    }
}
