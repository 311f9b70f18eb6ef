//! Every run gets a machine in its golden state, and no two machines are one.

use std::collections::BTreeSet;

use agentvm_e2e::{Error, Host, ensure};

pub async fn what_one_run_leaves_no_other_finds(host: &Host) -> Result<(), Error> {
    const LITTER: &str = "
        for file in /etc/litter /workspace/work/litter /home/agent/litter /var/tmp/litter /tmp/litter /dev/shm/litter \
            /run/litter /usr/bin/litter /workspace/output/litter /workspace/secrets/litter; do echo litter > $file; done
        useradd litter
        echo litter >> /etc/passwd; echo litter > /etc/hostname; hostname litter
        echo 'echo litter' >> /etc/profile; echo 'echo litter' > /etc/bash.bashrc
        rm -f /usr/bin/curl
        ip link set lo down
        setsid sleep 100000 < /dev/null > /dev/null 2>&1 &
        echo littered
    ";
    const LOOK: &str = "
        find /etc /home /root /var/tmp /tmp /opt /usr/bin /dev/shm /run /workspace -name 'litter*' 2>/dev/null
        grep -ls litter /etc/passwd /etc/hostname /etc/profile /etc/bash.bashrc /etc/hosts
        pgrep -af 'sleep 100000'
        [ \"$(hostname)\" != litter ] || echo hostname
        [ -x /usr/bin/curl ] || echo no curl
        ip -brief link show lo | grep -q 'UP' || echo lo is down
        ls -A /workspace/work /workspace/output /workspace/secrets /home/agent | grep -vE '^(/|$|\\.bash|\\.profile)'
        echo looked
    ";
    let first = host.script_as_root("Bash", LITTER).await?;
    ensure!(first.stdout() == "littered\n", "{first}");
    let second = host.script_as_root("Bash", LOOK).await?;
    ensure!(second.stdout() == "looked\n", "{second}");
    ensure!(first.status().attempts[0].nonce != second.status().attempts[0].nonce, "{second}");
    Ok(())
}

pub async fn two_machines_are_two(host: &Host) -> Result<(), Error> {
    const WHO: &str = "import socket, uuid, os, random, tempfile
print(open('/etc/machine-id').read().strip())
print(socket.gethostname() + ' ' + open('/etc/hostname').read().strip())
print(os.urandom(16).hex())
print(uuid.uuid4())
print(random.random())
print(open('/proc/sys/kernel/random/uuid').read().strip())
print(tempfile.mktemp())";
    let (one, two) = tokio::join!(host.script("Python", WHO), host.script("Python", WHO));
    let (one, two) = (one?, two?);
    let lines: BTreeSet<&str> = one.stdout().lines().chain(two.stdout().lines()).collect();
    ensure!(lines.len() == 14, "{one}\n{two}");
    for run in [one, two] {
        let vm = run.status().vm_name.clone().unwrap_or_default();
        ensure!(run.stdout().contains(&format!("{vm} {vm}\n")), "{vm}: {run}");
    }
    Ok(())
}

pub async fn the_clock_is_the_hosts(host: &Host) -> Result<(), Error> {
    // A new file of the share has the host's time; a parked machine's own stood still until EXECUTE.
    const ASK: &str = "import os, time
path = '/workspace/output/now'
before = time.time()
open(path, 'w').close()
after = time.time()
made = os.stat(path).st_mtime
print(max(made - after, before - made, 0.0))";
    let run = host.script("Python", ASK).await?;
    let off: f64 = run.stdout().trim().parse().map_err(|why| format!("{why}: {run}"))?;
    ensure!(off < 2.0, "the clock is {off} s off");
    Ok(())
}
