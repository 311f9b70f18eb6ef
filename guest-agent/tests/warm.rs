//! WARM walks the way of an attempt ahead, unseen. EXECUTE works whatever happens to the prepared
//! launcher.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod process;
mod session;

use std::time::Duration;

use agentvm_guest_agent::protocol::{
    AttemptState, Blob, ErrorCode, GuestAck, GuestMessage, HostAck, HostMessage, Ping, Stop,
};
use agentvm_testing::wait_until;
use process::{Agent, TOKEN, is_alive};
use session::{Collected, Session, nonce, order};

const WARM: GuestMessage = GuestMessage::Ack(GuestAck::Warm);

/// The agent's launchers that live.
fn launchers(agent: &Agent) -> Vec<String> {
    let pid = agent.process.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .expect("the agent lives");
    children.split_whitespace().filter(|pid| is_alive(pid)).map(str::to_owned).collect()
}

async fn warmed(agent: &Agent) -> (Session, agentvm_guest_agent::protocol::Nonce) {
    let (mut client, nonce) = agent.machine().await;
    client.say(HostMessage::Warm).await;
    assert_eq!(client.hear().await, Some(WARM));
    (client, nonce)
}

async fn run(client: &mut Session, order: agentvm_guest_agent::protocol::Execute) -> Collected {
    let mut got = Collected::default();
    got.whole(&mut client.execute(order).await).await;
    got
}

#[tokio::test]
async fn nothing_of_it_is_seen() {
    let agent = Agent::start();
    let (mut client, held) = warmed(&agent).await;
    client.say(HostMessage::Warm).await;
    client.say(HostMessage::Ping(Ping { id: 1 })).await;
    assert_eq!(client.hear().await, Some(WARM), "asked twice, answered twice");
    assert_eq!(
        client.hear().await,
        Some(GuestMessage::Ping(Ping { id: 1 })),
        "no output, no result"
    );
    assert_eq!(launchers(&agent).len(), 1, "and done once");
    let again = Session::connect(&agent.socket(), Some(TOKEN)).await.expect("a session");
    let attempt = again.hello.attempt.expect("an attempt that can be started");
    assert_eq!(
        (attempt.nonce, attempt.state, again.hello.executed),
        (held, AttemptState::Held, false)
    );
    assert_eq!(std::fs::read_dir(agent.workspace().join("work")).expect("work").count(), 0);
}

#[tokio::test]
async fn the_attempt_after_it_is_like_any_other() {
    let agent = Agent::start();
    let (mut client, nonce) = warmed(&agent).await;
    let mut order = order(&nonce, &["/bin/sh", "-c", "wc -c; pwd; echo $NAME >&2; exit 3"]);
    // More than a socket holds at a time.
    order.stdin = Some(Blob(vec![b'x'; 600_000]));
    order.env.push(agentvm_guest_agent::protocol::EnvVar {
        name: "NAME".into(),
        value: agentvm_guest_agent::protocol::Secret::new("value"),
    });
    let got = run(&mut client, order).await;
    let work = agent.workspace().canonicalize().unwrap().join("work");
    assert_eq!(String::from_utf8(got.stdout).unwrap(), format!("600000\n{}\n", work.display()));
    assert_eq!(got.stderr, b"value\n");
    assert_eq!(got.result.unwrap().exit_code, Some(3));
}

#[tokio::test]
async fn it_has_its_time_between_rehydrate_and_execute() {
    let agent = Agent::start();
    let mut client = Session::connect(&agent.socket(), Some(TOKEN)).await.expect("a session");
    client.say(HostMessage::Warm).await;
    assert!(matches!(client.hear().await,
            Some(GuestMessage::Error(why)) if why.code == ErrorCode::Invalid));
    let (mut client, nonce) = agent.machine().await;
    client.execute(order(&nonce, &["sleep", "1000"])).await;
    client.say(HostMessage::Warm).await;
    assert!(
        matches!(client.hear().await, Some(GuestMessage::Error(why)) if why.code == ErrorCode::Busy)
    );
    let mut execution = client.client.follow(nonce.clone());
    execution.stop(Duration::ZERO).await.expect("STOP is sent");
    let mut got = Collected::default();
    while got.result.is_none() {
        got.next(&mut execution).await;
    }
    client.say(HostMessage::Warm).await;
    assert!(
        matches!(client.hear().await,
            Some(GuestMessage::Error(why)) if why.code == ErrorCode::Busy),
        "unacknowledged"
    );
    client.say(HostMessage::Ack(HostAck::Result { nonce })).await;
    client.say(HostMessage::Warm).await;
    assert!(
        matches!(client.hear().await,
            Some(GuestMessage::Error(why)) if why.code == ErrorCode::Invalid),
        "executed"
    );
}

#[tokio::test]
async fn a_new_identity_and_a_quiesce_leave_nothing_of_the_old_preparation() {
    let agent = Agent::start();
    let (mut client, _) = warmed(&agent).await;
    let before = launchers(&agent);
    let next = nonce();
    client.rehydrate(&next, TOKEN, false).await.expect("another identity");
    wait_until("the first launcher is gone", || !is_alive(&before[0]));
    client.say(HostMessage::Warm).await;
    assert_eq!(client.hear().await, Some(WARM));
    assert_eq!(launchers(&agent).len(), 1);
    client.say(HostMessage::Stop(Stop::Quiesce { golden: None })).await;
    assert!(matches!(client.hear().await, Some(GuestMessage::Ack(GuestAck::Quiesce { .. }))));
    wait_until("the second launcher is gone", || launchers(&agent).is_empty());
    assert_eq!(agent.shell("exit 4").await.0.exit_code, Some(4));
}

#[tokio::test]
async fn a_launcher_that_died_meanwhile_is_replaced() {
    let agent = Agent::start();
    let (mut client, nonce) = warmed(&agent).await;
    let pid = launchers(&agent)[0].parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("it is dead", || launchers(&agent).is_empty());
    // The ping comes first, so that the agent reads EXECUTE after the news.
    client.say(HostMessage::Ping(Ping { id: 1 })).await;
    client.hear().await;
    let got = run(&mut client, order(&nonce, &["echo", "here"])).await;
    assert_eq!(got.stdout, b"here\n");
}

#[tokio::test]
async fn a_launcher_that_waits_dies_with_its_agent() {
    let mut agent = Agent::start();
    let (_client, _) = warmed(&agent).await;
    let pid = launchers(&agent)[0].clone();
    agent.process.kill().expect("kill");
    wait_until("the launcher is gone", || !is_alive(&pid));
}
