//! Lists of CPU or memory node numbers, such as `0-3,7`.

use std::collections::BTreeSet;

/// The highest number that is taken. Far above what kernels support (CONFIG_NR_CPUS is at most 8192); it keeps a
/// typing error from filling the memory.
const MAX: u32 = 65_536;

/// What is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ListError {
    #[error("{0:?} is not a number or a range of numbers")]
    Number(String),
    #[error("{0:?} is more than 65536")]
    Large(String),
    #[error("the range {0:?} ends before it begins")]
    Reversed(String),
    #[error("it has no member")]
    Empty,
}

/// Parses a list into its numbers, sorted, each once. Blanks around entries and empty entries are passed over.
///
/// # Errors
/// [`ListError`], also for a text that is not empty and yet names no number.
pub(super) fn parse(text: &str) -> Result<Vec<u32>, ListError> {
    let mut numbers = BTreeSet::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        let (first, last) = (number(first, entry)?, number(last, entry)?);
        if last < first {
            return Err(ListError::Reversed(entry.to_owned()));
        }
        numbers.extend(first..=last);
    }
    if numbers.is_empty() { Err(ListError::Empty) } else { Ok(numbers.into_iter().collect()) }
}

fn number(text: &str, entry: &str) -> Result<u32, ListError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(ListError::Number(entry.to_owned()));
    }
    text.parse().ok().filter(|number| *number <= MAX).ok_or_else(|| ListError::Large(entry.to_owned()))
}

/// Whether a text may be a list in the kernel's own grammar (`bitmap_parselist`), which also has `0-7:2/4`, `N` and
/// `all`. The kernel is the judge of the rest.
pub(super) fn may_be_kernel_list(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b",-:/ \tNnalAL".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let check = |text: &str, expected: Result<&[u32], ListError>| {
            assert_eq!(parse(text), expected.map(<[u32]>::to_vec), "{text:?}");
        };
        check("7", Ok(&[7]));
        check("0-3,7", Ok(&[0, 1, 2, 3, 7]));
        check(" 3 ,, 1-2,2", Ok(&[1, 2, 3]));
        check("65536", Ok(&[65_536]));
        check("", Err(ListError::Empty));
        check(" , ", Err(ListError::Empty));
        check("3-1", Err(ListError::Reversed("3-1".into())));
        check("65537", Err(ListError::Large("65537".into())));
        check("99999999999", Err(ListError::Large("99999999999".into())));
        for bad in ["a", "-", "1-", "-1", "1-2-3", "+1", "0x1", "1 2"] {
            check(bad, Err(ListError::Number(bad.into())));
        }
    }
}
