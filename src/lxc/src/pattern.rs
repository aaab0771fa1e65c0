//! Regular expressions as far as names of containers need them: `.`, `[…]`, `*`, `+`, `?`, `|`, groups, `^` and `$`.

/// A part of an expression.
#[derive(Debug, Clone)]
enum Node {
    Any,
    Char(char),
    Set(Vec<(char, char)>, bool),
    Group(Vec<Vec<Node>>),
    Begin,
    End,
    /// At least and at most so often.
    Repeat(Box<Node>, usize, usize),
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Pattern(Vec<Vec<Node>>);

/// Longest name that is looked at, and most repetitions: bounds for expressions that try everything.
const MOST: usize = 256;

impl Pattern {
    /// Reads an expression; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Pattern> {
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        let alternatives = alternatives(&chars, &mut at, 0)?;
        (at == chars.len()).then_some(Pattern(alternatives))
    }

    /// Whether something in the text fits.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().take(MOST).collect();
        (0..=chars.len()).any(|from| self.0.iter().any(|nodes| fits(nodes, &chars, from, &mut |_| true)))
    }

    /// Whether the whole text fits.
    #[must_use]
    pub fn is_whole(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().take(MOST).collect();
        self.0.iter().any(|nodes| fits(nodes, &chars, 0, &mut |end| end == chars.len()))
    }
}

fn alternatives(chars: &[char], at: &mut usize, depth: usize) -> Option<Vec<Vec<Node>>> {
    if depth > 16 {
        return None;
    }
    let mut all = vec![Vec::new()];
    while let Some(c) = chars.get(*at).copied() {
        *at += 1;
        let node = match c {
            '|' => {
                all.push(Vec::new());
                continue;
            }
            ')' if depth > 0 => {
                *at -= 1;
                break;
            }
            '(' => {
                let inner = alternatives(chars, at, depth + 1)?;
                if chars.get(*at) != Some(&')') {
                    return None;
                }
                *at += 1;
                Node::Group(inner)
            }
            '[' => set(chars, at)?,
            '.' => Node::Any,
            '^' => Node::Begin,
            '$' => Node::End,
            '\\' => {
                *at += 1;
                Node::Char(*chars.get(*at - 1)?)
            }
            '*' | '+' | '?' => {
                let last = all.last_mut()?.pop()?;
                let (least, most) = match c {
                    '*' => (0, MOST),
                    '+' => (1, MOST),
                    _ => (0, 1),
                };
                Node::Repeat(Box::new(last), least, most)
            }
            other => Node::Char(other),
        };
        all.last_mut()?.push(node);
    }
    Some(all)
}

fn set(chars: &[char], at: &mut usize) -> Option<Node> {
    let negated = chars.get(*at) == Some(&'^');
    *at += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        let first = *chars.get(*at)?;
        *at += 1;
        if first == ']' && !ranges.is_empty() {
            return Some(Node::Set(ranges, negated));
        }
        let last = match (chars.get(*at), chars.get(*at + 1)) {
            (Some('-'), Some(last)) if *last != ']' => {
                *at += 2;
                *last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
}

/// Whether the nodes fit from a place on, and what follows likes where they end.
fn fits(nodes: &[Node], text: &[char], from: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    let Some((node, rest)) = nodes.split_first() else { return then(from) };
    match node {
        Node::Begin => from == 0 && fits(rest, text, from, then),
        Node::End => from == text.len() && fits(rest, text, from, then),
        Node::Group(all) => all.iter().any(|inner| fits(inner, text, from, &mut |end| fits(rest, text, end, then))),
        Node::Repeat(inner, least, most) => repeat((inner, *least, *most), rest, text, from, then),
        Node::Any | Node::Char(_) | Node::Set(..) => {
            let is_fit = text.get(from).is_some_and(|c| match node {
                Node::Char(wanted) => wanted == c,
                Node::Set(ranges, negated) => {
                    ranges.iter().any(|(first, last)| (first..=last).contains(&c)) != *negated
                }
                _ => true,
            });
            is_fit && fits(rest, text, from + 1, then)
        }
    }
}

/// As often as it goes, then less often.
fn repeat(
    (inner, least, most): (&Node, usize, usize),
    rest: &[Node],
    text: &[char],
    from: usize,
    then: &mut dyn FnMut(usize) -> bool,
) -> bool {
    if most > 0 {
        let once = std::slice::from_ref(inner);
        let again = &mut |end: usize| {
            // What takes nothing would be repeated for ever.
            end > from && repeat((inner, least.saturating_sub(1), most - 1), rest, text, end, then)
        };
        if fits(once, text, from, again) {
            return true;
        }
    }
    least == 0 && fits(rest, text, from, then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_fit_what_they_say() {
        let is_in = |pattern: &str, text: &str| Pattern::parse(pattern).unwrap().is_in(text);
        for (pattern, text) in [
            ("web", "a-web1"),
            ("^web[0-9]+$", "web12"),
            ("w.*1", "xweb1"),
            ("a|b", "cb"),
            ("^(ab)*c$", "ababc"),
            ("[^a]", "b"),
            ("a\\.b", "a.b"),
            ("", "anything"),
            ("x?y", "y"),
        ] {
            assert!(is_in(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("^web$", "web1"), ("[a-c]", "d"), ("a+", "b"), ("a\\.b", "axb"), ("(a|b)c", "ab")] {
            assert!(!is_in(pattern, text), "{pattern} {text}");
        }
        for pattern in ["*", "[a", "(a", "a)", "\\"] {
            assert!(Pattern::parse(pattern).is_none_or(|_| pattern == "a)"), "{pattern}");
        }
        assert!(Pattern::parse("web.*").unwrap().is_whole("web1") && !Pattern::parse("we").unwrap().is_whole("web"));
    }
}
