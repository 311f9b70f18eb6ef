//! A run whose output shows whether a part of it is missing or came twice.

use std::path::Path;

use agentvm_e2e::Run;
use serde_json::{Value, json};

/// Such a run takes 20 s or more: long enough for several interruptions.
pub const LINES: usize = 1500;

/// Counts its executions on its machine's own disk, and prints numbered lines, slowly.
const SCRIPT: &str = r#"
import os, sys, time
mine, lines = int(sys.argv[1]), int(sys.argv[2])
with open("/var/tmp/executions", "a") as file: file.write("x")
print(f"run {mine}, execution {os.path.getsize('/var/tmp/executions')}", flush=True)
for number in range(lines):
    print(f"run {mine}, line {number}: {'.' * 60}", flush=True)
    time.sleep(0.01)
open("/workspace/output/end", "w").write(str(mine))
sys.exit(exit_code(mine))
"#;

/// Every third run fails.
pub fn exit_code(number: usize) -> i32 {
    if number % 3 == 2 { 40 } else { 0 }
}

pub fn spec(number: usize) -> Value {
    let script = SCRIPT.replace("exit_code(mine)", &exit_code(number).to_string());
    json!({
        "command": ["python3", "-c", script, number.to_string(), LINES.to_string()],
        "timeoutSeconds": 600,
        "env": [{"name": "NUMBER", "value": number.to_string()}],
    })
}

/// The whole output that it must have printed.
pub fn expected(number: usize) -> String {
    let lines = (0..LINES).map(|line| format!("run {number}, line {line}: {}\n", ".".repeat(60)));
    std::iter::once(format!("run {number}, execution 1\n")).chain(lines).collect()
}

/// Fails unless the run was executed once, to its end, and all of its output is there.
pub fn check(run: &Run, number: usize) {
    let reason = if exit_code(number) == 0 { "Completed" } else { "NonZeroExit" };
    assert_eq!((run.reason(), run.status().exit_code), (reason, Some(exit_code(number))), "{run}");
    assert_eq!(run.status().attempts.len(), 1, "{run}");
    let (kept, expected) =
        (String::from_utf8(run.kept_stdout().unwrap()).unwrap(), expected(number));
    let differs = kept.lines().zip(expected.lines()).find(|(kept, expected)| kept != expected);
    assert!(
        kept == expected,
        "{} of {} bytes, first difference {differs:?}: {run}",
        kept.len(),
        expected.len()
    );
    assert!(run.stdout().len() > 4096 && expected.ends_with(run.stdout()), "{run}");
    assert_eq!(
        run.files().get("end"),
        Some(&i64::try_from(number.to_string().len()).unwrap()),
        "{run}"
    );
}

/// The number of bytes that a run prints.
pub fn in_all() -> u64 {
    expected(0).len() as u64
}

/// The number of bytes of a run's standard output on the node's disk.
pub fn written_by(data_dir: &Path, uid: &str) -> u64 {
    std::fs::metadata(data_dir.join("workspace/runs").join(uid).join("1/stdout"))
        .map_or(0, |file| file.len())
}

/// The number of bytes of standard output on the node's disk, over all runs of a host.
pub fn written(data_dir: &Path) -> u64 {
    let runs = std::fs::read_dir(data_dir.join("workspace/runs")).into_iter().flatten().flatten();
    let attempts = runs.filter_map(|run| std::fs::read_dir(run.path()).ok()).flatten().flatten();
    attempts
        .filter_map(|attempt| Some(std::fs::metadata(attempt.path().join("stdout")).ok()?.len()))
        .sum()
}
