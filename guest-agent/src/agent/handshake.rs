//! The guest's half of the handshake: which host is let in, and the agent's answer.

use agentvm_guest_agent::protocol::{
    AttemptReport, AttemptState, ErrorCode, ErrorReport, GuestHello, GuestMessage, HostHello,
    Inspection, Nonce, StreamRange,
};

use crate::agent::Agent;
use crate::attempt::Attempt;

impl Agent {
    pub(super) fn hello(&mut self, hello: HostHello) {
        let wrong = match (&self.identity, &hello.token) {
            _ if hello.protocol != HostHello::PROTOCOL => Some((
                ErrorCode::BadProtocol,
                format!(
                    "message version {} is not spoken here; {} is",
                    hello.protocol,
                    HostHello::PROTOCOL
                ),
            )),
            (Some(identity), Some(token)) if identity.token.matches(token) => None,
            (Some(_), _) => {
                Some((ErrorCode::BadToken, "this machine's token is needed in HELLO".to_owned()))
            }
            (None, _) => None,
        };
        if let Some((code, message)) = wrong {
            let (message, challenge) = (message.into(), Some(hello.challenge));
            self.answer(GuestMessage::Error(ErrorReport { code, message, nonce: None, challenge }));
            return self.close();
        }
        let inspection = hello.inspect.then(|| self.inspect());
        let answer = GuestHello { inspection, ..self.greeting(hello.challenge) };
        if let Some(session) = self.session() {
            // On a serial port a new host may come without the old one having been seen to go.
            session.outbox = crate::outbox::Outbox::default();
            session.greeted = true;
        }
        self.answer(GuestMessage::Hello(answer));
    }

    fn greeting(&self, challenge: Nonce) -> GuestHello {
        let machine = self.identity.as_ref().map(|identity| identity.nonce.clone());
        GuestHello {
            protocol: HostHello::PROTOCOL,
            challenge,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.kernel.boot_id.clone(),
            kernel: self.kernel.release.clone(),
            executed: machine.as_ref().is_some_and(|nonce| self.executed.contains_key(nonce)),
            attempt: self.attempt.as_ref().map(Attempt::report).or_else(|| self.held()),
            machine,
            inspection: None,
        }
    }

    /// The inspection of the machine.
    pub(super) fn inspect(&self) -> Inspection {
        self.platform.inspect(self.golden.as_ref())
    }

    /// The attempt that could still be started.
    pub(super) fn held(&self) -> Option<AttemptReport> {
        let nonce = self.identity.as_ref().map(|identity| identity.nonce.clone())?;
        (!self.executed.contains_key(&nonce)).then(|| AttemptReport {
            nonce,
            state: AttemptState::Held,
            stdout: StreamRange::default(),
            stderr: StreamRange::default(),
        })
    }
}
