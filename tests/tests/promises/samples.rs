//! Users copy the samples: the API server accepts each of them as it is, without a warning.

use std::path::PathBuf;

use agentvm_core::defaults::Defaults;
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot, Profile};
use agentvm_testing::repository;
use agentvm_tests::Bench;
use kube::ResourceExt;
use kube::api::ListParams;

fn samples() -> Vec<PathBuf> {
    let folder = repository().join("manifests/samples");
    let mut all: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    assert!(all.len() > 10, "{} samples", all.len());
    all
}

#[tokio::test]
async fn kubectl_applies_every_sample_without_a_warning() {
    let bench = Bench::new().await.unwrap();
    for sample in samples() {
        let applied = bench
            .kubectl(&["apply", "--validate=strict", "-f", sample.to_str().unwrap()])
            .await
            .unwrap();
        let stderr = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success() && stderr.is_empty(), "{}: {stderr}", sample.display());
    }
    let names = |objects: Vec<String>| objects.join(" ");
    let goldens = bench.api::<GoldenSnapshot>().list(&ListParams::default()).await.unwrap();
    let pools = bench.api::<AgentVMPool>().list(&ListParams::default()).await.unwrap();
    assert_eq!(names(goldens.iter().map(ResourceExt::name_any).collect()), "debian");
    assert_eq!(names(pools.iter().map(ResourceExt::name_any).collect()), "default");
}

#[tokio::test]
async fn the_operator_takes_every_sample() {
    let bench = Bench::new().await.unwrap();
    for sample in samples() {
        bench.kubectl(&["apply", "-f", sample.to_str().unwrap()]).await.unwrap();
    }
    let all = ListParams::default();
    let defaults = Defaults::default();
    for golden in bench.api::<GoldenSnapshot>().list(&all).await.unwrap() {
        agentvm_core::golden::recipe(&golden.spec, &defaults).unwrap();
    }
    for pool in bench.api::<AgentVMPool>().list(&all).await.unwrap() {
        agentvm_core::pool::validate(&pool.spec, &defaults, Profile::Standard).unwrap();
    }
    let of_the_pool = ListParams::default().fields("spec.poolRef.name=default");
    let runs = bench.api::<AgentRun>().list(&of_the_pool).await.unwrap().items;
    assert_eq!(
        runs.len(),
        bench.api::<AgentRun>().list(&all).await.unwrap().items.len(),
        "each uses the sample pool"
    );
    assert!(runs.len() >= 10, "{} runs", runs.len());
    for run in &runs {
        agentvm_core::run::validate(&run.spec, &defaults, Some(3600)).unwrap();
    }
    let modes: Vec<_> =
        runs.iter().flat_map(|run| run.spec.files.iter().map(|file| file.mode)).collect();
    assert!(modes.contains(&0o755) && modes.contains(&0o400), "octal modes: {modes:?}");
}

#[test]
fn every_sample_says_what_it_shows() {
    for sample in samples() {
        let text = std::fs::read_to_string(&sample).unwrap();
        let comment =
            text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
        assert!(
            comment.len() > 20,
            "{} begins without a comment that says what it shows",
            sample.display()
        );
    }
}

#[tokio::test]
async fn kubectl_shows_tables_and_explains_fields() {
    let bench = Bench::new().await.unwrap();
    for sample in samples() {
        bench.kubectl(&["apply", "-f", sample.to_str().unwrap()]).await.unwrap();
    }
    let shown = [
        ("gsnap", "NAME READY REASON SOURCE PROFILE AGE"),
        ("avmp", "NAME READY WARM CLAIMED TOTAL MIN MAX GOLDEN TIER REASON AGE"),
        ("arun", "NAME STATUS EXIT SECONDS POOL MACHINE AGE"),
    ];
    for (kind, columns) in shown {
        let table = bench.kubectl(&["get", kind]).await.unwrap();
        let table = String::from_utf8(table.stdout).unwrap();
        let head: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head.join(" "), columns);
    }
    let everything = bench.kubectl(&["get", "agentvm", "-o", "name"]).await.unwrap();
    assert!(
        String::from_utf8(everything.stdout).unwrap().contains("agentvmpool.agentvm.dev/default")
    );
    let explained = bench.kubectl(&["explain", "arun.spec.timeoutSeconds"]).await.unwrap();
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(
        text.contains("seconds") && text.contains("Default: ") && text.contains("604800"),
        "{text}"
    );
}
