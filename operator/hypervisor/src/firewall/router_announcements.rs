//! Does the host itself depend on a router's announcements? A host that forwards IPv6 would forget
//! its route.

/// `RTF_ADDRCONF`: came with an announcement.
const ANNOUNCED: u32 = 0x0004_0000;

/// The setting `accept_ra` of an interface: 0 ignores announcements, 1 listens unless it forwards,
/// 2 listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    pub accepts: u8,
    pub forwards: u8,
}

/// The first interface that has a route by an announcement and would not listen to the next one.
/// `routes` has the form of `/proc/net/ipv6_route`.
pub fn needed_by(routes: &str, setting: impl Fn(&str) -> Option<Interface>) -> Option<&str> {
    let mut announced = routes.lines().filter_map(announced);
    announced.find(|name| {
        setting(name).is_some_and(|interface| interface.accepts == 1 && interface.forwards == 0)
    })
}

/// Destination, source and gateway with their lengths; metric, two counts, flags; interface.
fn announced(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let flags = u32::from_str_radix(words.nth(8)?, 16).ok()?;
    words.next().filter(|_| flags & ANNOUNCED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 004c0001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

    #[test]
    fn who_lives_by_announcements_is_named() {
        let all = |accepts, forwards| move |_: &str| Some(Interface { accepts, forwards });
        assert_eq!(needed_by(ROUTES, all(1, 0)), Some("eth0"));
        assert_eq!(needed_by(ROUTES, all(2, 0)), None, "it listens whatever it does");
        assert_eq!(needed_by(ROUTES, all(1, 1)), None, "it doesn't listen now");
        assert_eq!(needed_by(ROUTES, all(0, 0)), None, "somebody else made these routes");
        let fixed: String = ROUTES.lines().filter(|line| !line.contains("eth0")).collect();
        assert_eq!(needed_by(&fixed, all(1, 0)), None);
        assert_eq!(needed_by("nonsense\n\n", all(1, 0)), None);
    }
}
