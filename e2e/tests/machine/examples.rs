//! The examples of samples, README and guide are executed, as they are.

use agentvm_crds::AgentRun;
use agentvm_e2e::{Error, Host, ensure};
use agentvm_testing::examples;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::PostParams;
use serde::de::DeserializeOwned;

/// Examples that are to end in another way than `Completed`, by name.
const OTHER_ENDS: [(&str, &str); 3] =
    [("exit-code", "NonZeroExit"), ("timeout", "DeadlineExceeded"), ("cancel-me", "Cancelled")];

/// The number of runs at a time, so that the scenarios beside this one get machines too.
const AT_A_TIME: usize = 3;

pub async fn each_example_ends_as_it_says(host: &Host) -> Result<(), Error> {
    let mut runs: Vec<AgentRun> = Vec::new();
    for example in examples::samples().into_iter().chain(examples::blocks()) {
        for document in example.text.split("\n---\n").filter(|text| text.contains("kind:")) {
            let run = prepared(host, document).await;
            runs.extend(run.map_err(|why| format!("{}: {why}", example.origin))?);
        }
    }
    let names: Vec<String> = runs.iter().map(ResourceExt::name_any).collect();
    let others_are_there = OTHER_ENDS.iter().all(|(name, _)| names.iter().any(|of| of == name));
    ensure!(names.len() >= 14 && others_are_there, "only {names:?} are there");
    for turn in runs.chunks(AT_A_TIME) {
        try_join_all(turn.iter().map(|run| ends(host, run))).await?;
    }
    Ok(())
}

/// Creates what a run needs; returns a run.
async fn prepared(host: &Host, document: &str) -> Result<Option<AgentRun>, Error> {
    let none = PostParams::default();
    if document.contains("kind: Secret") {
        host.api::<Secret>().create(&none, &parsed(document)?).await?;
    } else if document.contains("kind: ConfigMap") {
        host.api::<ConfigMap>().create(&none, &parsed(document)?).await?;
    } else if document.contains("kind: AgentRun") {
        return parsed(document).map(Some);
    }
    Ok(None)
}

/// kubectl reads `0755` as octal.
fn parsed<T: DeserializeOwned>(document: &str) -> Result<T, Error> {
    Ok(serde_saphyr::from_str(&document.replace("mode: 0", "mode: 0o"))?)
}

async fn ends(host: &Host, run: &AgentRun) -> Result<(), Error> {
    let name = host.api::<AgentRun>().create(&PostParams::default(), run).await?.name_any();
    if name == "cancel-me" {
        let has_a_machine =
            |run: &AgentRun| run.status.as_ref().is_some_and(|status| status.vm_name.is_some());
        host.until(&name, "claimed", has_a_machine).await?;
        host.cancel(&name).await?;
    }
    let run = host.ended(&name).await?;
    let wanted = OTHER_ENDS.iter().find(|(other, _)| *other == name);
    ensure!(run.reason() == wanted.map_or("Completed", |(_, reason)| *reason), "{run}");
    Ok(())
}
