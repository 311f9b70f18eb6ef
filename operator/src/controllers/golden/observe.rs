//! Observes a snapshot on this node.

use std::collections::BTreeSet;

use agentvm_core::{
    golden::{DeviceLayout, Local, Recipe, needed, recipe},
    invalid_spec::InvalidSpec,
    names::GoldenKey,
};
use agentvm_crds::GoldenSnapshot;
use agentvm_hypervisor::{Golden, HostFacts};

use super::layouts::asked;
use crate::controllers::{Context, HostState};

/// A snapshot as this node sees it.
#[derive(Debug)]
pub enum GoldenFacts {
    Invalid(InvalidSpec),
    /// The host does not answer, so nothing is known about it.
    NoHost {
        digest: String,
        why: String,
    },
    Here {
        recipe: Recipe,
        /// One for each layout that is needed, or still there.
        parts: Vec<Part>,
        /// A pool names it.
        asked: bool,
    },
}

/// A snapshot in one layout.
#[derive(Debug)]
pub struct Part {
    pub layout: DeviceLayout,
    pub needed: bool,
    pub key: GoldenKey,
    pub local: Local,
    pub golden: Option<Golden>,
}

/// Looks; changes nothing.
pub fn observe(snapshot: &GoldenSnapshot, cx: &Context) -> GoldenFacts {
    let recipe = match recipe(&snapshot.spec, &cx.defaults()) {
        Ok(recipe) => recipe,
        Err(why) => return GoldenFacts::Invalid(why),
    };
    match &*cx.host.borrow() {
        HostState::Unknown(why) | HostState::Unavailable { why, .. } => {
            GoldenFacts::NoHost { digest: recipe.digest(), why: why.clone() }
        }
        HostState::Ready(facts) => {
            let asked = asked(snapshot, cx);
            let parts = parts(snapshot, &asked, &recipe, facts, cx);
            GoldenFacts::Here { recipe, parts, asked: !asked.is_empty() }
        }
    }
}

fn parts(
    snapshot: &GoldenSnapshot,
    asked: &BTreeSet<DeviceLayout>,
    recipe: &Recipe,
    facts: &HostFacts,
    cx: &Context,
) -> Vec<Part> {
    let wanted = needed(asked.iter().copied());
    let part = |layout| {
        let key = cx.goldens.key(recipe, layout, facts);
        let namespace = snapshot.metadata.namespace.as_deref().unwrap_or_default();
        let (local, golden) = (cx.goldens.local(&key, namespace), cx.goldens.get(&key));
        Part { layout, needed: wanted.contains(&layout), key, local, golden }
    };
    let all = DeviceLayout::ALL.map(part);
    all.into_iter()
        .filter(|part| part.needed || !matches!(part.local, Local::Absent | Local::Failed { .. }))
        .collect()
}
