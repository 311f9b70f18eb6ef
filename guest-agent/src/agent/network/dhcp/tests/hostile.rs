//! Any message on the network: the client does not break, takes no invalid address, and never asks
//! without a pause.

use proptest::prelude::*;
use smoltcp::wire::DhcpMessageType as Kind;

use super::super::message::{Said, Talk, hear};
use super::*;

/// The next event for a client.
#[derive(Clone, Debug)]
enum Event {
    Time(u64),
    /// The clock is set to this.
    Clock(u64),
    Answer {
        kind: u8,
        address: [u8; 4],
        mask: [u8; 4],
        router: [u8; 4],
        lasts: u32,
        flips: Vec<(usize, u8)>,
    },
    Noise(Vec<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    let near = prop_oneof![Just([203, 0, 113, 7]), Just([203, 0, 113, 8]), any::<[u8; 4]>()];
    let mask = prop_oneof![Just([255, 255, 255, 0]), any::<[u8; 4]>()];
    let lasts = prop_oneof![Just(HOUR), 0_u32..100, any::<u32>()];
    let flips = prop::collection::vec((0_usize..400, any::<u8>()), 0..3);
    let answer = (0_u8..9, near.clone(), mask, near, lasts, flips).prop_map(
        |(kind, address, mask, router, lasts, flips)| Event::Answer {
            kind,
            address,
            mask,
            router,
            lasts,
            flips,
        },
    );
    prop_oneof![
        2 => (0_u64..5000).prop_map(Event::Time),
        1 => (0_u64..4_000_000_000).prop_map(Event::Clock),
        6 => answer,
        1 => prop::collection::vec(any::<u8>(), 0..600).prop_map(Event::Noise),
    ]
}

fn can_be_had(terms: &super::super::Terms) {
    let mask = u32::MAX << (32 - u32::from(terms.prefix));
    assert!((8..=30).contains(&terms.prefix));
    let [first, ..] = terms.address.octets();
    assert!((1..224).contains(&first) && first != 127, "{terms:?}");
    assert!(
        u32::from(terms.address) & !mask != 0 && u32::from(terms.address) | mask != u32::MAX,
        "{terms:?}"
    );
    if let Some(gateway) = terms.gateway {
        assert!(
            gateway != terms.address
                && u32::from(gateway) & mask == u32::from(terms.address) & mask,
            "{terms:?}"
        );
    }
    assert!(
        terms.lasts.is_none_or(|lasts| lasts >= Duration::from_secs(10) && terms.renew < lasts),
        "{terms:?}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_heard(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        hear(&bytes, Talk { mac: MAC, id: 1 });
    }

    #[test]
    fn what_is_not_for_this_conversation_is_not_heard(id in any::<u32>(), last in any::<u8>()) {
        let talk = Talk { mac: MAC, id: 5 };
        let discover = super::super::message::ask(talk, 0, super::super::message::Ask::Discover);
        let offer = altered(&discover, Kind::Offer, |offer| {
            offer.transaction_id = id;
            offer.client_hardware_address.0[5] = last;
        });
        let ours = id == 5 && last == MAC[5];
        prop_assert_eq!(hear(&offer, talk).is_some(), ours);
        prop_assert!(!ours || matches!(hear(&offer, talk), Some(Said::Offer(Ok(_)))));
    }

    #[test]
    fn nothing_breaks_and_nothing_is_asked_without_a_pause(events in prop::collection::vec(event(),
        1..60)) {
        let mut client = Client::new(MAC, seconds(0), 5);
        let (mut now, mut asked, mut holds) = (seconds(0), vec![0; 300], None::<(Duration,
            Duration)>);
        for (random, event) in (0_u32..).zip(events) {
            let heard = match event {
                Event::Time(more) => { now += Duration::from_secs(more); None }
                Event::Clock(time) => { now = Duration::from_secs(time); None }
                Event::Noise(bytes) => Some(bytes),
                Event::Answer { kind, address, mask, router, lasts, flips } => {
                    let mut bytes = altered(&asked, Kind::from(kind), |answer| {
                        (answer.your_ip, answer.router) = (address.into(), Some(router.into()));
                        (answer.subnet_mask, answer.lease_duration) = (Some(mask.into()),
                            Some(lasts));
                    });
                    for (at, by) in flips {
                        if let Some(byte) = bytes.get_mut(at) { *byte ^= by; }
                    }
                    Some(bytes)
                }
            };
            let effects = client.step(now, random, heard.as_deref());
            prop_assert!(effects.iter().filter(|effect| matches!(effect,
                Effect::Send(_))).count() <= 1);
            for effect in effects {
                match effect {
                    Effect::Send(bytes) => asked = bytes,
                    Effect::Hold(terms) => {
                        can_be_had(&terms);
                        holds = terms.lasts.map(|lasts| (now, lasts));
                    }
                    Effect::Lose(_) => holds = None,
                }
            }
            prop_assert!(client.wait(now).is_none_or(|wait| wait > Duration::ZERO), "{:?}", client);
            // It was asked for before it was held, so it is over no later than this.
            prop_assert!(holds.is_none_or(|(since, lasts)| now < since + lasts), "{:?}", client);
        }
    }
}
