//! Programs that abuse their surroundings: the agent lives, and the result is right.

use agentvm_e2e::{Error, Host, ensure};
use serde_json::json;

pub async fn a_fork_bomb_ends_at_its_deadline(host: &Host) -> Result<(), Error> {
    let bomb = "bomb() { bomb | bomb & }; bomb; while :; do read -r _ < /proc/loadavg; done";
    let run = host.run(json!({"command": ["sh", "-c", bomb], "timeoutSeconds": 3})).await?;
    ensure!(run.reason() == "DeadlineExceeded", "{run}");
    // The agent says so. The host would say it only if the agent did not answer any more.
    ensure!(run.status().signal.is_some() || run.status().exit_code.is_some(), "{run}");
    Ok(())
}

pub async fn processes_and_threads_are_bounded(host: &Host) -> Result<(), Error> {
    // Threads count like processes, and an emulated machine makes thousands of them in seconds.
    let script = r#"
import _thread, sys
_thread.stack_size(64 << 10)
lock = _thread.allocate_lock()
lock.acquire()
made = 0
try:
    while True:
        _thread.start_new_thread(lock.acquire, ())
        made += 1
except RuntimeError:
    limit = int(open("/sys/fs/cgroup/pids.max").read())
    refused = open("/sys/fs/cgroup/pids.events").read().split()
    print(limit <= 4096, abs(limit - made) < 8, refused[0], int(refused[1]) > 0, flush=True)
import os
os._exit(7)
"#;
    let run = host.script("Python", script).await?;
    ensure!(run.stdout() == "True True max True\n" && run.status().exit_code == Some(7), "{run}");
    Ok(())
}

pub async fn a_hundred_megabytes_of_output_are_cut_and_said_to_be(
    host: &Host,
) -> Result<(), Error> {
    const LIMIT: u32 = 1 << 20;
    let run = host
        .run(json!({
            "command": ["bash", "-c", "echo begin; dd if=/dev/zero bs=1M count=100 status=none; \
                exit 4"],
            "output": {"maxBytes": LIMIT},
        }))
        .await?;
    ensure!(run.reason() == "NonZeroExit" && run.status().exit_code == Some(4), "{run}");
    ensure!(run.status().stdout_truncated == Some(true), "{run}");
    let kept = run.kept_stdout()?;
    let missing = 6 + (100 << 20) - LIMIT;
    let mark = format!("\n[agentvm: {missing} bytes are missing here");
    ensure!(run.stdout().starts_with(mark.trim_start()), "{run}");
    let text = kept.iter().filter(|byte| **byte != 0).copied().collect::<Vec<_>>();
    ensure!(text.starts_with(format!("begin\n{mark}").as_bytes()), "{run}");
    let zeros = kept.len() - text.len();
    ensure!(zeros == LIMIT as usize - 6, "{zeros} bytes were kept");
    Ok(())
}

pub async fn what_ignores_sigterm_is_killed_in_time(host: &Host) -> Result<(), Error> {
    let script = "trap '' TERM; echo ignoring; (trap '' TERM; while :; do sleep 1; done) & while \
        :; do sleep 1; done";
    let run = host.run(json!({"command": ["bash", "-c", script], "timeoutSeconds": 6})).await?;
    ensure!(run.reason() == "DeadlineExceeded", "{run}");
    ensure!(run.stdout() == "ignoring\n", "{run}");
    // Six seconds of its own, and five after SIGTERM.
    ensure!((10.5..25.0).contains(&run.seconds()), "{run}");
    Ok(())
}

pub async fn closed_stdio_is_no_obstacle(host: &Host) -> Result<(), Error> {
    let run =
        host.run(json!({"command": ["bash", "-c", "exec <&- >&- 2>&-; sleep 1; exit 5"]})).await?;
    ensure!(run.reason() == "NonZeroExit" && run.status().exit_code == Some(5), "{run}");
    ensure!(run.stdout().is_empty() && run.seconds() >= 1.0, "{run}");
    Ok(())
}

pub async fn output_that_is_not_text_is_kept_byte_by_byte(host: &Host) -> Result<(), Error> {
    let run = host.run(json!({"command": ["bash", "-c", r"printf 'a\xff\xfeb\0c\xc3'"]})).await?;
    ensure!(run.reason() == "Completed", "{run}");
    ensure!(run.kept_stdout()? == b"a\xff\xfeb\0c\xc3", "{run}");
    ensure!(run.stdout() == "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}", "{run}");
    Ok(())
}

pub async fn a_daemon_that_holds_stdout_does_not_hold_the_run(host: &Host) -> Result<(), Error> {
    let daemon = r#"
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("/workspace/output/daemon", "w").write(str(os.getpid()))
        time.sleep(100000)
    os._exit(0)
os.wait()
while not os.path.exists("/workspace/output/daemon"): time.sleep(0.01)
print("started it")
"#;
    let run = host.script("Python", daemon).await?;
    ensure!(run.reason() == "Completed" && run.status().exit_code == Some(0), "{run}");
    ensure!(run.stdout() == "started it\n" && run.files().contains_key("daemon"), "{run}");
    ensure!(run.seconds() < 60.0, "{run}");
    Ok(())
}

pub async fn an_agent_that_kills_all_it_can_reach_harms_itself_alone(
    host: &Host,
) -> Result<(), Error> {
    let run = host.script("Bash", KILL_ALL).await?;
    ensure!(run.reason() == "NonZeroExit" && run.status().exit_code == Some(6), "{run}");
    ensure!(run.stdout() == "still here\n", "{run}");
    Ok(())
}

/// Kills everything that its user may kill.
pub const KILL_ALL: &str = "
    sleep 1000 & sleep 1000 &
    kill -9 -1
    kill -9 1
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [ $pid = $$ ] || kill -9 $pid
        [ $pid = $$ ] || kill -STOP $pid
    done 2>/dev/null
    for pid in $(seq 2 400); do [ $pid = $$ ] || kill -9 $pid; done 2>/dev/null
    echo still here
    exit 6
";

pub async fn a_signal_is_reported_by_its_number(host: &Host) -> Result<(), Error> {
    let run = host.script("Bash", "echo before; kill -SEGV $$").await?;
    ensure!(run.reason() == "NonZeroExit", "{run}");
    ensure!(run.status().signal == Some(11) && run.status().exit_code.is_none(), "{run}");
    ensure!(run.stdout() == "before\n", "{run}");
    Ok(())
}

/// It uses large pages, because an emulated machine is slow for each page.
const HOG: &str = "import mmap
held = []
while True:
    held.append(mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    held[-1].madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, 64 << 20, 4096): held[-1][at] = 1";

pub async fn a_memory_hog_is_killed_and_the_result_is_right(host: &Host) -> Result<(), Error> {
    let run = host.script("Python", &format!("print('hungry', flush=True)\n{HOG}")).await?;
    ensure!(run.reason() == "NonZeroExit" && run.status().signal == Some(9), "{run}");
    ensure!(run.message().contains("memory"), "{run}");
    ensure!(run.stdout() == "hungry\n", "{run}");
    Ok(())
}

pub async fn a_hog_that_is_a_child_leaves_its_parent_alone(host: &Host) -> Result<(), Error> {
    // Shared memory is free only after its last user is gone.
    let hog = HOG.replace("MAP_PRIVATE", "MAP_SHARED");
    let run =
        host.script("Bash", &format!("python3 -c '{hog}'; echo it ended with $?; exit 3")).await?;
    ensure!(run.reason() == "NonZeroExit" && run.status().exit_code == Some(3), "{run}");
    ensure!(run.stdout() == "it ended with 137\n", "{run}");
    Ok(())
}
