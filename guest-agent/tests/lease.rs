//! The cases in which LEASE is answered. Tests on machines show its effect.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "others need more of what is shared")]

mod process;
mod session;

use agentvm_guest_agent::protocol::{
    ErrorCode, GuestAck, GuestLease, GuestMessage, HostAck, HostMessage,
};
use process::Agent;
use session::{Collected, Session, order};

fn lease() -> HostMessage {
    let mac = "52:54:00:00:01:07".parse().expect("a MAC");
    HostMessage::Lease(GuestLease {
        mac,
        resolvers: vec![],
        time_unix_nanos: 0,
        patience_millis: 1000,
    })
}

async fn refused(client: &mut Session) -> ErrorCode {
    client.say(lease()).await;
    let Some(GuestMessage::Error(why)) = client.hear().await else { panic!("it was not refused") };
    why.code
}

#[tokio::test]
async fn it_belongs_between_rehydrate_and_execute() {
    let agent = Agent::start();
    let mut early = Session::connect(&agent.socket(), None).await.expect("a session");
    assert_eq!(refused(&mut early).await, ErrorCode::Invalid);
    drop(early);
    let (mut client, nonce) = agent.machine().await;
    for _ in 0..2 {
        client.say(lease()).await;
        // A folder has the addresses of its host.
        assert_eq!(client.hear().await, Some(GuestMessage::Ack(GuestAck::Lease { address: None })));
    }
    let mut execution = client.execute(order(&nonce, &["true"])).await;
    Collected::default().whole(&mut execution).await;
    let late = refused(&mut client).await;
    assert!(matches!(late, ErrorCode::Busy | ErrorCode::Invalid), "{late:?}");
    client.say(HostMessage::Ack(HostAck::Result { nonce })).await;
    assert_eq!(refused(&mut client).await, ErrorCode::Invalid);
}
