//! Output that a guest leaves to lead the host astray, or to exhaust it.

use agentvm_e2e::{Error, Host, ensure};
use serde_json::json;

/// Everything that a guest's root can make in a folder. Plain files are named `good…`.
const TRAPS: &str = r#"
import os, socket, stat, subprocess
os.chdir("/workspace/output")
failed = []
def make(what, action):
    try: action()
    except OSError as why: failed.append(f"{what}: {why}")
def put(name, text="x\n", mode=0o644):
    with open(name, "w") as file: file.write(text)
    os.chmod(name, mode)
make("link to a file", lambda: os.symlink("/etc/passwd", "link-absolute"))
make("link upwards", lambda: os.symlink("../../../../../../etc/shadow", "link-up"))
make("link to a folder", lambda: os.symlink("/", "link-root"))
make("link to itself", lambda: os.symlink("link-loop", "link-loop"))
make("link to a process", lambda: os.symlink("/proc/self/root/etc/passwd", "link-proc"))
make("plain", lambda: put("good"))
make("hard link", lambda: os.link("good", "good-hard-link"))
make("fifo", lambda: os.mkfifo("fifo"))
make("socket", lambda: socket.socket(socket.AF_UNIX).bind("socket"))
make("line feed", lambda: put("line\nfeed"))
make("escape", lambda: put("escape\x1b[2J"))
make("bytes", lambda: put(b"bytes-\xff\xfe"))
make("blank", lambda: put("good with blanks and ä"))
make("option", lambda: put("--good"))
make("setuid", lambda: put("good-setuid", mode=0o6755))
make("unreadable", lambda: put("good-unreadable", mode=0o000))
make("unreadable folder", lambda: (os.mkdir("closed"), put("closed/good"), os.chmod("closed", 0o000)))
make("empty", lambda: put("good-empty", ""))
make("long", lambda: put("good-" + "n" * 200))
deep = os.open(".", os.O_RDONLY)
for level in range(80):
    if level == 3: make("deep", lambda: os.close(os.open("good", os.O_CREAT | os.O_WRONLY, dir_fd=deep)))
    os.mkdir("d", dir_fd=deep)
    deep = os.open("d", os.O_RDONLY, dir_fd=deep)
os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
# Where the shared folders may be mounted: a link in the place of the output itself.
make("swap", lambda: (os.rename("/workspace/output", "/workspace/o"), os.symlink("/etc", "/workspace/output")))
print("failed:", [text for text in failed if not text.startswith("swap")])
"#;

pub async fn nothing_but_plain_files_is_taken(host: &Host) -> Result<(), Error> {
    let run = host.script_as_root("Python", TRAPS).await?;
    ensure!(run.reason() == "Completed" && run.stdout() == "failed: []\n", "{run}");
    let long = format!("good-{}", "n".repeat(200));
    let wanted = [
        "--good",
        "closed/good",
        "d/d/d/good",
        "good",
        "good with blanks and ä",
        "good-empty",
        "good-hard-link",
        &long,
        "good-setuid",
        "good-unreadable",
    ];
    let found: Vec<&str> = run.files().into_keys().collect();
    ensure!(found == wanted, "{run}");
    let skipped = run.skipped();
    for name in [
        "link-absolute",
        "link-up",
        "link-root",
        "link-loop",
        "link-proc",
        "fifo",
        "socket",
        "feed",
        "bytes-",
        "too deep",
    ] {
        ensure!(skipped.contains(name), "{name} is not among what was skipped: {run}");
    }
    let listed = std::process::Command::new("find")
        .arg(run.location())
        .args(["!", "-type", "f", "!", "-type", "d"])
        .output()?;
    ensure!(listed.stdout.is_empty(), "{}", String::from_utf8_lossy(&listed.stdout));
    Ok(())
}

pub async fn a_sparse_terabyte_is_too_large(host: &Host) -> Result<(), Error> {
    let run = host.script("Bash", "truncate -s 1T /workspace/output/bomb && echo made").await?;
    ensure!(run.stdout() == "made\n" && run.reason() == "OutputTooLarge", "{run}");
    ensure!(run.message().contains("bomb") && run.message().contains("1099511627776"), "{run}");
    ensure!(run.files().is_empty() && !run.location().join("bomb").exists(), "{run}");
    Ok(())
}

pub async fn one_byte_too_many_is_too_large(host: &Host) -> Result<(), Error> {
    for (bytes, reason) in [(1000, "Completed"), (1001, "OutputTooLarge")] {
        let script = format!("head -c {bytes} /dev/zero > /workspace/output/file");
        let run = host
            .run(json!({"command": ["bash", "-c", script], "output": {"maxBytes": 1000}}))
            .await?;
        ensure!(run.reason() == reason, "{run}");
    }
    Ok(())
}

pub async fn more_files_than_are_taken_are_too_many(host: &Host) -> Result<(), Error> {
    // Hard links of one file are as many files for the collector, and cheaper to make.
    let script = "import os\nos.chdir('/workspace/output')\nopen('0', 'w').close()\n\
        for number in range(10000): os.link('0', str(number + 1))\nprint('made')";
    let run = host.script("Python", script).await?;
    ensure!(run.stdout() == "made\n" && run.reason() == "OutputTooLarge", "{run}");
    ensure!(run.message().contains("10000"), "{run}");
    Ok(())
}

pub async fn a_full_share_is_the_guests_problem_alone(host: &Host) -> Result<(), Error> {
    let script = "cd /workspace/output; dd if=/dev/zero of=filler bs=4M 2>&1 | head -n 1; \
        dd if=/dev/zero of=filler bs=512 oflag=append conv=notrunc status=none; \
        echo x > late && sync late && echo there was room; rm filler; \
        for attempt in $(seq 100); do echo ok > after && break; sleep 0.1; done 2>/dev/null; exit \
        9";
    let run = host.script("Bash", script).await?;
    ensure!(run.stdout().contains("No space left on device"), "{run}");
    ensure!(!run.stdout().contains("there was room"), "{run}");
    ensure!(run.status().exit_code == Some(9) && run.reason() == "NonZeroExit", "{run}");
    ensure!(run.files().get("after") == Some(&3), "{run}");
    Ok(())
}
