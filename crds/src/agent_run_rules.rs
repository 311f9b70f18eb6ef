//! The rules (CEL) of an `AgentRun` that no other kind needs.

use kube::core::{Reason, Rule};

/// All that can be long fits into a spec. Counts characters, never more than bytes: what this refuses is too large, and
/// the operator counts the rest.
pub fn text_fits_into_a_spec() -> Rule {
    Rule::new(
        "(has(self.code) ? size(self.code.source) : 0) + (has(self.stdin) ? size(self.stdin) : 0) \
         + (has(self.command) ? self.command.map(a, size(a)).sum() : 0) \
         + (has(self.env) ? self.env.map(e, has(e.value) ? size(e.value) : 0).sum() : 0) \
         + (has(self.files) ? self.files.map(f, (has(f.content) ? size(f.content) : 0) \
         + (has(f.contentBase64) ? size(f.contentBase64) : 0)).sum() : 0) <= 524288",
    )
    .message(
        "the spec is larger than 512 KiB: put large files into a ConfigMap or Secret and name them with contentFrom, or \
         fetch them in the run",
    )
}

/// `desiredState` goes one way.
pub fn cancelled_for_good() -> Rule {
    Rule::new(
        "!has(oldSelf.desiredState) || oldSelf.desiredState != 'Cancelled' \
         || (has(self.desiredState) && self.desiredState == 'Cancelled')",
    )
    .message("a cancelled run can't be started again: create another AgentRun")
    .field_path(".desiredState")
    .reason(Reason::FieldValueForbidden)
}

/// What a shell takes as the name of a variable.
pub fn name_of_a_variable() -> Rule {
    Rule::new("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')")
        .message("a name is made of letters, digits and '_' and does not begin with a digit: write it as MY_VARIABLE")
}

/// Input files lie on a disk of the host while the run goes on; content of a Secret must not.
pub fn secret_stays_off_the_disk() -> Rule {
    Rule::new(
        "!has(self.contentFrom) || !has(self.contentFrom.secretKeyRef) || (has(self.place) && self.place == 'Secrets')",
    )
    .message("content out of a Secret needs place: Secrets, so that it never touches a disk of the host")
    .field_path(".place")
}

/// One folder of the input is ours.
pub fn out_of_our_folder() -> Rule {
    Rule::new(
        "(has(self.place) && self.place != 'Input') \
         || !(self.path == '.agentvm' || self.path.startsWith('.agentvm/'))",
    )
    .message(".agentvm is where agentvm puts the text of code: take another folder")
    .field_path(".path")
}

/// A file's mode, which people write in octal.
pub fn permission_bits() -> Rule {
    Rule::new("self >= 0 && self <= 511")
        .message("permission bits go from 0 to 0777 (511): in YAML write 0755 with its leading zero, in JSON 493")
}
