//! Guesses at what an operator meant to write.

/// The longest word that is compared, in characters: the work grows with its square.
const WORD_CHARACTERS_MAX: usize = 64;

/// `did you mean ...?` with the nearest of `known`, if one is near enough.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let characters = word.chars().count();
    if characters > WORD_CHARACTERS_MAX {
        return None;
    }
    // A third of the letters may be wrong; more would make any short word near any other.
    let distance_max = characters.div_ceil(3);
    let word = word.to_lowercase();
    let with_distance = |known: &'a str| (distance(&word, known), known);
    let nearest = known.into_iter().map(with_distance).min()?;
    let near = nearest.0 <= distance_max && nearest.0 < nearest.1.chars().count();
    near.then(|| format!("did you mean `{}`?", nearest.1))
}

/// How many letters must be changed, put in, left out or swapped with their neighbour to get from
/// `a` to `b` (optimal string alignment, Damerau 1964).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = above[j] + usize::from(a[i] != b[j]);
            let mut least = changed.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances_are_as_counted_by_hand() {
        let pinned = [
            ("", "", 0),
            ("", "abc", 3),
            ("replica", "replicas", 1),
            ("prots", "ports", 1),
            ("need", "env", 3),
            ("kitten", "sitting", 3),
        ];
        for (a, b, expected) in pinned {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_near_words_are_guessed() {
        let known = ["command", "ports", "env", "user"];
        assert_eq!(
            did_you_mean("Prots", known),
            Some("did you mean `ports`?".into())
        );
        assert_eq!(
            did_you_mean("comand", known),
            Some("did you mean `command`?".into())
        );
        assert_eq!(did_you_mean("volumes", known), None);
        assert_eq!(did_you_mean("x", ["y"]), None);
        assert_eq!(did_you_mean(&"x".repeat(1_000), known), None);
        assert_eq!(did_you_mean("x", []), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_for_equals(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
