//! What is seen of a snapshot on this node.

use agentvm_core::{
    defaults::InvalidSpec,
    golden::{Local, Recipe, recipe},
    names::GoldenKey,
};
use agentvm_crds::GoldenSnapshot;
use agentvm_hypervisor::Golden;

use crate::controllers::{Context, HostState};

/// A snapshot as this node sees it.
#[derive(Debug)]
pub enum Seen {
    Invalid(InvalidSpec),
    /// The host doesn't answer, so nothing can be said of what is on it.
    NoHost {
        digest: String,
        why: String,
    },
    Here {
        recipe: Recipe,
        key: GoldenKey,
        local: Local,
        golden: Option<Box<Golden>>,
    },
}

/// Looks; changes nothing.
pub fn observe(snapshot: &GoldenSnapshot, cx: &Context) -> Seen {
    let recipe = match recipe(&snapshot.spec, &cx.defaults) {
        Ok(recipe) => recipe,
        Err(why) => return Seen::Invalid(why),
    };
    match &*cx.host.borrow() {
        HostState::Unknown(why) | HostState::Unavailable { why, .. } => {
            Seen::NoHost { digest: recipe.digest(), why: why.clone() }
        }
        HostState::Ready(facts) => {
            let key = cx.goldens.key(&recipe, facts);
            let (local, golden) = (cx.goldens.local(&key), cx.goldens.get(&key).map(Box::new));
            Seen::Here { recipe, key, local, golden }
        }
    }
}
