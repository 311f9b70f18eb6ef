//! The actions of a client at given times: nothing here waits.

use smoltcp::wire::DhcpMessageType as Kind;

use super::super::message::{Said, Talk, hear};
use super::*;

fn read(question: &[u8]) -> (Kind, Option<Ipv4Addr>, Option<Ipv4Addr>, Ipv4Addr, bool) {
    let packet = DhcpPacket::new_checked(question).unwrap();
    let asked = DhcpRepr::parse(&packet).unwrap();
    (
        asked.message_type,
        asked.requested_ip,
        asked.server_identifier,
        asked.client_ip,
        asked.broadcast,
    )
}

#[test]
fn an_offer_is_taken_and_held() {
    let mut client = Client::new(MAC, seconds(0), 5);
    let discover = question(client.step(seconds(0), 5, None));
    assert_eq!(read(&discover), (Kind::Discover, None, None, Ipv4Addr::UNSPECIFIED, true));
    assert!(discover.len() >= 300, "as long as one of BOOTP");
    let offer = answer(&discover, Kind::Offer);
    let request = question(client.step(seconds(1), 6, Some(&offer)));
    assert_eq!(
        read(&request),
        (Kind::Request, Some(ADDRESS), Some(SERVER), Ipv4Addr::UNSPECIFIED, true)
    );
    assert_eq!(client.step(seconds(1), 6, Some(&offer)), [], "a second offer comes too late");
    let another = altered(&request, Kind::Ack, |ack| ack.your_ip = Ipv4Addr::new(203, 0, 113, 8));
    assert_eq!(client.step(seconds(1), 6, Some(&another)), [], "that was not what it asked for");
    let effects = client.step(seconds(1), 6, Some(&answer(&request, Kind::Ack)));
    let [Effect::Hold(terms)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((terms.address, terms.prefix, terms.gateway), (ADDRESS, 24, Some(SERVER)));
    assert!(!client.is_asking());
    assert_eq!(client.wait(seconds(1)), Some(Duration::from_mins(30)));
}

#[test]
fn silence_is_asked_again_later_and_later() {
    let mut client = Client::new(MAC, seconds(0), 5);
    let (mut now, mut pauses) = (seconds(0), Vec::new());
    for _ in 0..6 {
        question(client.step(now, 0, None));
        let wait = client.wait(now).unwrap();
        assert_eq!(client.step(now + wait / 2, 0, None), []);
        pauses.push(wait.as_secs());
        now += wait;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 8, 8]);
}

#[test]
fn half_of_a_lease_is_renewed_and_what_is_over_goes() {
    let mut client = holder();
    assert_eq!(client.step(seconds(1799), 8, None), []);
    let renew = question(client.step(seconds(1800), 0, None));
    assert_eq!(read(&renew), (Kind::Request, None, None, ADDRESS, false));
    assert_eq!(client.wait(seconds(1800)), Some(Duration::from_mins(15)), "half of what is left");
    let effects = client.step(seconds(1801), 8, Some(&answer(&renew, Kind::Ack)));
    assert!(matches!(effects.as_slice(), [Effect::Hold(_)]));
    assert_eq!(client.wait(seconds(1800)), Some(Duration::from_mins(30)), "since it was asked for");
    // Parked for long: half is over, and it still holds.
    question(client.step(seconds(1800 + 3599), 9, None));
    let effects = client.step(seconds(1800 + 3600), 9, None);
    assert!(matches!(effects.as_slice(), [Effect::Lose(_), Effect::Send(_)]), "{effects:?}");
    assert_eq!(read(&question(effects)).0, Kind::Discover);
}

#[test]
fn a_clock_that_was_set_back_says_nothing_about_an_age() {
    let mut client = holder();
    let before = Duration::from_secs(1_600_000_000);
    assert_eq!(client.wait(before), Some(Duration::ZERO));
    let renew = question(client.step(before, 8, None));
    assert!(client.wait(before).unwrap() > Duration::from_secs(1));
    assert!(matches!(
        client.step(before, 8, Some(&answer(&renew, Kind::Ack))).as_slice(),
        [Effect::Hold(_)]
    ));
    assert_eq!(client.wait(before), Some(Duration::from_mins(30)));
}

#[test]
fn what_a_server_takes_back_is_gone_and_another_is_looked_for() {
    let mut client = holder();
    let renew = question(client.step(seconds(1800), 8, None));
    let effects = client.step(seconds(1800), 9, Some(&answer(&renew, Kind::Nak)));
    assert!(matches!(effects.as_slice(), [Effect::Lose(_), Effect::Send(_)]), "{effects:?}");
    let discover = question(effects);
    let request = question(client.step(seconds(1801), 9, Some(&answer(&discover, Kind::Offer))));
    assert_eq!(
        client.step(seconds(1801), 10, Some(&answer(&request, Kind::Nak))),
        [],
        "not at once again"
    );
    assert_eq!(client.unfit(), Some("the server takes it back"));
    assert_eq!(read(&question(client.step(seconds(1802), 10, None))).0, Kind::Discover);
}

#[test]
fn one_without_an_end_is_never_asked_about() {
    let mut client = Client::new(MAC, seconds(0), 5);
    let discover = question(client.step(seconds(0), 5, None));
    let offer = altered(&discover, Kind::Offer, |offer| offer.lease_duration = Some(u32::MAX));
    let request = question(client.step(seconds(0), 6, Some(&offer)));
    let ack = altered(&request, Kind::Ack, |ack| ack.lease_duration = Some(u32::MAX));
    client.step(seconds(0), 7, Some(&ack));
    assert_eq!(client.wait(seconds(0)), None);
    assert_eq!(client.step(seconds(u64::from(u32::MAX) * 2), 8, None), []);
}

#[test]
fn what_no_machine_can_have_is_not_taken_and_it_says_why() {
    let refused = |alter: fn(&mut DhcpRepr<'_>), with: &str| {
        let mut client = Client::new(MAC, seconds(0), 5);
        let discover = question(client.step(seconds(0), 5, None));
        assert_eq!(client.step(seconds(0), 6, Some(&altered(&discover, Kind::Offer, alter))), []);
        assert!(client.unfit().is_some_and(|why| why.contains(with)), "{:?}", client.unfit());
    };
    for address in [
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.5",
        "255.255.255.255",
        "169.254.1.1",
        "203.0.113.0",
        "203.0.113.255",
    ] {
        assert!(with_address(address).is_some_and(|why| why.contains("its address")), "{address}");
    }
    refused(|offer| offer.subnet_mask = None, "no subnet mask");
    refused(|offer| offer.subnet_mask = Some(Ipv4Addr::new(255, 0, 255, 0)), "/8 to /30");
    refused(|offer| offer.subnet_mask = Some(Ipv4Addr::BROADCAST), "/8 to /30");
    refused(|offer| offer.router = Some(Ipv4Addr::new(203, 0, 114, 1)), "its gateway");
    refused(|offer| offer.router = Some(ADDRESS), "the machine itself");
    refused(|offer| offer.router = Some(Ipv4Addr::new(203, 0, 113, 255)), "its gateway");
    refused(|offer| offer.server_identifier = None, "whose it is");
    refused(|offer| offer.lease_duration = None, "how long");
    refused(|offer| offer.lease_duration = Some(3), "less than 10 seconds");
}

fn with_address(address: &str) -> Option<&'static str> {
    let mut client = Client::new(MAC, seconds(0), 5);
    let discover = question(client.step(seconds(0), 5, None));
    let offer = altered(&discover, Kind::Offer, |offer| offer.your_ip = address.parse().unwrap());
    assert_eq!(client.step(seconds(0), 6, Some(&offer)), []);
    client.unfit()
}

#[test]
fn of_several_routers_the_first_is_taken_and_of_resolvers_those_that_can_be_one() {
    let mut client = Client::new(MAC, seconds(0), 5);
    let discover = question(client.step(seconds(0), 5, None));
    let routers = [SERVER.octets(), [203, 0, 113, 2]].concat();
    let resolvers = [[203, 0, 113, 53], [127, 0, 0, 1]].concat();
    let options =
        [DhcpOption { kind: 3, data: &routers }, DhcpOption { kind: 6, data: &resolvers }];
    let packet = DhcpPacket::new_checked(&discover[..]).unwrap();
    let mut bytes = vec![0; 400];
    let message = DhcpRepr {
        message_type: Kind::Offer,
        your_ip: ADDRESS,
        subnet_mask: Some(MASK),
        server_identifier: Some(SERVER),
        lease_duration: Some(HOUR),
        parameter_request_list: None,
        max_size: None,
        additional_options: &options,
        ..DhcpRepr::parse(&packet).unwrap()
    };
    message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    let said = hear(&bytes, Talk { mac: MAC, id: packet.transaction_id() });
    let Some(Said::Offer(Ok(terms))) = said else { panic!("{said:?}") };
    assert_eq!(
        (terms.gateway, terms.resolvers),
        (Some(SERVER), vec![Ipv4Addr::new(203, 0, 113, 53)])
    );
}
