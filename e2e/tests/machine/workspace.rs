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

/// Beyond the limit, the first and the last lines of a stream are there, with a word between them.
pub async fn a_long_stream_keeps_its_beginning_and_its_true_end(host: &Host) -> Result<(), Error> {
    const LIMIT: u64 = 1 << 20;
    let script = "echo first; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo the verdict";
    let run =
        host.run(json!({"command": ["bash", "-c", script], "output": {"maxBytes": LIMIT}})).await?;
    ensure!(run.reason() == "Completed" && run.status().stdout_truncated == Some(true), "{run}");
    let mark = format!("[agentvm: {} bytes are missing here", 6 + 30_000_000 + 13 - LIMIT);
    ensure!(run.stdout().starts_with(&mark), "{}", &run.stdout()[..100]);
    ensure!(run.stdout().ends_with("xxx\nthe verdict\n"), "the end is missing");
    let kept = std::fs::read_to_string(run.location().with_file_name("stdout"))?;
    ensure!(kept.starts_with("first\nxxx") && kept.ends_with("xxx\nthe verdict\n"), "no ends");
    ensure!(kept.contains(&mark) && kept.len() as u64 > LIMIT, "{} bytes", kept.len());
    Ok(())
}

pub async fn empty_folders_are_kept_and_holes_stay_holes(host: &Host) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let script = "cd /workspace/output; mkdir -p empty/deep; truncate -s 8M hole; echo end >> hole";
    let run = host.script("Bash", script).await?;
    ensure!(run.reason() == "Completed" && run.location().join("empty/deep").is_dir(), "{run}");
    let hole = std::fs::metadata(run.location().join("hole"))?;
    ensure!(hole.len() == (8 << 20) + 4, "{} bytes", hole.len());
    ensure!(hole.blocks() * 512 < 1 << 20, "{} blocks", hole.blocks());
    Ok(())
}

/// The guide says what a file that was removed while it is open cannot do in `output`, and that it
/// can do it in `work`.
pub async fn a_file_that_was_removed_while_open_is_ordinary_in_work(
    host: &Host,
) -> Result<(), Error> {
    let script = r#"
import errno, mmap, os
for folder in ["/workspace/work", "/workspace/output"]:
    file = os.open(folder + "/file", os.O_CREAT | os.O_RDWR)
    os.write(file, b"x" * 8192)
    os.unlink(folder + "/file")
    said = []
    for what, action in [
        ("ftruncate", lambda: os.ftruncate(file, 4096)),
        ("fchmod", lambda: os.fchmod(file, 0o600)),
        ("mmap", lambda: mmap.mmap(file, 4096)[0:1]),
        ("read", lambda: os.pread(file, 1, 0)),
        ("write", lambda: os.pwrite(file, b"y", 0)),
    ]:
        try: action(); said.append(what + " ok")
        except (OSError, ValueError) as why: said.append(what + " " + errno.errorcode.get(getattr(why, "errno", 0), str(why)))
    print(folder, *said, sep=", ")
"#;
    let run = host.script("Python", script).await?;
    let said = run.stdout();
    let work = "/workspace/work, ftruncate ok, fchmod ok, mmap ok, read ok, write ok\n";
    ensure!(said.starts_with(work), "{run}");
    // A QEMU that can do more than today's makes this fail: then the guide must change.
    let output = "/workspace/output, ftruncate ENOENT, fchmod ENOENT, mmap ";
    ensure!(said[work.len()..].starts_with(output), "{run}");
    ensure!(said.ends_with("read ok, write ok\n"), "{run}");
    Ok(())
}
