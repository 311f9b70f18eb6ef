//! The copy of a run's output loses no error: a lack of ours never becomes "nothing there". For the
//! controllers and machines, see `silent_errors.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::fs::read_to_string;

use agentvm_testing::repository;

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
    for bad in ["let size = file\n    .metadata()\n    .ok();", "if let Ok(_) = x { y }"] {
        assert!(statements(bad).iter().any(|it| loses_an_error(it)), "{bad}");
    }
    let good = "self.target.enter(&self.path)?; // .is_ok()";
    assert!(!statements(good).iter().any(|it| loses_an_error(it)));
}
