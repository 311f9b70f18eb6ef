//! Roles for the three kinds. Kubernetes adds them to its own `view`, `edit` and `admin`, so that a
//! person who has one of these in a namespace has the same part of agentvm there.
//!
//! Runs belong to the role `edit`. Pools and goldens belong to the role `admin`, because they
//! decide how much of the hosts a namespace takes.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const GROUP: &str = "agentvm.dev";
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
const RUNS: [&str; 1] = ["agentruns"];
const PLACES: [&str; 2] = ["agentvmpools", "goldensnapshots"];

/// Every role, ready to be installed.
pub fn all_roles() -> Vec<ClusterRole> {
    let kinds = [&RUNS[..], &PLACES[..]].concat();
    vec![role("view", &kinds, &READ), role("edit", &RUNS, &WRITE), role("admin", &PLACES, &WRITE)]
}

/// A part of Kubernetes' own role of this name. `edit` includes `view`; `admin` includes `edit`.
fn role(part_of: &str, kinds: &[&str], verbs: &[&str]) -> ClusterRole {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{part_of}");
    ClusterRole {
        metadata: ObjectMeta {
            name: Some(format!("agentvm-{part_of}")),
            labels: Some([(label, "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        rules: Some(vec![PolicyRule {
            api_groups: Some(words(&[GROUP])),
            resources: Some(words(kinds)),
            verbs: words(verbs),
            ..PolicyRule::default()
        }]),
        ..ClusterRole::default()
    }
}
