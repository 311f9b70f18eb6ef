//! Globs over paths of `output`: `*` and `?` within a name, `**` across folders. Pure.

/// A set of globs; a path is in when one of them matches. No globs, nothing in.
#[derive(Clone, Debug)]
pub struct Globs(Vec<Vec<String>>);

impl Globs {
    pub fn new(patterns: &[String]) -> Self {
        Self(
            patterns
                .iter()
                .map(|p| {
                    p.split('/').filter(|s| !s.is_empty() && *s != ".").map(str::to_owned).collect()
                })
                .collect(),
        )
    }

    /// Is this path (relative, `/` between names) asked for?
    pub fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        self.0.iter().any(|glob| path_matches(glob, &names))
    }
}

/// Row by row instead of by recursion: `**/**/**/…` from a spec must not cost exponential time.
fn path_matches(glob: &[String], names: &[&str]) -> bool {
    let mut reach = vec![false; names.len() + 1];
    reach[0] = true;
    for segment in glob {
        let mut next = vec![false; names.len() + 1];
        for at in 0..=names.len() {
            if segment == "**" {
                next[at] = reach[at] || (at > 0 && next[at - 1]);
            } else if at > 0 {
                next[at] = reach[at - 1] && name_matches(segment, names[at - 1]);
            }
        }
        reach = next;
    }
    reach[names.len()]
}

/// One name against one segment, with backtracking to the last star only: linear in practice,
/// quadratic at worst.
fn name_matches(segment: &str, name: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (segment.chars().collect(), name.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&'*') {
            star = Some((g, t));
            g += 1;
        } else if glob.get(g).is_some_and(|c| *c == '?' || *c == text[t]) {
            g += 1;
            t += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            g = star_at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_in(glob: &str, path: &str) -> bool {
        Globs::new(&[glob.to_owned()]).matches(path)
    }

    #[test]
    fn stars_stay_within_a_name_and_double_stars_do_not() {
        assert!(is_in("*.txt", "a.txt"));
        assert!(!is_in("*.txt", "d/a.txt"));
        assert!(is_in("**/*.txt", "a.txt"));
        assert!(is_in("**/*.txt", "d/e/a.txt"));
        assert!(is_in("**", "d/e/a.txt"));
        assert!(is_in("d/**", "d/e/a.txt"));
        assert!(!is_in("d/**", "e/d/a.txt"));
        assert!(is_in("d/**/a", "d/a"));
        assert!(is_in("rep?rt-*.x*l", "report-1.xml"));
        assert!(!is_in("a", "ab"));
        assert!(!Globs::new(&[]).matches("a"));
    }

    #[test]
    fn many_stars_end_soon() {
        let glob = "**/".repeat(60) + &"a*".repeat(60) + "b";
        assert!(!is_in(&glob, &("x/".repeat(60) + &"a".repeat(200))));
    }

    /// The meaning, said by recursion; exponential, so for short inputs only.
    fn meaning(glob: &[&str], names: &[&str]) -> bool {
        match (glob, names) {
            ([], []) => true,
            (["**", rest @ ..], _) => {
                meaning(rest, names) || matches!(names, [_, more @ ..] if meaning(glob, more))
            }
            ([g, rest @ ..], [n, more @ ..]) => {
                name_meaning(g.as_bytes(), n.as_bytes()) && meaning(rest, more)
            }
            _ => false,
        }
    }

    fn name_meaning(glob: &[u8], name: &[u8]) -> bool {
        match (glob, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                name_meaning(rest, name)
                    || matches!(name, [_, more @ ..] if name_meaning(glob, more))
            }
            ([b'?', rest @ ..], [_, more @ ..]) => name_meaning(rest, more),
            ([g, rest @ ..], [n, more @ ..]) => g == n && name_meaning(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_means_what_the_recursion_means(
            glob in proptest::collection::vec("\\*\\*|[ab*?]{1,4}", 1..5),
            path in proptest::collection::vec("[ab]{1,4}", 1..5),
        ) {
            let segments: Vec<&str> = glob.iter().map(String::as_str).collect();
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            prop_assert_eq!(is_in(&glob.join("/"), &path.join("/")), meaning(&segments, &names));
        }
    }
}
