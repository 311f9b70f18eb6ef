//! Tests of the globs: their meaning, their mistakes and their bounds.

use super::*;
use proptest::prelude::*;

fn is_in(glob: &str, path: &str) -> bool {
    Globs::new(&[glob.to_owned()]).unwrap().matches(path)
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
    assert!(!Globs::new(&[]).unwrap().matches("a"));
}

#[test]
fn braces_classes_and_escapes_choose_too() {
    assert!(is_in("*.{txt,log}", "a.log") && !is_in("*.{txt,log}", "a.xml"));
    assert!(is_in("{a/b,c}/*", "a/b/x") && is_in("{a/b,c}/*", "c/x") && !is_in("{a/b,c}/*", "a/x"));
    assert!(is_in("a{,.old}", "a") && is_in("a{,.old}", "a.old") && !is_in("a{,.old}", "a.new"));
    assert!(is_in("{a,{b,c}d}", "bd") && !is_in("{a,{b,c}d}", "b"));
    assert!(is_in("part[0-9]", "part7") && !is_in("part[0-9]", "partx"));
    assert!(is_in("[!a]b", "xb") && !is_in("[!a]b", "ab") && !is_in("[!a]b", "/b"));
    assert!(is_in("[]]", "]") && is_in("[[]", "[") && is_in("a]", "a]"));
    assert!(is_in(r"\*", "*") && !is_in(r"\*", "a") && is_in(r"a\{b\}", "a{b}"));
    assert!(is_in(r"\a\\", r"a\"));
    assert!(!is_in("a?b", "a/b") && !is_in("a[/]b", "a/b") && !is_in("a[!x]b", "a/b"));
}

#[test]
fn names_keep_their_old_meaning() {
    assert!(is_in("./a//b/", "a/b") && is_in("./d/*", "d/x"));
    assert!(is_in("d/**", "d") && is_in("d/**/**", "d/e") && !is_in("d/**", "de"));
    assert!(is_in("*", ".hidden") && is_in("**", ".d/.hidden") && is_in("**/x", "x"));
    assert!(is_in("a,*", "a,b") && !is_in("a,*", "a") && is_in("{a,b},*", "b,c"));
    assert!(is_in("*é*", "xéy") && is_in("{ä,ö}", "ö") && is_in("été/**", "été/ü"));
    assert!(!is_in("./", "a") && !is_in("A*", "ab"));
}

#[test]
fn a_mistake_is_named_with_its_place_and_its_repair() {
    let cases = [
        ("a[b", "`[` has no `]`; write `\\[` for the character itself"),
        ("{a,b", "`{` has no `}`; write `\\{` for the character itself"),
        ("a}", "`}` has no `{`; write `\\}` for the character itself"),
        ("a\\", "ends with `\\`; write `\\\\` for the character itself"),
        ("[z-a]", "the range `z-a` is in the wrong order; write `a-z`"),
        (
            "[aé]",
            "`[]` can hold only ASCII characters, and `é` is none; write `{a,é}` in place of \
             `[aé]`",
        ),
        (
            "[[:alpha:]]",
            "`[:` names a class, which `[]` cannot hold; write a range such as `[a-z]`",
        ),
        ("{{{{{a}}}}}", "braces are nested deeper than 4; write more items"),
    ];
    for (pattern, problem) in cases {
        let error = check(&["ok".to_owned(), pattern.to_owned()]).unwrap_err();
        assert_eq!(error, BadGlob { index: Some(1), problem: problem.to_owned() });
    }
}

#[test]
fn too_many_and_too_long_patterns_are_refused() {
    let refused = |patterns: Vec<String>| check(&patterns).unwrap_err();
    assert!(refused(vec!["a".to_owned(); 65]).problem.contains("at most 64"));
    assert_eq!(refused(vec!["a".to_owned(), "a".repeat(1025)]).index, Some(1));
    let wild = refused(vec!["a".repeat(1023) + "*"; 5]);
    assert!(wild.index.is_none() && wild.problem.contains("5120 bytes"), "{wild}");
    check(&vec!["a".repeat(1024); 64]).unwrap();
    check(&vec!["a".repeat(1023) + "*"; 2]).unwrap();
}

#[test]
fn the_costliest_patterns_that_are_allowed_compile() {
    let tails: Vec<String> = (1..40).map(|n| format!("*a{}b", "?".repeat(n))).collect();
    let costly = [
        "*a".repeat(512),
        "*a".to_owned() + &"?".repeat(1022),
        "[a-y]".repeat(204),
        format!("{{{}}}", "*a,*b,".repeat(170)),
        format!("{{{}}}", "a,".repeat(510)),
        "**/*a".repeat(204),
        "**/*a*".to_owned() + &"?a*".repeat(300),
        format!("**/{{{}}}", tails.join(",")),
    ];
    let path = vec!["ab".repeat(100); 64].join("/");
    for pattern in costly {
        let globs = Globs::new(&vec![pattern.clone(); MAX_WILDCARD_BYTES / pattern.len()]);
        globs.unwrap().matches(&path);
    }
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
            name_meaning(rest, name) || matches!(name, [_, more @ ..] if name_meaning(glob, more))
        }
        ([b'?', rest @ ..], [_, more @ ..]) => name_meaning(rest, more),
        ([g, rest @ ..], [n, more @ ..]) => g == n && name_meaning(rest, more),
        _ => false,
    }
}

fn escaped(path: &str) -> String {
    path.chars()
        .flat_map(|c| if "*?[]{},\\".contains(c) { vec!['\\', c] } else { vec![c] })
        .collect()
}

const NAMES: &str = "[a-zé*?{},.!^-]{1,6}|[\\[\\]\\\\:]{1,3}";

proptest! {
    #[test]
    fn no_pattern_panics_and_what_is_checked_compiles(
        patterns in proptest::collection::vec("[ab/*?{},!^\\[\\]\\\\:é.-]{0,40}|\\PC{0,20}", 0..5),
        path in "[ab/é*]{0,20}",
    ) {
        match Globs::new(&patterns) {
            Ok(globs) => { globs.matches(&path); }
            Err(error) => prop_assert_eq!(check(&patterns), Err(error)),
        }
    }

    #[test]
    fn an_escaped_path_matches_itself_and_two_stars_match_all(
        names in proptest::collection::vec(NAMES, 1..5),
        other in "[a-z]{1,6}",
    ) {
        let names: Vec<String> = names.into_iter().filter(|n| n != "." && n != "..").collect();
        prop_assume!(!names.is_empty());
        let path = names.join("/");
        prop_assert!(is_in(&escaped(&path), &path));
        let below = format!("{path}/{other}");
        prop_assert!(is_in(&(escaped(&path) + "/**"), &below));
        prop_assert_eq!(is_in(&escaped(&path), &other), path == other);
        prop_assert!(is_in("**", &path));
    }

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
