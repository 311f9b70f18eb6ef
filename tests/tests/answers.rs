//! The source treats an answer of the host as an answer: on the way to a run's data, no error
//! becomes "nothing there".
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use agentvm_testing::repository;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The product's code of a file, without comments and white space, cut into statements.
fn statements(text: &str) -> Vec<String> {
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code: Vec<&str> =
        product.lines().map(|line| line.split("//").next().unwrap_or_default().trim()).collect();
    code.join(" ").split([';', '{', '}']).map(|s| s.trim().to_owned()).collect()
}

/// Ways to lose an error.
const LOSES: [&str; 6] =
    [".is_ok()", ".is_err()", ".ok()", ".unwrap_or_default()", "let _ =", "if let Ok(_)"];

fn loses_an_error(statement: &str) -> bool {
    LOSES.iter().any(|way| statement.contains(way))
}

fn asks_the_host(statement: &str) -> bool {
    let compact = statement.replace(' ', "");
    compact.starts_with("hv.") || compact.contains(".hv.") || compact.contains("=hv.")
}

#[test]
fn no_call_of_the_hypervisor_loses_its_error() {
    let mut files = Vec::new();
    sources(&repository().join("operator/src"), &mut files);
    let mut asked = 0;
    for file in files {
        for statement in statements(&read_to_string(&file).unwrap()) {
            if asks_the_host(&statement) {
                asked += 1;
                assert!(!loses_an_error(&statement), "{}: {statement}", file.display());
            }
        }
    }
    assert!(asked > 20, "{asked} calls were found");
}

#[test]
fn the_collection_of_output_loses_no_error() {
    let folder = repository().join("operator/hypervisor/src/workspace");
    for name in ["collect", "copy", "target", "tree", "budget"] {
        let text = read_to_string(folder.join(name).with_added_extension("rs")).unwrap();
        for statement in statements(&text) {
            let lost = loses_an_error(&statement) || statement.contains("Err(_)");
            assert!(!lost, "{name}.rs: {statement}");
        }
    }
}

#[test]
fn a_lost_error_is_found() {
    let bad = "let readable = started && self.hv\n    .pause(&name)\n    .await.is_ok();";
    assert!(statements(bad).iter().any(|s| asks_the_host(s) && loses_an_error(s)));
    let good = "self.hv.pause(&name).await?; // .is_ok()";
    assert!(!statements(good).iter().any(|s| asks_the_host(s) && loses_an_error(s)));
}
