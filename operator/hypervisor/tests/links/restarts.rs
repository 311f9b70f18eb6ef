//! libvirtd ends and comes back; machines and their network stay. Two installations on one host do
//! not disturb each other.

use std::time::Duration;

use agentvm_hypervisor::{LinkApi, MachineApi, PowerState, Stop};

use crate::libvirt_host::{TOKEN, TestHost};
use crate::plugged::{Plugged, is_up, reach, tap};
use crate::private;

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_is_killed_costs_nobody_the_network() {
    let Some(mut libvirtd) =
        private::libvirtd("restarts::a_libvirtd_that_is_killed_costs_nobody_the_network")
    else {
        return;
    };
    let lab = Plugged::new("restart").await;
    lab.golden().await;
    let spec = lab.spec(0, "nonce");
    let (name, own) = (&spec.record.name, tap(&spec));
    lab.hv.create(&spec).await.unwrap();
    lab.hv.open_link(name).await.unwrap();
    lab.hv.resume(name).await.unwrap();
    let parked = lab.spec(1, "nonce");
    lab.hv.create(&parked).await.unwrap();
    let mut guest = lab.guest(&spec).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(libvirtd.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    libvirtd.again();
    assert_eq!(guest.sh(TOKEN, &reach()).await, (Some(0), "reached".to_owned()));
    lab.hv
        .wait_for(name, Duration::from_secs(30), |state| *state == PowerState::Running)
        .await
        .unwrap();
    assert!(is_up(&own) && !is_up(&tap(&parked)), "libvirt touches neither");
    assert_eq!(lab.hv.subnet().await.unwrap(), lab.subnet);
    let third = lab.spec(2, "nonce");
    lab.hv.create(&third).await.unwrap();
    assert!(!is_up(&tap(&third)));
    for spec in [&spec, &parked, &third] {
        lab.hv.destroy(&spec.record.name, Stop::Force).await.unwrap();
    }
    lab.hv.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_installations_have_bridges_and_addresses_of_their_own() {
    let hosts = [TestHost::new(), TestHost::new()];
    let (one, other) = (hosts[0].connect().await, hosts[1].connect().await);
    let (first, second) = tokio::join!(one.subnet(), other.subnet());
    let (first, second) = (first.unwrap(), second.unwrap());
    let again = hosts[0].connect().await.subnet().await;
    let quiet =
        std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", first.bridge));
    // Before anything is judged: nothing of it stays on the host.
    one.release().await;
    other.release().await;
    assert!(first.bridge != second.bridge && first.net() != second.net(), "{first:?} {second:?}");
    assert_eq!(again.unwrap(), first, "it is found again by its metadata");
    assert_eq!(quiet.unwrap().trim(), "1", "the bridge has no IPv6 address either");
    assert!(!std::path::Path::new("/sys/class/net").join(&first.bridge).exists());
}
