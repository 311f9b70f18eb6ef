//! The node runs out of files, of space or of descriptors, or its disk becomes read-only, at each
//! place of a run where the operator notices. The run ends right or says the reason, its program is
//! executed once for each attempt, and the next run is fine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentvm_crds::{AgentRun, AgentVMPool};
use agentvm_hypervisor::MachineApi;
use agentvm_testing::{holds_within_async, wait_until_async};
use agentvm_tests::{Outside, World, condition, reason};
use serde_json::json;

/// The time that a run gets to meet the fault. Then the node is mended.
const MEET: Duration = Duration::from_millis(1200);
/// The time in which a run ends after that. An agent that is not reached is given up after a
/// minute.
const ENDED: Duration = Duration::from_secs(90);
/// The size of a page, which is the smallest piece of the small disk.
const PAGE: u64 = 4096;

struct Node {
    world: World,
    operator: Outside,
    places: usize,
    /// Runs that ended with a reason, and not as `Completed`.
    honest: usize,
}

impl Node {
    async fn new() -> Self {
        let world = World::at_rest().await;
        let binary = Path::new(env!("CARGO_BIN_EXE_fake-operator"));
        let operator = Outside::start_on_a_small_disk(binary, &world).unwrap();
        world.warm_pool("default", 1, 1).await;
        Self { world, operator, places: 0, honest: 0 }
    }

    /// The folder of the runs, as the operator sees it.
    fn disk(&self) -> PathBuf {
        self.operator.sees(&self.world.folder.join("runs"))
    }

    fn marks(&self, name: &str) -> usize {
        let marks = self.world.outside(&format!("marks-{name}"));
        fs::read_to_string(marks).map_or(0, |text| text.lines().count())
    }

    async fn run(&self, name: &str) {
        let marks = self.world.outside(&format!("marks-{name}"));
        let script = format!(
            "echo mark >> {}; echo out; head -c 20000 /dev/zero | tr '\\0' x; \
                mkdir -p /workspace/output/deep; echo kept > /workspace/output/deep/file",
            marks.display()
        );
        self.world.script(name, &script, json!({})).await;
    }

    /// One run while the node lacks something; then the node is mended.
    async fn place(&mut self, about: &str, said: &str, mend: impl Fn(&Self)) {
        self.places += 1;
        let name = format!("run-{}", self.places);
        self.run(&name).await;
        let over = async || {
            let run = self.world.bench.api::<AgentRun>().get(&name).await.unwrap();
            agentvm_core::run::is_finished(run.status.as_ref())
        };
        holds_within_async(MEET, over).await;
        mend(self);
        if !holds_within_async(ENDED, over).await {
            let log = fs::read_to_string(self.world.folder.join("operator.log")).unwrap();
            let lines: Vec<_> = log.lines().rev().take(60).collect();
            panic!("{about}: {name} never ends: {lines:#?}");
        }
        let run = self.world.finished(&name).await;
        let (end, status) = (reason(&run, "Succeeded"), run.status.as_ref().unwrap());
        let why = &condition(&run, "Succeeded").unwrap().message;
        let executed = self.marks(&name);
        assert!(executed <= status.attempts.len(), "{about}: {executed} times: {status:#?}");
        if end == "True/Completed" {
            assert_eq!(executed, 1, "{about}");
            let (out, output) = (status.stdout.as_deref().unwrap(), status.output.as_ref());
            assert!(out.ends_with("xxx"), "{about}: {out:?}");
            let files: Vec<_> = output.unwrap().files.iter().map(|file| &file.path).collect();
            assert_eq!(files, ["deep/file"], "{about}: it is completed with its output");
        } else {
            self.honest += 1;
            assert!(why.contains(said), "{about}: {end} does not say why: {why}");
        }
        self.world.delete::<AgentRun>(&name).await;
        self.world.gone::<AgentRun>(&name).await;
        // The mark of the installation is a file.
        let folder = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path().is_dir();
        let folders = || fs::read_dir(self.disk()).unwrap().any(folder);
        wait_until_async("its folder is gone", async || !folders()).await;
        let warm = |pool: &AgentVMPool| pool.status.as_ref().is_some_and(|s| s.warm == 1);
        self.world.until("default", "a machine is ready", warm).await;
    }

    /// One more run, without a fault.
    async fn end(mut self, what: &str) {
        let honest = self.honest;
        self.place("after all", "nothing is wrong", |_| ()).await;
        assert_eq!(self.honest, honest, "the last run is fine");
        println!("{what}: {} places, {honest} with another end than Completed", self.places);
    }
}

#[tokio::test]
async fn no_file_is_left_on_the_disk() {
    let mut node = Node::new().await;
    for left in 0..=6 {
        let mut fillers: Vec<PathBuf> = (0..64)
            .map(|n| node.disk().join(format!("f{n}")))
            .take_while(|filler| fs::write(filler, "").is_ok())
            .collect();
        assert!(fillers.len() > 32, "{} files", fillers.len());
        for filler in fillers.split_off(fillers.len() - left) {
            fs::remove_file(filler).unwrap();
        }
        let mend = |_: &Node| fillers.iter().for_each(|filler| fs::remove_file(filler).unwrap());
        node.place(&format!("{left} files are left"), "No space left", mend).await;
    }
    node.end("files").await;
}

#[tokio::test]
async fn no_space_is_left_on_the_disk() {
    let mut node = Node::new().await;
    for left in 0..=8 {
        let filler = node.disk().join("filler");
        // More than there is room for: the file takes all of it.
        fs::write(&filler, vec![0; 256 * 1024]).unwrap_err();
        let whole_pages = fs::metadata(&filler).unwrap().len() / PAGE * PAGE;
        let file = fs::File::options().write(true).open(&filler).unwrap();
        file.set_len(whole_pages - left * PAGE).unwrap();
        // An open file would keep its space.
        drop(file);
        let mend = |_: &Node| fs::remove_file(&filler).unwrap();
        node.place(&format!("{left} pages are left"), "No space left", mend).await;
    }
    node.end("pages").await;
}

#[tokio::test]
async fn the_disk_becomes_read_only() {
    let mut node = Node::new().await;
    node.operator.remount_the_small_disk(&node.world, "ro").unwrap();
    let mend = |node: &Node| node.operator.remount_the_small_disk(&node.world, "rw").unwrap();
    let before = node.world.fake.list().await.unwrap();
    node.run("waits").await;
    let says = |run: &AgentRun| {
        condition(run, "Scheduled").is_some_and(|c| c.message.contains("Read-only file system"))
    };
    node.world.until("waits", "it says why it waits", says).await;
    assert_eq!(node.world.fake.list().await.unwrap(), before, "it costs no machine");
    node.world.delete::<AgentRun>("waits").await;
    node.place("read-only", "Read-only file system", mend).await;
    node.end("read-only").await;
}

#[tokio::test]
async fn no_descriptor_is_left() {
    let mut node = Node::new().await;
    for left in 0..=12 {
        let open = node.operator.open_descriptors().unwrap();
        node.operator.limit_descriptors(open + left).unwrap();
        let mend = |node: &Node| node.operator.limit_descriptors(4096).unwrap();
        node.place(&format!("{left} descriptors are left"), "Too many open files", mend).await;
    }
    node.end("descriptors").await;
}
