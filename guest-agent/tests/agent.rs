//! The agent behind a unix socket: the same program as in a machine, without the machine.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod process;
mod session;

use std::time::Duration;

use agentvm_guest_agent::client::{Client, ClientError};
use agentvm_guest_agent::protocol::{
    AttemptState, Blob, EnvVar, ErrorCode, Execute, FileChunk, GuestAck, GuestMessage, HostAck,
    HostHello, HostMessage, Ping, Secret, Stop, StreamTotals,
};
use agentvm_testing::wait_until;
use process::{Agent, TOKEN, is_alive};
use session::{Collected, DEADLINE, Session, nonce, order};

#[tokio::test]
async fn output_and_exit_code_come_back() {
    let agent = Agent::start();
    let (result, got) = agent.shell("echo out; echo err >&2; exit 3").await;
    assert_eq!((result.exit_code, result.signal), (Some(3), None));
    assert_eq!((got.stdout.as_slice(), got.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(result.stdout, StreamTotals { bytes: 4, dropped: 0 });
    assert!(!result.timed_out && !result.stopped && result.error.is_none());
}

#[tokio::test]
async fn the_surroundings_are_clean_and_as_ordered() {
    let agent = Agent::start();
    let (result, got) = agent
        .run(
            |order| {
                order.env = vec![EnvVar { name: "NAME".into(), value: Secret::new("välue") }];
                order.stdin = Some(Blob(b"typed \xff".to_vec()));
            },
            &[
                "/bin/sh",
                "-c",
                "pwd; echo $AGENTVM $NAME ${CARGO-none}; cat; ls /proc/self/fd | wc -l",
            ],
        )
        .await;
    assert_eq!(result.exit_code, Some(0));
    let work = agent.workspace().join("work");
    let mut expected = format!("{}\n1 välue none\ntyped ", work.display()).into_bytes();
    // 0, 1, 2 and the descriptor that `ls` has open.
    expected.extend_from_slice(b"\xff4\n");
    assert_eq!(got.stdout, expected, "{}", String::from_utf8_lossy(&got.stdout));
}

#[tokio::test]
async fn a_signal_is_reported_as_one() {
    let (result, _) = Agent::start().shell("kill -KILL $$").await;
    assert_eq!((result.exit_code, result.signal), (None, Some(9)));
}

#[tokio::test]
async fn what_cannot_be_started_ends_as_in_a_shell() {
    let agent = Agent::start();
    let (result, got) = agent.run(|_| {}, &["no-such-program"]).await;
    assert_eq!(result.exit_code, Some(127));
    assert_eq!(got.stderr, b"agentvm: no-such-program: command not found\n");
    let (result, _) = agent.run(|_| {}, &["/etc/passwd"]).await;
    assert_eq!((result.exit_code, result.error.is_some()), (Some(126), true));
    let (result, _) = agent.run(|order| order.cwd = Some("nowhere".into()), &["true"]).await;
    assert_eq!(result.exit_code, Some(126));
    assert!(result.error.is_some_and(|why| why.as_str().contains("working directory")));
}

#[tokio::test]
async fn a_timeout_kills_what_ignores_sigterm() {
    let agent = Agent::start();
    let limits = |order: &mut Execute| (order.timeout_millis, order.grace_millis) = (300, 200);
    let script = "trap '' TERM; echo begun; while :; do sleep 100; done";
    let (result, got) = agent.run(limits, &["/bin/sh", "-c", script]).await;
    assert!(result.timed_out && !result.stopped);
    assert_eq!((result.signal, got.stdout.as_slice()), (Some(9), &b"begun\n"[..]));
    assert!((500..20_000).contains(&result.duration_millis), "{}", result.duration_millis);
}

#[tokio::test]
async fn a_timeout_lets_a_program_clean_up() {
    let limits = |order: &mut Execute| order.timeout_millis = 300;
    let script = "trap 'echo cleaned; exit 7' TERM; while :; do sleep 0.05; done";
    let (result, got) = Agent::start().run(limits, &["/bin/sh", "-c", script]).await;
    assert!(result.timed_out);
    assert_eq!((result.exit_code, got.stdout.as_slice()), (Some(7), &b"cleaned\n"[..]));
}

#[tokio::test]
async fn closed_streams_do_not_end_an_attempt() {
    let (result, got) = Agent::start().shell("exec <&- >&- 2>&-; sleep 0.3; exit 5").await;
    assert_eq!(result.exit_code, Some(5));
    assert!(result.duration_millis >= 300);
    assert!(got.stdout.is_empty() && got.stderr.is_empty());
}

#[tokio::test]
async fn any_bytes_are_output() {
    let agent = Agent::start();
    let forged = "printf 'AGVM\\001\\006\\000\\377\\376\\200'";
    let (_, got) = agent.shell(forged).await;
    assert_eq!(got.stdout, b"AGVM\x01\x06\x00\xff\xfe\x80");
}

#[tokio::test]
async fn a_hundred_megabytes_are_cut_and_counted() {
    let agent = Agent::start();
    let cap = |order: &mut Execute| order.max_stdout_bytes = 1_000_000;
    let (result, got) =
        agent.run(cap, &["/bin/sh", "-c", "head -c 100000000 /dev/zero; echo end >&2"]).await;
    assert_eq!(result.exit_code, Some(0));
    assert_eq!(result.stdout, StreamTotals { bytes: 1_000_000, dropped: 99_000_000 });
    assert_eq!((got.stdout.len(), got.stderr.as_slice()), (1_000_000, &b"end\n"[..]));
}

#[tokio::test]
async fn the_beginning_and_the_last_lines_of_a_long_stream_come_with_a_gap_between() {
    let agent = Agent::start();
    let cap = |order: &mut Execute| (order.max_stdout_bytes, order.end_bytes) = (1000, 400);
    let script = "echo first; head -c 5000000 /dev/zero; echo; echo the verdict";
    let (result, got) = agent.run(cap, &["/bin/sh", "-c", script]).await;
    let dropped = 6 + 5_000_000 + 13 - 1000;
    assert_eq!(result.stdout, StreamTotals { bytes: 1000, dropped });
    let gap = got.gap.unwrap();
    assert_eq!((gap.offset, gap.missing), (600, dropped));
    assert_eq!(got.stdout.len(), 1000);
    assert!(got.stdout.starts_with(b"first\n") && got.stdout.ends_with(b"\nthe verdict\n"));
}

#[tokio::test]
async fn what_is_left_behind_is_killed() {
    let agent = Agent::start();
    let script = "setsid sh -c 'trap \"\" TERM HUP; (sleep 1000 & echo $!; wait) & sleep 1000' & \
        sleep 0.3; echo $!; exit 4";
    let (result, got) = agent.shell(script).await;
    assert_eq!(result.exit_code, Some(4));
    let pids = String::from_utf8(got.stdout).expect("numbers");
    assert_eq!(pids.lines().count(), 2, "{pids:?}");
    for pid in pids.lines() {
        assert!(!is_alive(pid), "{pid} outlived its attempt");
    }
}

#[tokio::test]
async fn stop_ends_an_attempt_and_says_so() {
    let agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    let order = order(&nonce, &["/bin/sh", "-c", "echo begun; exec sleep 1000"]);
    let mut got = Collected::default();
    got.first(&mut client.execute(order).await).await;
    let another = Stop::Attempt { nonce: session::nonce(), grace_millis: 0 };
    client.say(HostMessage::Stop(another)).await;
    let mut execution = client.client.follow(nonce);
    execution.stop(Duration::from_secs(5)).await.expect("STOP is sent");
    let refused = execution.next().await;
    assert!(
        matches!(refused, Err(ClientError::Refused(why)) if why.code == ErrorCode::UnknownNonce)
    );
    got.whole(&mut execution).await;
    let result = got.result.expect("a result");
    assert!(result.stopped && !result.timed_out);
    assert_eq!(result.signal, Some(15));
}

#[tokio::test]
async fn a_nonce_is_executed_once() {
    let agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    let again = order(&nonce, &["/bin/sh", "-c", "echo x >> count"]);
    client.execute(again.clone()).await;
    Collected::default().whole(&mut client.execute(again.clone()).await).await;
    // Also after the result is acknowledged and forgotten, and over a new connection.
    let mut client = Session::connect(&agent.socket(), Some(TOKEN)).await.expect("a session");
    client.execute(again).await;
    client.say(HostMessage::Ping(Ping { id: 4 })).await;
    assert_eq!(client.hear().await, Some(GuestMessage::Ping(Ping { id: 4 })));
    assert!(client.hello.executed && client.hello.attempt.is_none());
    assert_eq!(std::fs::read(agent.workspace().join("work/count")).expect("written once"), b"x\n");
    let refused = client.rehydrate(&nonce, TOKEN, false).await;
    assert!(matches!(refused, Err(ClientError::Refused(why)) if why.code == ErrorCode::Invalid));
}

#[tokio::test]
async fn another_nonce_is_refused() {
    let agent = Agent::start();
    let (mut client, held) = agent.machine().await;
    client.say(HostMessage::Execute(order(&nonce(), &["true"]))).await;
    let Some(GuestMessage::Error(why)) = client.hear().await else {
        panic!("executed a nonce that it doesn't hold")
    };
    assert_eq!(why.code, ErrorCode::UnknownNonce);
    let client = Session::connect(&agent.socket(), Some(TOKEN)).await.expect("a session");
    let attempt = client.hello.attempt.expect("an attempt that can be started");
    assert_eq!((attempt.nonce, attempt.state), (held, AttemptState::Held));
}

#[tokio::test]
async fn a_host_that_comes_and_goes_loses_nothing() {
    let agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    let mut big = order(&nonce, &["/bin/sh", "-c", "seq 1 300000; echo done >&2"]);
    big.max_stdout_bytes = u64::MAX;
    client.execute(big).await;
    let mut got = Collected::default();
    let mut connections = 1;
    while got.result.is_none() {
        let mut execution = client.client.follow(nonce.clone());
        for _ in 0..7 {
            got.next(&mut execution).await;
            if got.result.is_some() {
                break;
            }
        }
        // No farewell, like a host that is killed.
        client = Session::connect(&agent.socket(), Some(TOKEN)).await.expect("a session");
        client.resume(&nonce, &got).await;
        connections += 1;
    }
    let lines: Vec<String> = (1..=300_000).map(|n| n.to_string()).collect();
    assert_eq!(
        String::from_utf8(got.stdout.clone()).expect("numbers").trim_end(),
        lines.join("\n")
    );
    assert_eq!(got.stderr, b"done\n");
    assert!(connections > 5, "{connections}");
    // The result wasn't acknowledged: it comes again, and only then is it forgotten.
    got.result = None;
    got.whole(&mut client.client.follow(nonce)).await;
    assert_eq!(got.result.expect("again").stdout.bytes, 1_988_895);
}

#[tokio::test]
async fn a_child_waits_for_a_host_that_does_not_acknowledge() {
    let agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    let mut order =
        order(&nonce, &["/bin/sh", "-c", "head -c 3000000 /dev/zero; echo written > flag"]);
    order.max_stdout_bytes = u64::MAX;
    client.execute(order).await;
    let mut seen = 0;
    // The buffer may end short of its megabyte by less than a chunk.
    while seen < (1 << 20) - 32 * 1024 {
        if let Some(GuestMessage::Output(output)) = client.hear().await {
            seen = output.offset + output.data.len() as u64;
        }
    }
    assert!(!agent.workspace().join("work/flag").exists());
    let mut client = Session::connect(&agent.socket(), Some(TOKEN)).await.expect("a session");
    let mut got = Collected::default();
    got.whole(&mut client.resume(&nonce, &got).await).await;
    assert_eq!(got.stdout.len(), 3_000_000);
}

#[tokio::test]
async fn a_rehydrated_machine_asks_for_its_token() {
    let agent = Agent::start();
    let (_client, _) = agent.machine().await;
    for token in [None, Some("wrong"), Some("the toke")] {
        let refused = Session::connect(&agent.socket(), token).await.err().expect("no session");
        assert!(
            matches!(refused, ClientError::SessionRefused(why) if why.code == ErrorCode::BadToken)
        );
    }
}

#[tokio::test]
async fn secrets_reach_the_attempt_and_not_the_next() {
    let agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    let chunk = |path: &str| FileChunk {
        path: path.into(),
        mode: 0o400,
        size: 6,
        offset: 0,
        data: b"hush\xff\n".to_vec(),
    };
    client.say(HostMessage::File(chunk("keys/id"))).await;
    let ack = GuestMessage::Ack(GuestAck::File { path: "keys/id".into(), offset: 6 });
    assert_eq!(client.hear().await, Some(ack));
    client.say(HostMessage::File(chunk("../out"))).await;
    assert!(matches!(client.hear().await,
            Some(GuestMessage::Error(why)) if why.code == ErrorCode::Invalid));
    let script = "cat ../secrets/keys/id; stat -c %a ../secrets/keys/id";
    let mut got = Collected::default();
    got.whole(&mut client.execute(order(&nonce, &["/bin/sh", "-c", script])).await).await;
    assert_eq!(got.stdout, b"hush\xff\n400\n");
    assert!(!agent.workspace().join("secrets/keys").exists());
}

#[tokio::test]
async fn garbage_costs_the_session_and_not_the_agent() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let agent = Agent::start();
    let mut stream = tokio::net::UnixStream::connect(agent.socket()).await.expect("connect");
    stream
        .write_all(b"AGVM\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00{}")
        .await
        .expect("write");
    let mut answer = [0; 4];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer))
        .await
        .expect("in time")
        .expect("an error frame");
    assert_eq!(&answer, b"AGVM");
    let (result, _) = agent.shell("true").await;
    assert_eq!(result.exit_code, Some(0));
}

#[tokio::test]
async fn half_a_frame_of_a_dead_host_is_given_up() {
    use tokio::io::AsyncWriteExt as _;
    let agent = Agent::start();
    // A serial port does this: the next host's bytes follow the dead host's, in one stream.
    let mut stream = tokio::net::UnixStream::connect(agent.socket()).await.expect("connect");
    let half = b"AGVM\x01\x09\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00";
    stream.write_all(half).await.expect("write");
    let mut client = Client::new(stream);
    let mut hello = None;
    for _ in 0..10 {
        let greeting = HostHello::new(nonce(), None);
        let patience = Duration::from_millis(700);
        if let Ok(answer) = tokio::time::timeout(patience, client.hello(greeting)).await {
            hello = Some(answer);
            break;
        }
    }
    hello.expect("an answer before long").expect("a session");
}

#[tokio::test]
async fn quiesce_forgets_who_the_machine_was() {
    let agent = Agent::start();
    let (mut client, _) = agent.machine().await;
    client.say(HostMessage::Stop(Stop::Quiesce { golden: None })).await;
    let answer = client.hear().await;
    let inspected = |message: &GuestMessage| {
        matches!(message, GuestMessage::Ack(GuestAck::Quiesce { inspection: Some(_) }))
    };
    assert!(answer.as_ref().is_some_and(inspected), "{answer:?}");
    assert_eq!(client.hear().await, None, "the agent closes the connection");
    let client = Session::connect(&agent.socket(), None).await.expect("no token is needed");
    assert_eq!((client.hello.machine, client.hello.attempt), (None, None));
}

#[tokio::test]
async fn power_off_ends_the_agent() {
    let mut agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    client.execute(order(&nonce, &["sleep", "1000"])).await;
    client.say(HostMessage::Stop(Stop::PowerOff)).await;
    assert_eq!(client.hear().await, Some(GuestMessage::Ack(GuestAck::PowerOff)));
    let mut status = None;
    wait_until("the agent exits", || {
        status = agent.process.try_wait().expect("wait");
        status.is_some()
    });
    assert!(status.expect("exited").success());
}

#[tokio::test]
async fn an_attempt_dies_with_its_agent() {
    let mut agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    let script = "trap '' TERM; echo $$; while :; do sleep 100; done";
    let mut got = Collected::default();
    got.first(&mut client.execute(order(&nonce, &["/bin/sh", "-c", script])).await).await;
    agent.process.kill().expect("kill");
    let pid = String::from_utf8(got.stdout).expect("a number");
    wait_until("the attempt is gone", || !is_alive(pid.trim()));
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_never_sent_is_refused() {
    let agent = Agent::start();
    let (mut client, nonce) = agent.machine().await;
    client.execute(order(&nonce, &["sleep", "0.2"])).await;
    let ahead =
        HostAck::Output { stream: agentvm_guest_agent::protocol::StreamId::Stdout, offset: 99 };
    client.say(HostMessage::Ack(ahead)).await;
    assert!(matches!(client.hear().await,
            Some(GuestMessage::Error(why)) if why.code == ErrorCode::BadOffset));
    Collected::default().whole(&mut client.client.follow(nonce)).await;
}
