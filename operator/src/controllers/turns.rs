//! The reconciles of one kind at the same time, divided between namespaces.
//!
//! kube's controller runs a number of reconciles at the same time, whatever namespaces they are
//! for. So each asks here first. One that gets no turn returns at once, and its object is looked at
//! again when it is called.

use std::sync::{Arc, Mutex, PoisonError};

use agentvm_core::fair_share;
use futures::channel::mpsc::UnboundedSender;
use kube::{Resource, runtime::reflector::ObjectRef};

use super::Guarded;

/// Objects of one kind that are reconciled at the same time.
const TURNS: usize = 16;

/// Namespace and name of an object.
type Name = (Arc<str>, Arc<str>);

/// The turns of one kind.
pub struct Turns<K: Resource<DynamicType = ()>> {
    state: Mutex<fair_share::Turns<Name>>,
    call: UnboundedSender<ObjectRef<Guarded<K>>>,
}

/// A turn. It is over when this is dropped.
pub struct Turn<K: Resource<DynamicType = ()>> {
    turns: Arc<Turns<K>>,
    namespace: Arc<str>,
}

impl<K: Resource<DynamicType = ()>> Turns<K> {
    /// `call` makes the controller look at an object.
    pub fn new(call: UnboundedSender<ObjectRef<Guarded<K>>>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(fair_share::Turns::new(TURNS)), call })
    }

    /// A turn for the object. `None`: the object will be called.
    pub fn enter(self: &Arc<Self>, object: &Guarded<K>) -> Option<Turn<K>> {
        let meta = object.meta();
        let part = |part: &Option<String>| Arc::from(part.as_deref().unwrap_or_default());
        let name: Name = (part(&meta.namespace), part(&meta.name));
        let entered = self.change(|turns| turns.enter(&name.0, &name));
        entered.then(|| Turn { turns: self.clone(), namespace: name.0 })
    }

    /// There is no such object any more: its turn goes to another one.
    pub fn gone(&self, namespace: &str, name: &str) {
        let name: Name = (namespace.into(), name.into());
        self.tell(self.change(|turns| turns.cancel(&name.0, &name)));
    }

    fn tell(&self, called: Option<Name>) {
        if let Some((namespace, name)) = called {
            // The receiver is gone only when the operator stops.
            let _ = self.call.unbounded_send(ObjectRef::new(&name).within(&namespace));
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut fair_share::Turns<Name>) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Resource<DynamicType = ()>> Drop for Turn<K> {
    fn drop(&mut self) {
        let called = self.turns.change(|turns| turns.leave(&self.namespace));
        self.turns.tell(called);
    }
}
