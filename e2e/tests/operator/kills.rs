//! The operator is killed with -9, again and again, while runs execute. Nothing is lost, and
//! nothing is done twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_e2e::{Host, PATIENCE, processes};
use agentvm_testing::wait_until_async;
use kube::api::ListParams;

use crate::numbered;

const KILLS: usize = 6;
/// The number of runs at a time.
const RUNS: usize = 3;
const MACHINES: i32 = 3;

/// Arbitrary numbers, equal in every test run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_survive_every_kill_of_the_operator() {
    let _turn = crate::turn().await;
    let mut random = Seeded(20_261_120);
    let mut host = Host::start(&[]).await.unwrap().with_pool(MACHINES, MACHINES).await.unwrap();
    let mut runs: Vec<String> = Vec::new();
    for kill in 1..=KILLS {
        // A random moment, measured in bytes that the runs have printed since. Others follow the
        // runs that end meanwhile.
        let some = 2_000 + random.below(40_000);
        let goal = numbered::written(host.dir.path()) + some;
        let deadline = Instant::now() + PATIENCE;
        while numbered::written(host.dir.path()) < goal {
            assert!(Instant::now() < deadline, "kill {kill}: {some} bytes were never printed");
            while under_way(&host).await < RUNS {
                runs.push(host.submit(numbered::spec(runs.len())).await.unwrap());
            }
        }
        let executing = executing(&host).await;
        let objects = objects(&host).await;
        let dir = host.kill().await.unwrap();
        until_gone(dir.path(), &["etcd", "kube-apiserver", "kube-controller-manager"]).await;
        let machines = processes(dir.path(), "qemu");
        for machine in &executing {
            assert!(
                machines.iter().any(|(_, command)| command.contains(machine)),
                "{machine} isn't among {machines:?}"
            );
        }
        let began = Instant::now();
        host = Host::start_on(dir, &[]).await.unwrap();
        println!(
            "kill {kill}: after {some} bytes, {} machines executing, back in {:?}",
            executing.len(),
            began.elapsed()
        );
        assert_eq!(self::objects(&host).await, objects);
    }
    for (number, name) in runs.iter().enumerate() {
        let run = host.ended(name).await.unwrap();
        numbered::check(&run, number);
    }
    println!("{} runs over {KILLS} kills", runs.len());
    host.warm().await.unwrap();
    host.stop().await.unwrap();
}

/// The UIDs of all our objects.
async fn objects(host: &Host) -> BTreeSet<Option<String>> {
    let all = ListParams::default();
    let runs = host
        .api::<AgentRun>()
        .list(&all)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|run| run.metadata.uid);
    let pools = host
        .api::<AgentVMPool>()
        .list(&all)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|pool| pool.metadata.uid);
    let goldens = host.api::<GoldenSnapshot>().list(&all).await.unwrap().items.into_iter();
    runs.chain(pools).chain(goldens.map(|golden| golden.metadata.uid)).collect()
}

async fn not_over(host: &Host) -> Vec<AgentRun> {
    let runs = host.api::<AgentRun>().list(&ListParams::default()).await.unwrap().items;
    runs.into_iter().filter(|run| !agentvm_e2e::Run::is_over(run)).collect()
}

async fn under_way(host: &Host) -> usize {
    not_over(host).await.len()
}

/// The machines of runs that are in the middle of their output: these stay for a while.
async fn executing(host: &Host) -> Vec<String> {
    let runs = not_over(host).await.into_iter();
    let in_the_middle = runs.filter(|run| {
        let uid = run.metadata.uid.as_deref().unwrap_or_default();
        (1..numbered::in_all() * 3 / 4).contains(&numbered::written_by(host.dir.path(), uid))
    });
    in_the_middle.filter_map(|run| run.status?.vm_name).collect()
}

async fn until_gone(data_dir: &Path, programs: &[&str]) {
    wait_until_async(&format!("none of {programs:?} is left"), async || {
        programs.iter().all(|program| processes(data_dir, program).is_empty())
    })
    .await;
}
