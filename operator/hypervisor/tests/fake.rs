//! The fake keeps the promises of the trait: calls are idempotent, paused means still, machines are
//! found after a restart, and nothing is left behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

use std::path::PathBuf;
use std::time::Duration;

use agentvm_core::names::{DomainName, GoldenKey, InstanceId, short_hash};
use agentvm_hypervisor::fake::{DestroyAll, FakeHypervisor, Fault, Op};
use agentvm_hypervisor::{
    CollectSpec, GoldenApi, HookAction, HostApi, HvError, InputFile, MachineApi, MachineKind,
    MachineLimits, MachineRecord, MachineSpec, Mark, PowerState, Proof, Resources, ShareApi, Step,
    StepHook, Stop, TemplateSpec, Tier,
};
use agentvm_testing::holds_within_async;
use agentvm_types::{OwnerUid, PoolUid, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const POOL: &str = "pool-uid";

fn stand_in() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_agentvm-agent-stand-in"))
}

fn record(fake: &FakeHypervisor, kind: MachineKind, slot: u32, nonce: &str) -> MachineRecord {
    let key = GoldenKey::derive(&["test"]);
    let name = match kind {
        MachineKind::Template => DomainName::for_template(&fake.instance(), &key),
        MachineKind::Pool => DomainName::for_slot(&fake.instance(), &PoolUid::new(POOL), slot),
    };
    MachineRecord {
        name,
        instance: fake.instance(),
        kind,
        namespace: "default".to_owned(),
        owner: "pool".to_owned(),
        owner_uid: OwnerUid::new(POOL),
        slot,
        golden: key,
        nonce: short_hash(&[nonce], 32).parse().unwrap(),
        token: Token::new("token"),
        created: 1,
        nic: None,
    }
}

fn machine(fake: &FakeHypervisor, slot: u32, nonce: &str) -> MachineSpec {
    MachineSpec {
        record: record(fake, MachineKind::Pool, slot, nonce),
        share_bytes: 1 << 20,
        tier: agentvm_hypervisor::Tier::Fresh,
        limits: MachineLimits::default(),
    }
}

fn template(fake: &FakeHypervisor) -> TemplateSpec {
    TemplateSpec {
        record: record(fake, MachineKind::Template, 0, "t"),
        resources: Resources { vcpus: 1, memory_mib: 64, disk_gib: 1, cpu_shares: 1024 },
        image: "/nowhere".into(),
        rootfs: None,
        limits: MachineLimits::default(),
    }
}

/// A host with a golden. The guard ends everything on it.
struct Lab {
    _guard: DestroyAll,
    fake: FakeHypervisor,
    dir: tempfile::TempDir,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = with_golden(dir.path()).await;
        Self { _guard: fake.guard(), fake, dir }
    }

    /// A machine that is there, paused.
    async fn machine(&self, nonce: &str) -> MachineSpec {
        let spec = machine(&self.fake, 0, nonce);
        self.fake.create(&spec).await.unwrap();
        spec
    }
}

async fn with_golden(dir: &std::path::Path) -> FakeHypervisor {
    let fake = FakeHypervisor::open(dir, stand_in());
    let spec = template(&fake);
    let name = &spec.record.name;
    fake.boot_template(&spec).await.unwrap();
    std::fs::write(fake.share(name).join("work/from-setup"), "1").unwrap();
    let golden = fake.capture(name, "").await.unwrap();
    assert_eq!(fake.goldens().await.unwrap(), [golden]);
    assert_eq!(fake.list().await.unwrap(), []);
    fake
}

fn ticks(fake: &FakeHypervisor, name: &DomainName) -> String {
    std::fs::read_to_string(fake.share(name).join("work/ticks")).unwrap_or_default()
}

/// Waits until the machine is seen to do something.
async fn moves(fake: &FakeHypervisor, name: &DomainName) -> bool {
    let before = ticks(fake, name);
    holds_within_async(Duration::from_secs(30), async || ticks(fake, name) != before).await
}

fn child_lives(fake: &FakeHypervisor, name: &DomainName) -> bool {
    let pid = std::fs::read_to_string(fake.share(name).join("work/child.pid")).unwrap_or_default();
    !pid.is_empty()
        && std::path::Path::new(&format!("/proc/{}/cwd", pid.trim())).read_link().is_ok()
}

#[tokio::test]
async fn a_machine_s_life() {
    let lab = Lab::new().await;
    let fake = &lab.fake;
    let spec = lab.machine("n1").await;
    let name = spec.record.name.clone();
    assert_eq!(fake.state(&name).await.unwrap(), PowerState::Paused);
    let still = ticks(fake, &name);
    fake.create(&spec).await.unwrap();
    assert!(matches!(fake.create(&machine(fake, 0, "n2")).await, Err(HvError::AlreadyExists(_))));
    assert!(fake.share(&name).join("work/from-setup").exists());
    assert_eq!(ticks(fake, &name), still, "a paused machine does nothing");
    fake.resume(&name).await.unwrap();
    fake.resume(&name).await.unwrap();
    assert_eq!(fake.state(&name).await.unwrap(), PowerState::Running);
    assert!(moves(fake, &name).await);
    let mut channel = fake.connect(&name).await.unwrap();
    channel.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    channel.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    fake.destroy(&name, Stop::Graceful).await.unwrap();
    fake.destroy(&name, Stop::Force).await.unwrap();
    assert_eq!(fake.state(&name).await.unwrap(), PowerState::Absent);
    assert!(!child_lives(fake, &name));
    assert!(matches!(fake.resume(&name).await, Err(HvError::NoSuchMachine(_))));
}

#[tokio::test]
async fn another_process_finds_the_machines_again_and_ends_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let first = with_golden(dir.path()).await;
    let spec = machine(&first, 3, "n1");
    first.create(&spec).await.unwrap();
    first.resume(&spec.record.name).await.unwrap();
    assert!(moves(&first, &spec.record.name).await);
    drop(first);
    let second = FakeHypervisor::open(dir.path(), stand_in());
    let _guard = second.guard();
    assert_eq!(second.sweep().await.unwrap(), Vec::<String>::new());
    let listed = second.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].record, &listed[0].state), (&spec.record, &PowerState::Running));
    let child =
        std::fs::read_to_string(second.share(&spec.record.name).join("work/child.pid")).unwrap();
    second.kill_machine(&spec.record.name).unwrap();
    assert!(matches!(second.state(&spec.record.name).await.unwrap(), PowerState::Dead { .. }));
    assert!(std::path::Path::new(&format!("/proc/{}/cwd", child.trim())).read_link().is_err());
    second.destroy(&spec.record.name, Stop::Force).await.unwrap();
    assert_eq!(second.list().await.unwrap(), []);
}

#[tokio::test]
async fn input_goes_in_and_output_comes_out() {
    let lab = Lab::new().await;
    let fake = &lab.fake;
    let spec = lab.machine("n").await;
    let name = spec.record.name.clone();
    let file = InputFile { path: "a/b".to_owned(), mode: 0o755, content: b"x".to_vec() };
    fake.put_input(&name, vec![file]).await.unwrap();
    std::fs::copy(fake.share(&name).join("input/a/b"), fake.share(&name).join("output/c")).unwrap();
    let wanted =
        CollectSpec { include: vec!["**".into()], max_bytes: 10, max_files: 10, max_entries: 10 };
    let found = fake.collect(&name, &wanted, &lab.dir.path().join("into")).await.unwrap();
    assert_eq!(found.files.len(), 1);
    assert!(found.files[0].executable);
}

#[tokio::test]
async fn faults_happen_where_they_are_asked_for() {
    let lab = Lab::new().await;
    let fake = &lab.fake;
    let full = || HvError::NoCapacity { what: "create".into(), detail: "full".into() };
    fake.faults().next(Op::Create, Fault::Fail(full()));
    fake.faults().nth(Op::Create, 2, Fault::DoneButUnknown);
    let spec = machine(fake, 0, "n");
    assert!(matches!(fake.create(&spec).await, Err(HvError::NoCapacity { .. })));
    assert_eq!(fake.state(&spec.record.name).await.unwrap(), PowerState::Absent);
    assert!(matches!(fake.create(&spec).await, Err(HvError::OutcomeUnknown { .. })));
    assert_eq!(fake.state(&spec.record.name).await.unwrap(), PowerState::Paused);
    fake.create(&spec).await.unwrap();
    fake.create(&machine(fake, 1, "n")).await.unwrap();
    assert_eq!((fake.faults().calls(Op::Create), fake.peak(&OwnerUid::new(POOL))), (4, 2));
}

#[tokio::test]
async fn without_a_golden_there_is_no_machine_and_half_ones_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHypervisor::open(dir.path(), stand_in());
    let _guard = fake.guard();
    assert!(matches!(fake.create(&machine(&fake, 0, "n")).await, Err(HvError::NoSuchGolden(_))));
    std::fs::create_dir_all(dir.path().join("goldens/.tmp-x/work")).unwrap();
    std::fs::create_dir_all(dir.path().join("machines/half/share")).unwrap();
    fake.boot_template(&template(&fake)).await.unwrap();
    assert_eq!(fake.sweep().await.unwrap().len(), 3);
    assert_eq!(fake.list().await.unwrap(), []);
    assert_eq!(fake.sweep().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_reset_machine_is_another_incarnation_in_the_golden_state_and_a_proof_can_fail() {
    let lab = Lab::new().await;
    let fake = &lab.fake;
    let spec = lab.machine("n1").await;
    let name = spec.record.name.clone();
    fake.resume(&name).await.unwrap();
    assert!(moves(fake, &name).await && child_lives(fake, &name));
    let child = std::fs::read_to_string(fake.share(&name).join("work/child.pid")).unwrap();
    std::fs::write(fake.share(&name).join("work/left"), "x").unwrap();
    std::fs::write(fake.share(&name).join("output/left"), "x").unwrap();
    let next = machine(fake, 0, "n2");
    let proof = fake.reset(&next).await.unwrap();
    assert_eq!(
        (proof.failure(), proof.steps.len()),
        (None, agentvm_hypervisor::ResetStep::ALL.len())
    );
    let listed = fake.list().await.unwrap();
    assert_eq!(
        (&listed[0].record, &listed[0].state, &listed[0].mark),
        (&next.record, &PowerState::Paused, &Mark::None)
    );
    assert!(std::path::Path::new(&format!("/proc/{}/cwd", child.trim())).read_link().is_err());
    for (path, there) in [("work/from-setup", true), ("work/left", false), ("output/left", false)] {
        assert_eq!(fake.share(&name).join(path).exists(), there, "{path}");
    }
    fake.knobs().sabotage("disk", 1);
    let why = fake.reset(&machine(fake, 0, "n3")).await.unwrap_err();
    assert!(
        matches!(&why, HvError::NotProven { proof,
            .. } if proof.failure().unwrap().starts_with("disk")),
        "{why}"
    );
    fake.quarantine(&name, 7, "disk").await.unwrap();
    let listed = fake.list().await.unwrap();
    assert_eq!(listed[0].mark, Mark::Quarantined { until: 7, why: "disk".to_owned() });
    assert!(!matches!(listed[0].state, PowerState::Running));
    assert!(
        Proof::CHECKS.contains(&"disk")
            && fake.tiers(&next.record.golden).await.unwrap().tier == Tier::InPlace
    );
}

#[tokio::test]
async fn a_mark_is_found_by_another_process_and_goes_before_the_machine_moves() {
    let lab = Lab::new().await;
    let fake = &lab.fake;
    let spec = lab.machine("n1").await;
    let name = spec.record.name.clone();
    fake.resume(&name).await.unwrap();
    fake.park(&name, "proven").await.unwrap();
    let mark = async || {
        FakeHypervisor::open(lab.dir.path(), stand_in()).list().await.unwrap().remove(0).mark
    };
    assert_eq!(mark().await, Mark::Parked { evidence: "proven".to_owned() });
    assert_eq!(fake.state(&name).await.unwrap(), PowerState::Paused);
    assert!(fake.usage(&name).await.unwrap().resident_bytes > 0);
    fake.resume(&name).await.unwrap();
    assert_eq!(mark().await, Mark::None);
}

#[tokio::test]
async fn killed_at_any_step_nothing_half_made_looks_whole() {
    for fatal in Step::all() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHypervisor::open(dir.path(), stand_in());
        let _guard = fake.guard();
        fake.knobs().set_hook(StepHook::new(move |_, step| {
            if step == fatal { HookAction::Die } else { HookAction::Go }
        }));
        let template = template(&fake);
        let (first, second) = (machine(&fake, 0, "n1"), machine(&fake, 0, "n2"));
        let name = first.record.name.clone();
        let life = async {
            fake.boot_template(&template).await?;
            fake.capture(&template.record.name, "").await?;
            fake.create(&first).await?;
            fake.resume(&name).await?;
            fake.park(&name, "proven").await?;
            fake.reset(&second).await
        };
        let died = life.await.unwrap_err();
        assert!(matches!(died, HvError::Killed { .. }), "{fatal:?}: {died}");
        let next = FakeHypervisor::open(dir.path(), stand_in());
        for machine in next.list().await.unwrap() {
            let parked = matches!(machine.mark, Mark::Parked { .. });
            // Nothing was done to it yet: its mark is still true.
            let untouched = matches!(fatal, Step::Reset(agentvm_hypervisor::ResetStep::Enter));
            assert_eq!(parked, untouched, "{fatal:?}: {machine:?}");
            next.destroy(&machine.record.name, Stop::Force).await.unwrap();
        }
        next.sweep().await.unwrap();
        assert_eq!(next.list().await.unwrap(), [], "{fatal:?}");
        assert_eq!(
            std::fs::read_dir(dir.path().join("machines")).map_or(0, Iterator::count),
            0,
            "{fatal:?}"
        );
        let half = next.goldens().await.unwrap().is_empty();
        assert_eq!(half, matches!(fatal, Step::Capture(_)), "{fatal:?}");
    }
}

#[tokio::test]
async fn a_machine_with_a_run_s_input_is_not_parked_any_more() {
    let lab = Lab::new().await;
    let fake = &lab.fake;
    let spec = lab.machine("n").await;
    fake.park(&spec.record.name, "evidence").await.unwrap();
    assert!(matches!(fake.list().await.unwrap()[0].mark, Mark::Parked { .. }));
    fake.put_input(&spec.record.name, vec![]).await.unwrap();
    let seen = &fake.list().await.unwrap()[0];
    assert_eq!((&seen.mark, &seen.state), (&Mark::None, &PowerState::Paused));
}

#[tokio::test]
async fn a_machine_of_another_owner_that_has_the_name_by_chance_is_not_touched() {
    let lab = Lab::new().await;
    let fake = &lab.fake;
    let theirs = lab.machine("n1").await;
    for change in [
        |record: &mut MachineRecord| record.owner_uid = OwnerUid::new("another pool"),
        |record: &mut MachineRecord| record.slot = 99,
        |record: &mut MachineRecord| record.instance = InstanceId::from_recorded("elsewhere"),
    ] {
        let mut spec = machine(fake, 0, "n2");
        change(&mut spec.record);
        let why = fake.create(&spec).await.unwrap_err();
        assert!(matches!(why, HvError::NotOurs { .. }), "{why:?}");
        assert!(why.to_string().contains(theirs.record.owner_uid.as_str()), "{why}");
    }
    assert_eq!(fake.list().await.unwrap()[0].record, theirs.record);
}
