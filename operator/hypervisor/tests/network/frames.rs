//! Frames that the root of a machine makes by hand. They appear only on its own tap.

use std::collections::BTreeSet;

use crate::ground::{Ground, Machine};
use crate::spy::Spy;

/// `command` sends frames of all these kinds and prints their marks. The first and the last frame
/// are permitted. Each frame appears on the machine's own tap. Those for the router get as far as
/// the bridge, and no other does.
pub async fn stay(
    ground: &Ground<'_>,
    machine: &mut impl Machine,
    command: &str,
    kinds: &str,
    for_the_router: &[&str],
) {
    let spy = Spy::new(&ground.salt());
    let said = machine.sh(command).await;
    let sent = marks(&said, kinds);
    for control in ["control", "control-end"] {
        spy.until(control, &ground.internet.link());
    }
    // The last one is out, so the others have had their chance.
    for mark in &sent {
        spy.until(mark, &ground.own.tap);
    }
    let seen = spy.seen();
    assert_eq!(
        seen.keys().collect::<BTreeSet<_>>(),
        sent.iter().collect(),
        "what is seen is what was sent"
    );
    let own = (ground.own.tap.clone(), "in".to_owned());
    let mut escaped = Vec::new();
    for (mark, links) in seen.iter().filter(|(mark, _)| !mark.starts_with("control")) {
        assert!(links.contains(&own), "{mark} was sent");
        let routed = for_the_router.iter().any(|name| mark.starts_with(name));
        let mut allowed = BTreeSet::from([own.clone()]);
        allowed.extend(routed.then(|| (ground.subnet.bridge.clone(), "in".to_owned())));
        escaped.extend(links.difference(&allowed).map(|at| (mark.clone(), at.clone())));
    }
    println!("frames: {} kinds tried", sent.len());
    assert!(escaped.is_empty(), "these came through: {escaped:#?}");
}

/// The marks of all frames that a script has sent.
pub fn marks(said: &str, kinds: &str) -> BTreeSet<String> {
    let Some(marks) = said.strip_prefix("sent ") else { panic!("{said}") };
    let marks: BTreeSet<String> = marks.split(' ').map(str::to_owned).collect();
    let missing = |kind: &&str| !marks.iter().any(|mark| mark.starts_with(*kind));
    let missing: Vec<_> = kinds.split_whitespace().filter(missing).collect();
    assert!(missing.is_empty(), "none of {missing:?} was sent: {marks:?}");
    marks
}
