//! Rust source without its comments, strings and tests, as tokens.
//!
//! Enough of Rust's grammar for rules that look for words: raw strings, byte strings, nested comments, lifetimes against
//! character literals. Macros are not expanded.

/// A word or a single punctuation mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// Counted from 1.
    pub(super) line: usize,
    /// Whether it stands in an item under `#[cfg(test)]`.
    pub(super) in_test: bool,
}

/// The tokens of one file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) tokens: Vec<Token>,
}

impl Source {
    pub(super) fn scan(path: &str, text: &str) -> Source {
        let mut tokens = tokenize(text);
        mark_tests(&mut tokens);
        Source { path: path.to_owned(), tokens }
    }

    /// Whether the tokens from `at` on are these.
    pub(super) fn matches(&self, at: usize, words: &[&str]) -> bool {
        self.tokens.len() >= at + words.len()
            && words.iter().zip(&self.tokens[at..]).all(|(word, token)| token.text == *word)
    }

    /// The text of the token before `at`, empty at the start.
    pub(super) fn before(&self, at: usize) -> &str {
        at.checked_sub(1).map_or("", |at| self.tokens[at].text.as_str())
    }
}

fn tokenize(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        let skipped = is_skipped(&chars, at, end);
        if !skipped {
            tokens.push(Token { text: chars[at..end].iter().collect(), line, in_test: false });
        }
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// White space, comments, strings and characters carry no token.
fn is_skipped(chars: &[char], at: usize, end: usize) -> bool {
    let first = chars[at];
    let literal = chars[at..end].iter().any(|c| *c == '"' || *c == '\'') && !is_lifetime(chars, at);
    first.is_whitespace() || literal || (first == '/' && end - at > 1)
}

/// Where the token, comment or literal that begins at `at` ends.
fn token_end(chars: &[char], at: usize) -> usize {
    match chars[at] {
        '/' if chars.get(at + 1) == Some(&'/') => find(chars, at, |c| c == '\n'),
        '/' if chars.get(at + 1) == Some(&'*') => comment_end(chars, at),
        '"' => string_end(chars, at + 1),
        '\'' if is_lifetime(chars, at) => word_end(chars, at + 1),
        '\'' => char_end(chars, at + 1),
        c if is_word(c) => match prefixed_literal_end(chars, at) {
            Some(end) => end,
            None => word_end(chars, at),
        },
        _ => at + 1,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| wanted(*c)).map_or(chars.len(), |offset| from + offset)
}

fn word_end(chars: &[char], at: usize) -> usize {
    find(chars, at, |c| !is_word(c))
}

/// `'a` not followed by a quote is a lifetime or a label; `'a'` is a character.
fn is_lifetime(chars: &[char], at: usize) -> bool {
    chars[at] == '\''
        && chars.get(at + 1).is_some_and(|c| is_word(*c))
        && chars.get(word_end(chars, at + 1)) != Some(&'\'')
}

/// The end of a block comment; they nest.
fn comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

/// The end of a string whose opening quote stands before `at`.
fn string_end(chars: &[char], at: usize) -> usize {
    quoted_end(chars, at, '"')
}

fn char_end(chars: &[char], at: usize) -> usize {
    quoted_end(chars, at, '\'')
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `b"…"`, `c"…"`, `b'…'`, `r"…"`, `r#"…"#` and their combinations; none for a plain word or `r#word`.
fn prefixed_literal_end(chars: &[char], at: usize) -> Option<usize> {
    let prefix_end = word_end(chars, at);
    let prefix: String = chars[at..prefix_end].iter().collect();
    match (prefix.as_str(), chars.get(prefix_end)?) {
        ("b" | "c", '"') => Some(string_end(chars, prefix_end + 1)),
        ("b", '\'') => Some(char_end(chars, prefix_end + 1)),
        ("r" | "br" | "cr", '"' | '#') => raw_string_end(chars, prefix_end),
        _ => None,
    }
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = find(chars, at, |c| c != '#') - at;
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut end = at + hashes + 1;
    loop {
        end = find(chars, end, |c| c == '"');
        if end >= chars.len() {
            return Some(chars.len());
        }
        end += 1;
        if chars[end..].iter().take_while(|c| **c == '#').count() >= hashes {
            return Some(end + hashes);
        }
    }
}

/// Marks the item after each `#[cfg(test)]`: to its closing brace, or to the semicolon.
fn mark_tests(tokens: &mut [Token]) {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut at = 0;
    while at + ATTRIBUTE.len() <= tokens.len() {
        if !ATTRIBUTE.iter().zip(&tokens[at..]).all(|(word, token)| token.text == *word) {
            at += 1;
            continue;
        }
        let end = item_end(tokens, at + ATTRIBUTE.len());
        for token in &mut tokens[at..end] {
            token.in_test = true;
        }
        at = end;
    }
}

fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let words: Vec<String> = Source::scan("x.rs", text).tokens.into_iter().map(|token| token.text).collect();
        assert_eq!(words, expected, "{text}");
    }

    #[test]
    fn comments_carry_no_token() {
        check("a // b\nc", &["a", "c"]);
        check("a /* b /* c */ d */ e", &["a", "e"]);
        check("/// a\nb", &["b"]);
        check("a / b", &["a", "/", "b"]);
    }

    #[test]
    fn strings_carry_no_token() {
        check(r#"a("b \" c", d)"#, &["a", "(", ",", "d", ")"]);
        check(r##"a r#"b " c"# d"##, &["a", "d"]);
        check(r#"b"x" c"y" br"z" w"#, &["w"]);
        check("r\"a\\\" b", &["b"]);
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        check("'a' b", &["b"]);
        check(r"'\'' b", &["b"]);
        check("b'\"' c", &["c"]);
        check("&'a str", &["&", "'a", "str"]);
        check("fn f<'a>(x: &'a u8)", &["fn", "f", "<", "'a", ">", "(", "x", ":", "&", "'a", "u8", ")"]);
    }

    #[test]
    fn raw_words_stay_words() {
        check("r#type = 1", &["r", "#", "type", "=", "1"]);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let source = Source::scan("x.rs", "\"a\nb\" /* c\n */ d\ne");
        let lines: Vec<usize> = source.tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [3, 4]);
    }

    #[test]
    fn an_item_under_cfg_test_is_marked_and_what_follows_is_not() {
        let source = Source::scan("x.rs", "a #[cfg(test)] mod t { fn f() { b } } c #[cfg(test)] use d; e");
        let free: Vec<&str> =
            source.tokens.iter().filter(|token| !token.in_test).map(|token| token.text.as_str()).collect();
        assert_eq!(free, ["a", "c", "e"]);
    }
}
