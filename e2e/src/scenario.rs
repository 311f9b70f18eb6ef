//! Tests that share a host: each a trial of its own for whoever runs them, and the host's end one more.

use std::process::ExitCode;
use std::sync::Arc;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::{Error, Host};

/// As many machines as the shared pool may have.
const MACHINES: i32 = 4;
/// Kept warm, and how many scenarios run at once: each needs a machine most of its time.
const WARM: i32 = 3;

type Body = for<'a> fn(&'a Host) -> BoxFuture<'a, Result<(), Error>>;

/// Started for the first one that needs it; one that can't be started isn't tried again.
type Shared = Arc<OnceCell<Result<Host, String>>>;

/// What is tried, and its name.
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

/// Tries all of them on one host, and ends it. Understands the arguments of `cargo test`.
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

async fn start() -> Result<Host, Error> {
    Host::start(&[]).await?.with_pool(WARM, MACHINES).await
}
