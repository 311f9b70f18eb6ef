//! Input and output of friendly runs.

use std::os::unix::fs::PermissionsExt as _;

use agentvm_e2e::{Error, Host, ensure};
use serde_json::json;

pub async fn input_can_be_read_and_not_written(host: &Host) -> Result<(), Error> {
    let script = r#"
        cd /workspace/input
        cat text; od -An -tx1 binary | tr -d ' '; bin/tool
        for attempt in 'echo x > text' 'echo x > new' 'rm text' 'mv text other' 'chmod 777 text' 'mkdir folder' \
            'ln -s text link' 'truncate -s 0 binary' 'mount -o remount,rw /workspace/input'; do
            (eval "$attempt") 2>/dev/null && echo "this worked: $attempt"
        done
        cat text
    "#;
    for who in ["Agent", "Root"] {
        let run = host
            .run(json!({
                "runAs": who,
                "command": ["bash", "-c", script],
                "files": [
                    {"path": "text", "content": "text\n"},
                    {"path": "binary", "contentBase64": "AP9/gA=="},
                    {"path": "bin/tool", "content": "#!/bin/sh\necho the tool\n", "mode": 0o755},
                ],
            }))
            .await?;
        ensure!(run.stdout() == "text\n00ff7f80\nthe tool\ntext\n", "as {who}: {run}");
    }
    Ok(())
}

pub async fn only_what_is_asked_for_is_taken(host: &Host) -> Result<(), Error> {
    let script = "cd /workspace/output; mkdir -p logs/deep other; \
        for file in report.txt report.md logs/a logs/deep/b other/c; do echo $file > $file; done";
    let run = host
        .run(
            json!({"command": ["bash", "-c", script], "output": {"include": ["*.txt", "logs/**"]}}),
        )
        .await?;
    let names: Vec<&str> = run.files().into_keys().collect();
    ensure!(names == ["logs/a", "logs/deep/b", "report.txt"], "{run}");
    ensure!(
        std::fs::read_to_string(run.location().join("logs/deep/b"))? == "logs/deep/b\n",
        "{run}"
    );
    Ok(())
}

pub async fn permissions_to_execute_survive(host: &Host) -> Result<(), Error> {
    let script = "cd /workspace/output; echo x > plain; echo x > tool; chmod 755 tool; echo x > \
        own; chmod 4711 own";
    let run = host.script("Bash", script).await?;
    let mode = |name: &str| {
        std::fs::metadata(run.location().join(name)).map(|meta| meta.permissions().mode() & 0o7777)
    };
    let modes = [mode("plain")?, mode("tool")?, mode("own")?];
    ensure!(modes == [0o600, 0o700, 0o700], "{modes:?}");
    Ok(())
}
