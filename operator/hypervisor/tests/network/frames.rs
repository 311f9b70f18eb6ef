//! Frames made by hand, by whoever is root of a machine: they are seen on its own tap and nowhere else.

use std::collections::BTreeSet;

use crate::ground::{Ground, Machine};
use crate::spy::Spy;

/// `command` sends frames of all these kinds and says their marks, a permitted one first and last. Each of them is seen on the machine's own
/// tap; those for the router get as far as the bridge, and no other.
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

/// All that a script says it has sent.
pub fn marks(said: &str, kinds: &str) -> BTreeSet<String> {
    let Some(marks) = said.strip_prefix("sent ") else { panic!("{said}") };
    let marks: BTreeSet<String> = marks.split(' ').map(str::to_owned).collect();
    let missing = |kind: &&str| !marks.iter().any(|mark| mark.starts_with(*kind));
    let missing: Vec<_> = kinds.split_whitespace().filter(missing).collect();
    assert!(missing.is_empty(), "none of {missing:?} was sent: {marks:?}");
    marks
}
