//! No error of the host, of the API server or of a file becomes "nothing happened" by an idiom.
//!
//! The test reads the statements of the controllers and of the machines. A statement that waits for
//! such a call, or reads or writes a file, and then drops its error is in the list below with a
//! reason, or the test fails. An entry that is not needed any more fails too.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

use agentvm_testing::repository;

/// Folders below `operator/src`.
const READ: [&str; 3] = ["api", "controllers", "machines"];

/// The calls whose errors matter.
const CALLS: [&str; 4] = [".await", "fs::", "File::", "spawn_blocking"];

/// The idioms that drop an error.
const DROPS: [&str; 8] = [
    ".is_ok()",
    ".is_err()",
    ".ok()",
    ".unwrap_or_default()",
    ".unwrap_or(",
    "let _ =",
    "let Ok(",
    "Err(_)",
];

/// File, a part of the statement, and the reason why the error may be dropped.
const ALLOWED: [(&str, &str, &str); 13] = [
    ("controllers/cache.rs", "wait_for(|full|", "no call: a channel that this value keeps open"),
    ("controllers/start.rs", "timeout(patience, idle)", "no call: the time is over, which it says"),
    ("controllers/pool/network.rs", "subnet().await", "the step that needs the subnet says why"),
    ("machines/claim_priority.rs", "timeout(PATIENCE", "no call: both ends of the wait are fine"),
    ("machines/mod.rs", "timeout(patience, all)", "no call: `false` says that time is over"),
    ("machines/tiers.rs", "inner.creation.acquire()", "no call: the operator stops"),
    ("machines/task.rs", "self.prepared(origin)", "`failed` in prepare/ has said why"),
    ("machines/task.rs", "self.settle(lendable)", "`settle` has said why; the time is no error"),
    ("machines/task.rs", "hv.state(&name).await", "a silent host says nothing about a machine"),
    ("machines/task.rs", "hv.usage(&name).await", "figures for people; the next look has others"),
    ("controllers/sweep.rs", "spawn_blocking(names)", "no names: nothing is removed then"),
    ("controllers/sweep.rs", "timeout(LIVE, api.list", "no live list: nothing is removed then"),
    ("controllers/start.rs", "who.clone()", "no call: a channel that this value keeps open"),
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.file_name().unwrap().to_str().unwrap().contains("tests")
        {
            found.push(path);
        }
    }
}

/// The code of a file without its tests and comments, cut where statements and blocks begin or end.
fn statements(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join(" ");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // A method on a line of its own follows its receiver directly.
    let words = words.replace(" .", ".").replace(" ?", "?");
    words.split([';', '{', '}']).map(|part| part.trim().to_owned()).collect()
}

/// The statements that drop an error of a call.
fn silent(text: &str) -> Vec<String> {
    let has =
        |statement: &String, parts: &[&str]| parts.iter().any(|part| statement.contains(part));
    statements(text).into_iter().filter(|it| has(it, &CALLS) && has(it, &DROPS)).collect()
}

#[test]
fn errors_of_the_host_and_of_the_api_server_are_not_dropped() {
    let source = repository().canonicalize().unwrap().join("operator/src");
    let mut files = Vec::new();
    for folder in READ {
        rust_files(&source.join(folder), &mut files);
    }
    assert!(files.len() > 40, "{} files", files.len());
    let (mut used, mut bad) = (vec![false; ALLOWED.len()], Vec::new());
    for file in &files {
        let name = file.strip_prefix(&source).unwrap().to_str().unwrap();
        for statement in silent(&read_to_string(file).unwrap()) {
            let reason = ALLOWED
                .iter()
                .position(|(path, part, _)| *path == name && statement.contains(part));
            match reason {
                Some(n) => used[n] = true,
                None => bad.push(format!("{name}: {statement}")),
            }
        }
    }
    assert!(
        bad.is_empty(),
        "these statements drop an error: handle it, or give a reason\n{bad:#?}"
    );
    let unused: Vec<_> = ALLOWED.iter().zip(&used).filter(|(_, used)| !**used).collect();
    assert!(unused.is_empty(), "these entries are not needed any more: {unused:#?}");
}

#[test]
fn each_idiom_is_seen() {
    for silent_code in [
        "let gone = self.hv.pause(&name)\n    .await\n    .is_ok();",
        "let rest = hv.list().await.unwrap_or_default();",
        "let _ = api.delete(name).await;",
        "if let Ok(state) = hv.state(&name).await && x { y }",
        "let text = std::fs::read(path).ok()?;",
        "let Ok(entries) = std::fs::read_dir(folder) else { return };",
    ] {
        assert_eq!(silent(silent_code).len(), 1, "{silent_code}");
    }
    for loud in [
        "let state = hv.state(&name).await?;",
        "if let Err(why) = hv.state(&name).await { warn!(why) }",
        "// let _ = hv.list().await;",
        "let n = u32::try_from(x).unwrap_or(0);",
    ] {
        assert_eq!(silent(loud), Vec::<String>::new(), "{loud}");
    }
}
