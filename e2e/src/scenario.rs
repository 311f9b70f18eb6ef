//! Tests that share a host. The harness shows each of them as a trial, and the end of the host as
//! one more.

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::{DataDir, Error, Host};

/// The largest number of machines in the shared pool.
const MACHINES: i32 = 4;
/// The number of warm machines, and of scenarios at a time: each needs a machine most of its time.
const WARM: i32 = 3;

type Body = for<'a> fn(&'a Host) -> BoxFuture<'a, Result<(), Error>>;

/// The first scenario starts the host. If the start fails, it is not tried again.
type Shared = Arc<OnceCell<Result<Host, String>>>;

/// The function of a scenario, and its name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub body: Body,
}

/// Names functions of a host as scenarios.
#[macro_export]
macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$($crate::Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            body: |host| Box::pin($module::$name(host)),
        }),*]
    };
}

/// Tries all of them on one host, and ends the host. Understands the arguments of `cargo test`.
pub fn on_one_host(scenarios: &[Scenario]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(WARM as usize);
    match tried(&arguments, scenarios) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn tried(arguments: &Arguments, scenarios: &[Scenario]) -> Result<ExitCode, Error> {
    let runtime = Arc::new(Runtime::new()?);
    let shared = Arc::new(OnceCell::new());
    let trials = scenarios
        .iter()
        .map(|scenario| trial(*scenario, runtime.clone(), shared.clone()))
        .collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    let host = Arc::into_inner(shared).ok_or("a scenario still has the host")?.into_inner();
    if let Some(Ok(host)) = host {
        if conclusion.has_failed() {
            eprintln!("The end of the operator's log:\n{}", host.dir.end_of_log());
        }
        let (_, took) = runtime.block_on(host.stop())?;
        println!("the host ended in {:.1} s, with nothing left\n", took.as_secs_f64());
    }
    Ok(conclusion.exit_code())
}

fn trial(scenario: Scenario, runtime: Arc<Runtime>, shared: Shared) -> Trial {
    Trial::test(scenario.name, move || {
        let tried = async {
            let host =
                shared.get_or_init(|| async { start().await.map_err(|why| why.to_string()) }).await;
            let host = host.as_ref().map_err(|why| format!("no host: {why}"))?;
            let began = std::time::Instant::now();
            (scenario.body)(host).await?;
            eprintln!("{}: {:.1} s", scenario.name, began.elapsed().as_secs_f64());
            Ok(())
        };
        runtime.block_on(tried).map_err(|why: Error| Failed::from(why))
    })
}

/// The administrator of the host lets pools use the bridges that the scenarios make
/// ([`own_bridges`]).
async fn start() -> Result<Host, Error> {
    let dir = DataDir::new()?;
    let config = dir.path().join("config.yaml");
    let bridges = own_bridges(&dir)?.join(",");
    std::fs::write(&config, format!("network: {{allowed_bridges: \"{bridges}\"}}\n"))?;
    let config = config.to_str().ok_or("a folder whose name is not text")?.to_owned();
    let host = Host::start_on(dir, &["--config", &config]).await?;
    host.with_pool(WARM, MACHINES).await
}

/// Names of foreign networks that no other installation has, and of their bridges.
pub fn own_networks(dir: &DataDir) -> Result<[String; 2], Error> {
    let folder = dir.path().to_string_lossy().into_owned();
    let own = folder.rsplit('-').next().ok_or("a folder without a name of its own")?;
    Ok(["a", "b"].map(|which| format!("{own}{which}")))
}

fn own_bridges(dir: &DataDir) -> Result<[String; 2], Error> {
    own_networks(dir).map(|names| names.map(|name| format!("lan{name}")))
}
