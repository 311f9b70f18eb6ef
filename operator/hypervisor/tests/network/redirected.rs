//! Other programs publish ports of the host, and addresses of services: they give packets another
//! destination before any filter sees them. A machine does not get to such a port by an address
//! that it cannot reach.

use std::process::Command;

use crate::attacks;
use crate::lab::{Lab, nft};
use agentvm_testing::networks::internet::{TCP, WEB};

/// A foreign table that redirects only packets from this lab's machines.
struct Published(String);

impl Published {
    fn new(lab: &Lab) -> Self {
        let (name, bridge, gateway) =
            (format!("{}_other", lab.table.name()), &lab.subnet.bridge, lab.subnet.gateway);
        nft(&format!(
            "table ip {name} {{\n\tchain publish {{\n\t\ttype nat hook prerouting priority \
                dstnat;\n\
             \t\tiifname \"{bridge}\" ip daddr {gateway} tcp dport 8443 counter dnat to \
             {WEB}:443\n\t}}\n}}\n"
        ));
        Self(name)
    }

    /// Whether it has redirected anything.
    fn was_used(&self) -> bool {
        let output = Command::new("nft").args(["list", "table", "ip", &self.0]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.contains("counter packets ") && !said.contains("counter packets 0 ")
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = Command::new("nft").args(["delete", "table", "ip", &self.0]).output();
    }
}

#[tokio::test]
async fn a_published_port_is_no_way_around() {
    let lab = Lab::new();
    lab.connect();
    let published = Published::new(&lab);
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    attacks::prepare(&ground, &mut machine).await;
    let what = format!("tcp:{}:8443", lab.subnet.gateway);
    let came = ground.reach(&mut machine, "", std::slice::from_ref(&what)).await;
    assert!(published.was_used(), "the packets were redirected");
    assert_ne!(came[&what], "ok");
    assert!(
        !lab.internet.seen.all().keys().any(|seen| *seen == (TCP, WEB.into(), 443)),
        "and got there"
    );
    attacks::reaches_the_internet(&ground, &mut machine).await;
}
