//! The known word that somebody probably meant.

/// The word that is at most two typing errors away, or one for words of up to four letters. The nearest wins; of several
/// the one that only lacks its end.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if typed.chars().count() > 4 { 2 } else { 1 };
    let near = known.filter(|word| distance(typed, word) <= limit);
    near.min_by_key(|word| (distance(typed, word), !word.starts_with(typed)))
}

/// Number of letters to insert, delete, replace or swap with the next one.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(32).collect();
    let b: Vec<char> = b.chars().take(32).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, expected: Option<&str>) {
        let known = ["create", "start", "state", "kill", "delete", "ps", "list"];
        assert_eq!(nearest(typed, known.into_iter()), expected, "{typed:?}");
    }

    #[test]
    fn one_or_two_typing_errors() {
        check("crate", Some("create"));
        check("craete", Some("create"));
        check("strat", Some("start"));
        check("statte", Some("state"));
        check("stat", Some("state"));
        check("remove", None);
        check("lst", Some("list"));
        check("lsit", Some("list"));
        check("pa", Some("ps"));
        check("xy", None);
        check("", None);
    }
}
