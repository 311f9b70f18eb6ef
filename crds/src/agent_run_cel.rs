//! The rules (CEL) of an `AgentRun`, as far as they concern more than one field or have words of
//! their own.

use kube::core::{Reason, Rule};

use crate::cel::one_of_two;

/// The program of a run is a text or a command.
pub fn code_or_command() -> Rule {
    one_of_two("code", "command")
}

/// The long fields of a spec fit into it together. The rule counts characters, and a text has at
/// least that many bytes: a spec that the rule refuses is too large in any case. The operator
/// counts the bytes.
pub fn text_fits_into_a_spec() -> Rule {
    Rule::new(
        "(has(self.code) ? size(self.code.source) : 0) + (has(self.stdin) ? size(self.stdin) : 0) \
         + (has(self.command) ? self.command.map(a, size(a)).sum() : 0) \
         + (has(self.env) ? self.env.map(e, has(e.value) ? size(e.value) : 0).sum() : 0) \
         + (has(self.files) ? self.files.map(f, (has(f.content) ? size(f.content) : 0) \
         + (has(f.contentBase64) ? size(f.contentBase64) : 0)).sum() : 0) <= 524288",
    )
    .message(
        "the spec is larger than 512 KiB: put large files into a ConfigMap or Secret and name them \
         with contentFrom, or fetch them in the run",
    )
}

/// `desiredState` changes in one direction only.
pub fn cancelled_for_good() -> Rule {
    Rule::new(
        "!has(oldSelf.desiredState) || oldSelf.desiredState != 'Cancelled' \
         || (has(self.desiredState) && self.desiredState == 'Cancelled')",
    )
    .message("a cancelled run cannot be started again: create another AgentRun")
    .field_path(".desiredState")
    .reason(Reason::FieldValueForbidden)
}

/// A name that Kubernetes takes for a variable of a container.
pub fn name_of_a_variable() -> Rule {
    Rule::new("self.matches('^[ -<>-~]+$')")
        .message("a name has printable ASCII characters only, and no '=': write it as MY_VARIABLE")
}

/// Content of a Secret goes to `place: Secrets`, because input files lie on a disk of the host
/// during the run.
pub fn secret_stays_off_the_disk() -> Rule {
    Rule::new(
        "!has(self.contentFrom) || !has(self.contentFrom.secretKeyRef) \
         || (has(self.place) && self.place == 'Secrets')",
    )
    .message(
        "content from a Secret needs place: Secrets, so that it never touches a disk of the host",
    )
    .field_path(".place")
}

/// The text of `code` is a file beside those of `files`.
pub fn no_second_main() -> Rule {
    Rule::new(
        "!has(self.code) || !has(self.files) || !self.files.exists(f, \
         (!has(f.place) || f.place == 'Input') \
         && (f.path + '/').startsWith(self.code.language == 'Python' ? 'main.py/' \
         : (self.code.language == 'Bash' ? 'main.sh/' : 'main.js/')))",
    )
    .message(
        "code is the file main.py (Python), main.sh (Bash) or main.js (JavaScript) beside these \
         files: give the other one another name",
    )
    .field_path(".files")
}

/// The mode of a file. The message explains octal numbers, because people write modes in octal.
pub fn permission_bits() -> Rule {
    Rule::new("self >= 0 && self <= 511").message(
        "permission bits go from 0 to 0777 (511): in YAML write 0755 with its leading zero, in \
         JSON 493",
    )
}
