//! Every run gets a machine in its golden state, and no two incarnations are equal.

use std::collections::{BTreeMap, BTreeSet};

use agentvm_e2e::{Error, Host, Run, ensure};

pub async fn what_one_run_leaves_no_other_finds(host: &Host) -> Result<(), Error> {
    const LITTER: &str = "
        for file in /etc/litter /workspace/work/litter /home/agent/litter /var/tmp/litter \
        /tmp/litter /dev/shm/litter \
            /run/litter /usr/bin/litter /workspace/output/litter /workspace/secrets/litter; do \
            echo litter > $file; done
        useradd litter
        echo litter >> /etc/passwd; echo litter > /etc/hostname; hostname litter
        echo 'echo litter' >> /etc/profile; echo 'echo litter' > /etc/bash.bashrc
        rm -f /usr/bin/curl
        ip link set lo down
        setsid sleep 100000 < /dev/null > /dev/null 2>&1 &
        echo littered
    ";
    const LOOK: &str = "
        find /etc /home /root /var/tmp /tmp /opt /usr/bin /dev/shm /run /workspace -name 'litter*' \
        2>/dev/null
        grep -ls litter /etc/passwd /etc/hostname /etc/profile /etc/bash.bashrc /etc/hosts
        pgrep -af 'sleep 100000'
        [ \"$(hostname)\" != litter ] || echo hostname
        [ -x /usr/bin/curl ] || echo no curl
        ip -brief link show lo | grep -q 'UP' || echo lo is down
        ls -A /workspace/work /workspace/output /workspace/secrets /home/agent | grep -vE \
        '^(/|$|\\.bash|\\.profile|main.sh$)'
        echo looked
    ";
    let first = host.script_as_root("Bash", LITTER).await?;
    ensure!(first.stdout() == "littered\n", "{first}");
    let second = host.script_as_root("Bash", LOOK).await?;
    ensure!(second.stdout() == "looked\n", "{second}");
    ensure!(first.status().attempts[0].nonce != second.status().attempts[0].nonce, "{second}");
    Ok(())
}

/// Everything that no other run may have. Each line has a name, so that repeated values can be
/// told.
const WHO: &str = "import os, random, socket, tempfile, uuid
print('machine-id', open('/etc/machine-id').read().strip())
print('hostname', socket.gethostname() + '/' + open('/etc/hostname').read().strip())
print('urandom', open('/dev/urandom', 'rb').read(16).hex())
print('getrandom', os.getrandom(16).hex())
print('random', open('/dev/random', 'rb').read(16).hex())
print('uuid4', uuid.uuid4())
print('kernel-uuid', open('/proc/sys/kernel/random/uuid').read().strip())
print('seed', random.random())
print('temporary', tempfile.mktemp())
print('stack', open('/proc/self/stat').read().split()[27])";

/// The lines of the above that two runs have in common.
fn shared(one: &Run, two: &Run) -> Result<Vec<String>, Error> {
    let lines: BTreeSet<&str> = one.stdout().lines().collect();
    ensure!(lines.len() == 10 && two.stdout().lines().count() == 10, "{one}\n{two}");
    Ok(two.stdout().lines().filter(|line| lines.contains(line)).map(str::to_owned).collect())
}

fn machine(run: &Run) -> String {
    run.status().vm_name.clone().unwrap_or_default()
}

pub async fn two_machines_are_two(host: &Host) -> Result<(), Error> {
    let (one, two) = tokio::join!(host.script("Python", WHO), host.script("Python", WHO));
    let (one, two) = (one?, two?);
    ensure!(machine(&one) != machine(&two), "{one}\n{two}");
    ensure!(shared(&one, &two)?.is_empty(), "{one}\n{two}");
    for run in [one, two] {
        let vm = machine(&run);
        ensure!(run.stdout().contains(&format!("hostname {vm}/{vm}\n")), "{vm}: {run}");
    }
    Ok(())
}

pub async fn two_runs_on_one_machine_are_two(host: &Host) -> Result<(), Error> {
    let mut first: BTreeMap<String, Run> = BTreeMap::new();
    // The pool has a few machines: before long one of them comes again.
    for _ in 0..30 {
        let run = host.script("Python", WHO).await?;
        let before = first.insert(machine(&run), run.clone());
        let in_place = run.status().reset.as_ref().is_some_and(|reset| reset.tier == "InPlace");
        if let Some(before) = before.filter(|_| in_place) {
            let same = shared(&before, &run)?;
            ensure!(
                same.iter().all(|line| line.starts_with("hostname ")),
                "{same:?}\n{before}\n{run}"
            );
            return Ok(());
        }
    }
    Err(format!("no machine was brought back in place: {first:?}").into())
}

pub async fn a_run_tells_what_its_machine_was_proven_by(host: &Host) -> Result<(), Error> {
    let run = host.script("Bash", "true").await?;
    let reset = run.status().reset.clone().ok_or_else(|| format!("no proof: {run}"))?;
    ensure!(reset.checks.iter().all(|check| check.result == "Passed"), "{reset:?}");
    let names: BTreeSet<&str> = reset.checks.iter().map(|check| check.name.as_str()).collect();
    // Only a machine that was reset is checked from outside. A fresh process has nothing of another
    // run.
    let outside: &[&str] =
        if reset.tier == "InPlace" { &["memory", "disk", "monitor", "process"] } else { &[] };
    ensure!(names == outside.iter().copied().chain(["guest"]).collect(), "{reset:?}");
    Ok(())
}

pub async fn the_clock_is_the_hosts(host: &Host) -> Result<(), Error> {
    // A new file of the share has the host's time; the clock of a parked machine stood still until
    // EXECUTE. A run that waits for its CPU between the two looks learns little, so it looks again.
    const ASK: &str = "for n in 1 2 3 4 5 6; do
  file=/workspace/output/now-$n; before=$EPOCHREALTIME; : > $file; after=$EPOCHREALTIME
  echo $before $after $(stat -c %.6Y $file)
done";
    for _ in 0..5 {
        let run = host.script("Bash", ASK).await?;
        let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
        for line in run.stdout().lines() {
            let times: Vec<f64> =
                line.split_whitespace().filter_map(|time| time.parse().ok()).collect();
            let [before, after, made] = times[..] else {
                return Err(format!("no times: {run}").into());
            };
            (least, most) = (least.max(before - made), most.min(after - made));
        }
        println!(
            "measured: guest's clock minus host's: {:.1} to {:.1} ms",
            least * 1e3,
            most * 1e3
        );
        ensure!(least.abs().max(most.abs()) < 0.05, "the clock is {least} to {most} s off: {run}");
    }
    Ok(())
}
