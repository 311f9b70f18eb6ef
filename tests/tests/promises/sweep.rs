//! Nothing is deleted because one list did not have it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use agentvm_crds::AgentRun;
use agentvm_operator::node::marker::Marker;
use agentvm_testing::wait_until_async;
use agentvm_tests::World;
use agentvm_types::NodeId;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::json;

/// The mark of this world's folders.
async fn marker(world: &World) -> Marker {
    let namespaces: Api<Namespace> = Api::all(world.bench.client.clone());
    let system = namespaces.get("kube-system").await.unwrap();
    Marker { cluster: system.metadata.uid.unwrap(), node: world.config.node.id.clone() }
}

/// The folder of a run that never was, with this mark.
fn leftover(world: &World, marker: &Marker, uid: &str) -> PathBuf {
    let folder = world.folder.join("runs").join(uid);
    let run = format!("{}/never-was", world.bench.namespace);
    marker.mark_run(&folder, &run).unwrap();
    folder
}

async fn goes(folder: &std::path::Path) {
    wait_until_async("the folder goes", || async { !folder.exists() }).await;
}

#[tokio::test]
async fn only_folders_with_our_mark_go_and_only_when_their_run_is_gone() {
    let mut world = World::at_rest().await;
    let ours = marker(&world).await;
    let before = world.folder.join("runs/9a1f0000-0000-4000-8000-000000000000");
    fs::create_dir_all(&before).unwrap();
    fs::write(before.join("report"), "of another program").unwrap();
    let elsewhere = Marker { cluster: "another".into(), ..ours.clone() };
    let neighbour = Marker { node: NodeId::new("another"), ..ours.clone() };
    let foreign = [
        before,
        leftover(&world, &elsewhere, "of-another-cluster"),
        leftover(&world, &neighbour, "of-another-node"),
    ];
    world.start().await;
    world.warm_pool("default", 1, 1).await;
    world.script("run", "echo x > /workspace/output/x", json!({})).await;
    let run = world.finished("run").await;
    let own = world.folder.join("runs").join(run.metadata.uid.unwrap());
    assert!(own.join("1/output/x").exists());
    world.delete::<AgentRun>("run").await;
    goes(&own).await;
    for n in 0..3 {
        goes(&leftover(&world, &ours, &format!("gone-{n}"))).await;
    }
    for folder in foreign {
        assert!(folder.exists(), "{}", folder.display());
    }
}

/// The operator's cache has the runs of its namespace only, as the list of an API server that is
/// behind lacks some.
#[tokio::test]
async fn a_run_that_the_list_lacks_keeps_its_folder_while_the_api_server_has_it() {
    let (world, other) = (World::new().await, World::at_rest().await);
    let ours = marker(&world).await;
    let run = other.script("run", "true", json!({})).await;
    let (uid, namespace) = (run.metadata.uid.unwrap(), &other.bench.namespace);
    let kept = world.folder.join("runs").join(&uid);
    ours.mark_run(&kept, &format!("{namespace}/run")).unwrap();
    // A folder whose run has been replaced by another one of its name.
    let replaced = world.folder.join("runs/replaced");
    ours.mark_run(&replaced, &format!("{namespace}/run")).unwrap();
    goes(&replaced).await;
    for n in 0..3 {
        goes(&leftover(&world, &ours, &format!("gone-{n}"))).await;
    }
    assert!(kept.exists());
    other.delete::<AgentRun>("run").await;
    goes(&kept).await;
}

#[tokio::test]
async fn a_young_folder_stays_whatever_the_lists_say() {
    let mut world = World::at_rest().await;
    let ours = marker(&world).await;
    world.config.sweep_after = Duration::from_mins(1);
    world.start().await;
    let (young, old) = (leftover(&world, &ours, "young"), leftover(&world, &ours, "old"));
    let made = std::time::SystemTime::now() - Duration::from_mins(2);
    for _ in 0..3 {
        fs::create_dir_all(&old).unwrap();
        leftover(&world, &ours, "old");
        let mark = fs::File::options().write(true).open(old.join(".agentvm.json")).unwrap();
        mark.set_modified(made).unwrap();
        goes(&old).await;
    }
    assert!(young.exists());
}

#[tokio::test]
async fn folders_of_another_cluster_are_refused_at_the_start() {
    let world = World::at_rest().await;
    let ours = marker(&world).await;
    let elsewhere = Marker { cluster: "another".into(), ..ours };
    for (folder, setting) in
        [(&world.config.state_dir, "--state-dir"), (&world.config.runs, "execution.workspace_path")]
    {
        fs::create_dir_all(folder).unwrap();
        elsewhere.claim(folder, "").unwrap();
        let said = world.refused().await;
        for word in ["another cluster", folder.to_str().unwrap(), setting] {
            assert!(said.contains(word), "{word}: {said}");
        }
        fs::remove_file(folder.join(".agentvm.json")).unwrap();
    }
}
