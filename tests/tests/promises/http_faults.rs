//! Each request of a run goes wrong, one after another: it is carried out and then answered with an
//! error, a cut connection or silence, or it never arrives. Each time the run ends right, its
//! program is executed once, the next run is fine, and nothing is left behind.

use std::collections::HashSet;
use std::time::Duration;

use agentvm_core::names::DomainName;
use agentvm_crds::{AgentRun, AgentVMPool, GoldenSnapshot};
use agentvm_hypervisor::MachineApi;
use agentvm_operator::api::TimeLimits;
use agentvm_testing::wait_until_async;
use agentvm_tests::{Answer, Mishap, Request, World, reason};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use serde_json::{Value, json};

/// The time limit of the operator's calls, so that silence is short.
const LIMIT: Duration = Duration::from_millis(300);

/// The ways in which a write goes wrong.
const WRITES: [Mishap; 12] = [
    Mishap::Done(Answer::Status(500)),
    Mishap::Done(Answer::Status(503)),
    Mishap::Done(Answer::Status(504)),
    Mishap::Done(Answer::Status(409)),
    Mishap::Done(Answer::Cut),
    Mishap::Done(Answer::Silence),
    Mishap::Refused(Answer::Status(409)),
    Mishap::Refused(Answer::Status(429)),
    Mishap::Refused(Answer::Status(500)),
    Mishap::Refused(Answer::Status(503)),
    Mishap::Refused(Answer::Cut),
    Mishap::Refused(Answer::Silence),
];

/// The ways in which a read goes wrong.
const READS: [Mishap; 6] = [
    Mishap::Refused(Answer::Status(429)),
    Mishap::Refused(Answer::Status(500)),
    Mishap::Refused(Answer::Status(503)),
    Mishap::Refused(Answer::Status(504)),
    Mishap::Refused(Answer::Cut),
    Mishap::Refused(Answer::Silence),
];

/// A world that counts its runs and knows the nonces that they had.
struct Walk {
    world: World,
    places: usize,
    runs: Vec<String>,
    nonces: HashSet<String>,
}

impl Walk {
    async fn new() -> Self {
        let mut world = World::at_rest().await;
        world.limits = TimeLimits { call: LIMIT };
        world.start().await;
        world.warm_pool("default", 1, 1).await;
        let secret = json!({"metadata": {"name": "of-the-walk"}, "data": {"key": "c2VjcmV0"}});
        let map = json!({"metadata": {"name": "of-the-walk"}, "data": {"key": "plain"}});
        let post = PostParams::default();
        let (secret, map) =
            (serde_json::from_value(secret).unwrap(), serde_json::from_value(map).unwrap());
        world.bench.api::<Secret>().create(&post, &secret).await.unwrap();
        world.bench.api::<ConfigMap>().create(&post, &map).await.unwrap();
        Self { world, places: 0, runs: Vec::new(), nonces: HashSet::new() }
    }

    /// One run, with these faults on its way.
    async fn place(&mut self, faults: &[(Request, Mishap)], more: Value) -> String {
        self.places += 1;
        for (request, mishap) in faults {
            self.world.wire.border.plan(*request, *mishap);
        }
        let name = format!("run-{}", self.places);
        self.begin(&name, more).await;
        name
    }

    async fn begin(&mut self, name: &str, more: Value) {
        let marks = self.world.outside(&format!("marks-{name}"));
        let script = format!(
            "[ \"$SECRET\" = secret ] && [ \"$(cat /workspace/input/map)\" = plain ] && \
                echo mark >> {} && [ ! -e left ] && touch left && echo $SECRET",
            marks.display()
        );
        let key = json!({"name": "of-the-walk", "key": "key"});
        let mut spec = json!({
            "env": [{"name": "SECRET", "valueFrom": {"secretKeyRef": key}}],
            "files": [{"path": "map", "contentFrom": {"configMapKeyRef": key}}],
        });
        let more = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(more);
        self.world.script(name, &script, spec).await;
        self.runs.push(name.to_owned());
    }

    /// The run ended right, and once; all planned faults have happened.
    async fn assert_whole(&mut self, name: &str, about: &str) {
        let run = self.world.finished(name).await;
        assert_eq!(reason(&run, "Succeeded"), "True/Completed", "{name}, {about}: {run:#?}");
        let marks = std::fs::read_to_string(self.world.outside(&format!("marks-{name}"))).unwrap();
        assert_eq!(marks, "mark\n", "{name}, {about}: executed once");
        let status = run.status.unwrap();
        assert_eq!(status.attempts.len(), 1, "{name}, {about}: {:?}", status.attempts);
        assert_eq!(status.stdout.as_deref(), Some("secret\n"), "{name}, {about}: of another run?");
        let fresh = self.nonces.insert(status.attempts[0].nonce.clone());
        assert!(fresh, "{name}, {about}: another run had its nonce");
        self.all_happened(about).await;
    }

    async fn all_happened(&self, about: &str) {
        wait_until_async(&format!("{about} has happened"), async || {
            self.world.wire.border.all_happened()
        })
        .await;
    }

    /// One more run without a fault; then everything is deleted, and nothing is left.
    async fn end(mut self, what: &str) {
        let name = self.place(&[], json!({})).await;
        self.assert_whole(&name, "after all faults").await;
        let warm = |pool: &AgentVMPool| {
            pool.status.as_ref().is_some_and(|status| status.warm == 1 && status.claimed == 0)
        };
        self.world.until("default", "whole again", warm).await;
        println!("{what}: {} places, {} faults", self.places, self.world.wire.border.happened());
        for name in &self.runs {
            if self.world.bench.api::<AgentRun>().get_opt(name).await.unwrap().is_some() {
                self.world.delete::<AgentRun>(name).await;
            }
        }
        self.world.delete::<AgentVMPool>("default").await;
        self.world.delete::<GoldenSnapshot>("default").await;
        wait_until_async("no machine is left", async || {
            self.world.fake.list().await.unwrap().is_empty()
        })
        .await;
        wait_until_async("no folder is left", async || {
            // The mark of the installation is a file.
            let mut left = std::fs::read_dir(self.world.folder.join("runs")).unwrap();
            left.all(|entry| !entry.unwrap().path().is_dir())
        })
        .await;
    }
}

/// A run with a fault at each of its writes, in each way.
async fn writes(request: Request) {
    let mut walk = Walk::new().await;
    for (max, mishap) in (2..).zip(WRITES) {
        if request == Request::PoolStatus {
            // Each edit of the pool makes the operator write that it has seen it.
            let spec = json!({"spec": {"warm": {"max": max}}});
            walk.world.patch::<AgentVMPool>("default", spec).await;
        }
        let name = walk.place(&[(request, mishap)], json!({})).await;
        walk.assert_whole(&name, &format!("{request:?} {mishap:?}")).await;
    }
    walk.end(&format!("{request:?}")).await;
}

#[tokio::test]
async fn at_the_claim() {
    writes(Request::Claim).await;
}

#[tokio::test]
async fn at_the_end() {
    writes(Request::Finish).await;
}

#[tokio::test]
async fn at_the_event() {
    writes(Request::Event).await;
}

#[tokio::test]
async fn at_the_status_of_the_pool() {
    writes(Request::PoolStatus).await;
}

#[tokio::test]
async fn at_the_reads_before_the_claim() {
    let mut walk = Walk::new().await;
    for request in [Request::Secret, Request::ConfigMap] {
        for mishap in READS {
            let name = walk.place(&[(request, mishap)], json!({})).await;
            walk.assert_whole(&name, &format!("{request:?} {mishap:?}")).await;
        }
    }
    walk.end("reads before the claim").await;
}

/// The write is in doubt, and so is the read that could tell.
#[tokio::test]
async fn at_the_live_read_after_a_doubtful_write() {
    let mut walk = Walk::new().await;
    for request in [Request::Claim, Request::Finish] {
        for write in [Mishap::Done(Answer::Status(504)), Mishap::Refused(Answer::Cut)] {
            for read in READS {
                let faults = [(request, write), (Request::LiveRead, read)];
                let name = walk.place(&faults, json!({})).await;
                walk.assert_whole(&name, &format!("{faults:?}")).await;
            }
        }
    }
    walk.end("live reads").await;
}

/// The first machine of each run is lost, and the claim is taken back.
#[tokio::test]
async fn at_the_unclaim() {
    let mut walk = Walk::new().await;
    for mishap in WRITES {
        walk.places += 1;
        let name = format!("lost-{}", walk.places);
        let about = format!("{name}, Unclaim {mishap:?}");
        let (world, marks) = (&walk.world, walk.world.outside(&name));
        world.wire.border.plan(Request::Unclaim, mishap);
        let script = format!(
            "echo mark >> {0}; [ $(wc -l < {0}) = 2 ] && exit 0; touch begun; sleep 600",
            marks.display()
        );
        world.script(&name, &script, json!({"backoffLimit": 1})).await;
        let machine = world.running(&name).await.status.unwrap().vm_name.unwrap();
        let begun = world.share(&machine).join("work/begun");
        wait_until_async("it executes", async || begun.exists()).await;
        world.fake.kill_machine(&DomainName::from_recorded(machine)).unwrap();
        let run = world.finished(&name).await;
        assert_eq!(reason(&run, "Succeeded"), "True/Completed", "{about}: {run:#?}");
        let attempts = run.status.unwrap().attempts;
        let ends: Vec<_> = attempts.iter().map(|a| a.reason.as_deref().unwrap()).collect();
        assert_eq!(ends, ["GuestLost", "Completed"], "{about}");
        assert_eq!(std::fs::read_to_string(&marks).unwrap(), "mark\nmark\n", "{about}: once each");
        for attempt in attempts {
            assert!(walk.nonces.insert(attempt.nonce), "{about}: another attempt had its nonce");
        }
        walk.all_happened(&about).await;
        walk.runs.push(name);
    }
    walk.end("Unclaim").await;
}

#[tokio::test]
async fn at_the_status_of_a_run_that_waits() {
    let mut walk = Walk::new().await;
    for mishap in WRITES {
        let first = format!("first-{}", walk.places);
        let go = walk.world.outside(&first);
        let script = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
        walk.world.script(&first, &script, json!({})).await;
        walk.world.running(&first).await;
        let name = walk.place(&[(Request::Wait, mishap)], json!({})).await;
        walk.all_happened("its status was written").await;
        std::fs::write(&go, "").unwrap();
        walk.assert_whole(&name, &format!("Wait {mishap:?}")).await;
        walk.world.finished(&first).await;
        walk.runs.push(first);
    }
    walk.end("Wait").await;
}

#[tokio::test]
async fn at_the_deletion_of_a_run_whose_time_is_over() {
    let mut walk = Walk::new().await;
    for mishap in WRITES {
        let name = walk.place(&[], json!({})).await;
        walk.assert_whole(&name, "before its deletion").await;
        walk.world.wire.border.plan(Request::DeleteRun, mishap);
        let spec = json!({"spec": {"ttlSecondsAfterFinished": 1}});
        walk.world.patch::<AgentRun>(&name, spec).await;
        walk.world.gone::<AgentRun>(&name).await;
        walk.all_happened(&format!("DeleteRun {mishap:?}")).await;
    }
    walk.end("DeleteRun").await;
}

/// The watches of a kind break, and beginning them again goes wrong.
async fn watches(plural: &'static str) {
    let mut walk = Walk::new().await;
    let (watch, list) = (Request::Watch(plural), Request::List(plural));
    let again: [&[(Request, Mishap)]; 7] = [
        &[(watch, Mishap::Refused(Answer::Status(410)))],
        &[(watch, Mishap::Refused(Answer::Expired))],
        &[(watch, Mishap::Refused(Answer::Status(429)))],
        &[(watch, Mishap::Refused(Answer::Status(503)))],
        &[(watch, Mishap::Refused(Answer::Cut))],
        &[(watch, Mishap::Refused(Answer::Silence))],
        &[(watch, Mishap::Refused(Answer::Expired)), (list, Mishap::Refused(Answer::Cut))],
    ];
    for faults in again {
        let name = walk.place(faults, json!({})).await;
        walk.world.wire.border.cut_watches();
        walk.assert_whole(&name, &format!("{faults:?}")).await;
    }
    walk.end(&format!("watches of {plural}")).await;
}

#[tokio::test]
async fn at_the_watch_of_runs() {
    watches("agentruns").await;
}

#[tokio::test]
async fn at_the_watch_of_pools() {
    watches("agentvmpools").await;
}

#[tokio::test]
async fn at_the_watch_of_goldens() {
    watches("goldensnapshots").await;
}
