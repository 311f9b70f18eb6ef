//! A libvirt to test on, a guest image, and the certainty that nothing stays behind.

pub mod guest;
pub mod leftovers;
#[allow(dead_code, reason = "not every test needs it")]
pub mod neighbour;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::time::Instant;

use self::guest::Guest;
use agentvm_core::names::{DomainName, GoldenKey, InstanceId, short_hash};
use agentvm_hypervisor::libvirt::{Libvirt, LibvirtConfig};
use agentvm_hypervisor::{
    Golden, GoldenApi, HostApi, MachineKind, MachineLimits, MachineRecord, MachineSpec, Resources,
    TemplateSpec, Tier,
};
use agentvm_testing::{guest_image, wait_until};
use agentvm_types::{Nonce, OwnerUid, PoolUid, Token};

pub fn took(what: &str, since: Instant) {
    println!("measured: {what}: {} ms", since.elapsed().as_millis());
}

pub const TOKEN: &str = "5f2b3c0a9d8e7f605f2b3c0a9d8e7f60";

/// Starts libvirt's daemons where none answers. They end by themselves when no client needs them.
fn need_libvirtd() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let answers = || {
            Command::new("virsh")
                .args(["-c", "qemu:///system", "version"])
                .output()
                .unwrap()
                .status
                .success()
        };
        // The log daemon may have ended before libvirtd, idle or killed. Then its socket's file is
        // still there, and refuses. A libvirtd in the namespace of a test has no log daemon.
        let logs = || {
            std::env::var_os("AGENTVM_TEST_IN_NAMESPACE").is_some()
                || UnixStream::connect("/run/libvirt/virtlogd-sock").is_ok()
        };
        let missing = [("virtlogd", !logs()), ("libvirtd", !answers())];
        for (daemon, _) in missing.into_iter().filter(|(_, missing)| *missing) {
            // Another test may have started one first, and this one then says that it cannot: the
            // check below decides.
            let _ = Command::new(daemon).args(["-d", "--timeout", "300"]).status().unwrap();
        }
        wait_until("libvirtd answers", || answers() && logs());
    });
}

/// A state directory of its own, which is an installation of its own.
pub struct TestHost {
    pub dir: tempfile::TempDir,
    pub instance: InstanceId,
    pub image: PathBuf,
}

impl TestHost {
    pub fn new() -> Self {
        need_libvirtd();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("agentvm_hypervisor=debug")
            .with_test_writer();
        let _ = subscriber.try_init();
        // Where QEMU's user can walk to; /tmp of a test may be private.
        let dir = tempfile::Builder::new().prefix("hv").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .unwrap();
        let instance = InstanceId::for_state_dir(dir.path().to_str().unwrap());
        Self { dir, instance, image: guest_image().unwrap().to_owned() }
    }

    pub fn config(&self) -> LibvirtConfig {
        LibvirtConfig {
            image: Some(self.image.clone()),
            ..LibvirtConfig::new(self.dir.path(), self.instance.clone())
        }
    }

    pub async fn connect(&self) -> Libvirt {
        Libvirt::connect(self.config()).await.unwrap()
    }

    pub fn template(&self, key: &GoldenKey) -> TemplateSpec {
        let name = DomainName::for_template(&self.instance, key);
        TemplateSpec {
            record: self.record(name, MachineKind::Template, 0, key, "template"),
            resources: Resources { vcpus: 1, memory_mib: 512, disk_gib: 4, cpu_shares: 1024 },
            image: self.image.clone(),
            rootfs: None,
            limits: MachineLimits::default(),
        }
    }

    pub fn machine(&self, key: &GoldenKey, slot: u32, nonce: &str) -> MachineSpec {
        let name = DomainName::for_slot(&self.instance, &PoolUid::new("pool-uid"), slot);
        MachineSpec {
            record: self.record(name, MachineKind::Pool, slot, key, nonce),
            share_bytes: 32 << 20,
            tier: Tier::Fresh,
            limits: MachineLimits::default(),
        }
    }

    /// Boots, sets up, captures.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn golden(&self, hv: &Libvirt, key: &GoldenKey) -> Golden {
        self.golden_of(hv, &self.template(key)).await
    }

    /// Does so for a template of the test's own.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn golden_of(&self, hv: &Libvirt, spec: &TemplateSpec) -> Golden {
        let booting = Instant::now();
        hv.boot_template(spec).await.unwrap();
        hv.boot_template(spec).await.unwrap();
        let mut guest = Guest::open(hv, &spec.record.name, TOKEN).await;
        took("template boot to agent answer", booting);
        assert_eq!(
            guest.sh(TOKEN, "echo setup > /etc/golden; cat /etc/golden").await,
            (Some(0), "setup".to_owned())
        );
        assert_eq!(
            hv.sweep().await.unwrap(),
            Vec::<String>::new(),
            "a template that is being set up isn't debris"
        );
        let inspection = guest.quiesce().await;
        let capturing = Instant::now();
        let golden = hv
            .capture(&spec.record.name, &serde_json::to_string(&inspection).unwrap())
            .await
            .unwrap();
        took("capture", capturing);
        println!("measured: golden memory: {} MiB of 512", golden.memory_bytes >> 20);
        golden
    }

    fn record(
        &self,
        name: DomainName,
        kind: MachineKind,
        slot: u32,
        key: &GoldenKey,
        nonce: &str,
    ) -> MachineRecord {
        MachineRecord {
            name,
            instance: self.instance.clone(),
            kind,
            namespace: "default".to_owned(),
            owner: "test".to_owned(),
            owner_uid: OwnerUid::new("pool-uid"),
            slot,
            golden: key.clone(),
            nonce: nonce_of(nonce),
            token: Token::new(TOKEN),
            created: 1,
            nic: None,
        }
    }

    /// libvirt's names of this installation's domains.
    #[allow(dead_code, reason = "not every test looks")]
    pub fn domains(&self) -> Vec<String> {
        leftovers::domains(&self.instance)
    }

    /// libvirt's names of this installation's networks.
    #[allow(dead_code, reason = "not every test has a network")]
    pub fn networks(&self) -> Vec<String> {
        leftovers::networks(&self.instance)
    }

    /// Mounts below the state directory, without the folder that propagates them.
    pub fn mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let paths = table.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
        let ours = self.dir.path().to_str().unwrap().to_owned();
        paths.filter(|path| path.starts_with(&ours) && !path.ends_with("/machines")).collect()
    }
}

impl Drop for TestHost {
    /// This also runs after a failed assertion. A process that would put the rules back must be
    /// gone by now.
    fn drop(&mut self) {
        leftovers::remove(&self.instance);
        for mount in self.mounts().into_iter().chain([self
            .dir
            .path()
            .join("machines")
            .display()
            .to_string()])
        {
            let _ = Command::new("umount").args(["-q", "-l", &mount]).output();
        }
        for log in std::fs::read_dir("/var/log/libvirt/qemu").into_iter().flatten().flatten() {
            if log.file_name().to_string_lossy().starts_with(&format!("avm-{}-", self.instance)) {
                let _ = std::fs::remove_file(log.path());
            }
        }
    }
}

/// The nonce that tests name by this label.
fn nonce_of(label: &str) -> Nonce {
    short_hash(&[label], 32).parse().unwrap()
}
