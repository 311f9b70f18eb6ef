//! The interface itself, whatever its name and place.

use std::fs;
use std::io;
use std::path::Path;

use super::NetworkError;

pub const INTERFACES: &str = "/sys/class/net";
/// `ARPHRD_ETHER`; the loopback interface is of another type.
const ETHERNET: u32 = 1;

/// An interface of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    name: String,
}

impl Interface {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's interface. Of several, it is the first by name that has a device behind it.
    pub fn find() -> Result<Option<Self>, NetworkError> {
        let entries = fs::read_dir(INTERFACES).map_err(NetworkError::Interfaces)?;
        let all = entries.flatten().filter_map(|entry| {
            let (path, name) = (entry.path(), entry.file_name().into_string().ok()?);
            let field =
                |file: &str| fs::read_to_string(path.join(file)).ok()?.trim().parse::<u32>().ok();
            let virtual_ = !path.join("device").exists();
            (field("type")? == ETHERNET)
                .then_some((virtual_, Self { name, index: field("ifindex")? }))
        });
        Ok(all
            .min_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)))
            .map(|(_, interface)| interface))
    }

    /// Switches IPv6 off. This is for an interface that is down: one that is up with IPv6 has
    /// announced itself already. When IPv6 is switched on, the interface believes no router and
    /// gives itself no address.
    pub fn without_ipv6(&self) -> Result<(), NetworkError> {
        let settings =
            [("disable_ipv6", "1"), ("addr_gen_mode", "1"), ("accept_ra", "0"), ("autoconf", "0")];
        settings.into_iter().try_for_each(|(setting, value)| match self.set_ipv6(setting, value) {
            // A kernel without it.
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|why| NetworkError::Change { what: "switching IPv6 off", why }),
        })
    }

    /// Switches IPv6 on. This is for an interface that is down, too.
    pub fn with_ipv6(&self) -> Result<(), NetworkError> {
        self.set_ipv6("disable_ipv6", "0")
            .map_err(|why| NetworkError::Change { what: "switching IPv6 on", why })
    }

    fn set_ipv6(&self, setting: &str, value: &str) -> io::Result<()> {
        fs::write(Path::new("/proc/sys/net/ipv6/conf").join(&self.name).join(setting), value)
    }
}
