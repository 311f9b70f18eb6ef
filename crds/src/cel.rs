//! The rules (CEL) that more than one field needs. Each message says what is wrong and what to do.
//!
//! A rule that compares with the old object belongs to the struct that holds the field, and asks
//! `has()` of both sides. The API server does not evaluate a rule at the field itself when the
//! field is added or removed.

use kube::core::{Reason, Rule};

/// Exactly one of the fields `a` and `b` of this struct is set.
pub fn one_of_two(a: &str, b: &str) -> Rule {
    Rule::new(format!("has(self.{a}) != has(self.{b})"))
        .message(format!("exactly one of {a} and {b} must be set").as_str())
}

/// At most one of the fields `a` and `b` of this struct is set.
pub fn not_both(a: &str, b: &str) -> Rule {
    Rule::new(format!("!(has(self.{a}) && has(self.{b}))"))
        .message(format!("at most one of {a} and {b} can be set: remove one").as_str())
}

/// Exactly one of the fields of this struct is set.
pub fn exactly_one_of(fields: &[&str]) -> Rule {
    let set: Vec<_> = fields.iter().map(|field| format!("(has(self.{field}) ? 1 : 0)")).collect();
    Rule::new(format!("{} == 1", set.join(" + ")))
        .message(format!("exactly one of {} must be set", fields.join(", ")).as_str())
}

/// The field keeps its value: once the object exists, it cannot be changed, added or removed.
pub fn immutable(field: &str, instead: &str) -> Rule {
    Rule::new(format!(
        "has(self.{field}) == has(oldSelf.{field}) \
         && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    ))
    .message(format!("{field} cannot be changed; {instead}").as_str())
    .field_path(format!(".{field}"))
    .reason(Reason::FieldValueForbidden)
}

/// A path that cannot lead out of its folder.
pub fn relative_path() -> Rule {
    Rule::new(r"!self.matches('(^|/)[.]{0,2}(/|$)')").message(
        "the path must be relative, without a leading or trailing slash and without empty, '.' or \
         '..' segments: write it as src/main.py",
    )
}

/// A path or name without characters that break a line or end a C string.
pub fn no_control_characters() -> Rule {
    Rule::new(r"!self.matches('[\\x00-\\x1f\\x7f]')")
        .message("the path must not contain NUL, line breaks or other control characters")
}

/// A program and its arguments.
pub fn names_a_program() -> Rule {
    Rule::new("size(self) == 0 || size(self[0]) > 0")
        .message("the first item is the program and must not be empty: write [\"python3\", \"-V\"]")
}

/// A digest in the form that `sha256sum` prints.
pub fn sha256() -> Rule {
    Rule::new("self.matches('^[0-9a-f]{64}$')")
        .message("must be 64 lower-case hexadecimal characters, as sha256sum prints them")
}

/// An IPv4 address.
pub fn ipv4() -> Rule {
    Rule::new(format!("self.matches('^({OCTET}[.]){{3}}{OCTET}$')"))
        .message("must be an IPv4 address such as 192.0.2.53; names and IPv6 are not accepted")
}

/// A list of networks. The rule checks only the characters of IPv6 networks; the operator refuses a
/// text that is not a network.
pub fn cidr() -> Rule {
    let four = format!("({OCTET}[.]){{3}}{OCTET}/(3[0-2]|[12]?[0-9])");
    let six = "[0-9a-fA-F:]{2,39}/(12[0-8]|1[01][0-9]|[1-9]?[0-9])";
    Rule::new(format!("self.all(net, net.matches('^({four}|{six})$'))")).message(
        "must be networks such as 203.0.113.0/24 or fd12:3456::/48, or 10.1.2.3/32 for one address",
    )
}

/// 0 to 255, without leading zeros: some programs would read those as octal.
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
