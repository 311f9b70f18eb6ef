//! The docs name files, tests and pages that exist.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use agentvm_testing::repository;

/// All files below a folder, without build results.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let skipped = name == "target" || name == ".git";
        if entry.file_type().unwrap().is_dir() {
            if !skipped {
                files(&entry.path(), found);
            }
        } else {
            found.push(entry.path());
        }
    }
}

fn tree() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&repository().canonicalize().unwrap(), &mut found);
    assert!(found.len() > 500, "{} files", found.len());
    found
}

fn pages(tree: &[PathBuf]) -> Vec<&PathBuf> {
    let pages: Vec<_> =
        tree.iter().filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// Texts in backticks, outside of fenced blocks.
fn quoted(page: &str) -> Vec<String> {
    let mut fenced = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    let text = lines.collect::<Vec<_>>().join(" ");
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// `a/{b,c/d}.rs` is two paths.
fn expanded(text: &str) -> Vec<String> {
    let parts = text.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
    let Some((head, (choices, tail))) = parts else { return vec![text.to_owned()] };
    choices.split(',').flat_map(|choice| expanded(&format!("{head}{choice}{tail}"))).collect()
}

/// `file.rs`, `folder/file.rs` or `folder/file.rs::test`, if it names a Rust file.
fn rust_file(text: &str) -> Option<(&str, Option<&str>)> {
    let (path, function) = text.split_once("::").map_or((text, None), |(path, f)| (path, Some(f)));
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
    let named = Path::new(path).extension().is_some_and(|extension| extension == "rs");
    (named && plain).then_some((path, function))
}

#[test]
fn every_rust_file_and_test_that_a_page_names_is_there() {
    let (tree, mut named) = (tree(), 0);
    for page in pages(&tree) {
        for text in quoted(&read_to_string(page).unwrap()).iter().flat_map(|all| expanded(all)) {
            let Some((path, function)) = rust_file(&text) else { continue };
            named += 1;
            let mut meant = tree.iter().filter(|file| file.ends_with(path)).peekable();
            assert!(meant.peek().is_some(), "{} names {path}, which is not there", page.display());
            let Some(function) = function else { continue };
            let defined = format!("fn {function}(");
            let found = meant.any(|file| read_to_string(file).unwrap().contains(&defined));
            assert!(found, "{} names {text}, which is not there", page.display());
        }
    }
    assert!(named > 50, "{named}: the pages were not understood");
}

#[test]
fn every_link_of_a_page_to_a_file_leads_there() {
    let (tree, mut followed) = (tree(), 0);
    for page in pages(&tree) {
        let text = read_to_string(page).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            let local = target.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
            if target.is_empty() || !local || target.starts_with('-') {
                continue;
            }
            followed += 1;
            let file = page.parent().unwrap().join(target);
            assert!(file.exists(), "{} links to {target}, which is not there", page.display());
        }
    }
    assert!(followed > 15, "{followed}: the links were not understood");
}
