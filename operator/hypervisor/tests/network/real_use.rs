//! The purpose of the network: a golden whose setup installs packages, and a run that clones over
//! SSH with a key that reaches no disk.

use std::path::Path;
use std::process::Command;

use agentvm_hypervisor::{LinkApi, MachineApi, Stop};

use crate::ground::Machine;
use crate::libvirt_host::TestHost;
use crate::real::Real;
use agentvm_testing::networks::internet::offers::{
    GitServer, IN_REPOSITORY, INSTALL, INSTALLED, REPOSITORY,
};

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_installed_and_a_repository_is_cloned() {
    let real = Real::new("real use").await;
    real.internet.offer_packages();
    let server = GitServer::new(&real.internet);
    let said = real.golden(&INSTALL.join(" && ")).await;
    assert_eq!(said, INSTALLED, "the setup has the network");

    let spec = real.spec(0, "pool-one");
    let mut machine = real.machine(&spec).await;
    assert_eq!(machine.sh(INSTALL[2]).await, INSTALLED, "what the setup installed is there");
    real.hv.open_link(&spec.record.name).await.unwrap();
    // The agent does this with the files of a Secret.
    let clone = format!(
        "d=$(mktemp -d -p /dev/shm) && cd $d && umask 077 && cat > key <<'END' && echo '{}' > \
            known\n{}END\n\
         GIT_SSH_COMMAND=\"ssh -i $d/key -o UserKnownHostsFile=$d/known\" git clone --quiet \
         {REPOSITORY} /root/clone && cat /root/clone/file",
        server.host(),
        server.key(),
    );
    assert_eq!(machine.sh(&clone).await, IN_REPOSITORY);
    assert_eq!(machine.sh("sync; echo done").await, "done");
    assert_eq!(holding(&real.host, &server.key()), "", "while it runs");
    real.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    assert_eq!(holding(&real.host, &server.key()), "", "afterwards");
    assert_eq!(real.internet.escaped(), 0);
    real.hv.release().await;
}

/// Files of the installation that have the middle of the key in them.
fn holding(host: &TestHost, key: &str) -> String {
    let line = key.lines().nth(2).unwrap();
    let grep = |at: &Path| {
        let arguments = [
            "--recursive",
            "--files-with-matches",
            "--fixed-strings",
            "--devices=skip",
            "--regexp",
            line,
        ];
        let output =
            Command::new("grep").env("LC_ALL", "C").args(arguments).arg(at).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // The control: a file that has it is found.
    let control = tempfile::tempdir().unwrap();
    std::fs::write(control.path().join("key"), key).unwrap();
    assert!(!grep(control.path()).is_empty());
    grep(host.dir.path())
}
