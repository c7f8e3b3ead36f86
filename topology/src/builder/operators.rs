//! The nodes as they run on one worker. Each takes a value with its lease and passes both on.

mod calls;
mod sink;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::{Node, SourceNode, WorkerContext};
use crate::handlers::{ErrorContext, Response};
use crate::lease::{Held, Lease};
use crate::mutation::Mutation;
use crate::named::Decode;
use crate::runtime::StreamsError;

pub(super) use calls::Calls;
pub(super) use sink::SinkNode;
pub(crate) use sink::append;

/// Runs an operator's code; if it panics, the part of the record is abandoned.
fn guarded<T>(node: &str, lease: Lease, code: impl FnOnce() -> T) -> Option<(T, Lease)> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => Some((result, lease)),
        Err(payload) => {
            lease.fail(node, panicked(&*payload), None);
            None
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with no message"))
}

/// Does with a part of a record what a handler answered.
pub(crate) fn settle(
    context: &WorkerContext,
    (lease, held): (Lease, Option<Held>),
    (node, error): (&str, &str),
    response: Response,
) {
    match response {
        Response::Resume(records) => {
            tracing::warn!(node, error, part = %lease.path(), position = ?lease.record().position, records = records.len(), "a part of a record was taken by its handler");
            let context = context.clone();
            drop(tokio::task::spawn_local(async move {
                for record in records {
                    if !append(&context, record, &|| lease.is_held()).await {
                        return;
                    }
                }
                lease.complete();
                drop(held);
            }));
        }
        Response::Fail => {
            context.fail(StreamsError::Failed {
                node: node.to_owned(),
                position: lease.record().position.clone(),
                error: error.to_owned(),
            });
            lease.give_up();
        }
    }
}

pub(super) struct DecodeNode<V> {
    pub(super) name: Rc<str>,
    pub(super) decode: Decode<V>,
    pub(super) context: WorkerContext,
    pub(super) next: Rc<dyn Node<V>>,
}

impl<V> SourceNode for DecodeNode<V> {
    fn start(&self, lease: Lease) {
        let record = lease.shared();
        let Some((decoded, lease)) = guarded(&self.name, lease, || (self.decode)(record.record()))
        else {
            return;
        };
        match decoded {
            Ok(value) => self.next.process(value, lease),
            Err(error) => {
                let response = (self.context.handlers.deserialization)(&ErrorContext {
                    record: lease.record(),
                    processor_node: &self.name,
                    part: lease.path(),
                    error: &error,
                    runs: lease.runs() + 1,
                });
                settle(&self.context, (lease, None), (&self.name, &error), response);
            }
        }
    }
}

pub(super) struct MapNode<F, W> {
    pub(super) name: Rc<str>,
    pub(super) map: Arc<F>,
    pub(super) next: Rc<dyn Node<W>>,
}

impl<V, W, F: Fn(V) -> W> Node<V> for MapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        if let Some((value, lease)) = guarded(&self.name, lease, || (self.map)(value)) {
            self.next.process(value, lease);
        }
    }
}

pub(super) struct FlatMapNode<F, W> {
    pub(super) name: Rc<str>,
    pub(super) map: F,
    pub(super) next: Rc<dyn Node<W>>,
}

impl<V, W, I: IntoIterator<Item = (u128, W)>, F: Fn(V) -> I> Node<V> for FlatMapNode<F, W> {
    fn process(&self, value: V, lease: Lease) {
        let made = guarded(&self.name, lease, || (self.map)(value).into_iter());
        let Some((mut children, mut lease)) = made else {
            return;
        };
        loop {
            match guarded(&self.name, lease, || children.next()) {
                None => return,
                Some((None, lease)) => return lease.complete(),
                Some((Some((number, child)), parent)) => {
                    match parent.child(number) {
                        Some(part) if number == 1 && Mutation::DropChild.is_planted() => {
                            part.complete();
                        }
                        Some(part) => self.next.process(child, part),
                        None => {}
                    }
                    lease = parent;
                }
            }
        }
    }
}

/// One branch: takes the value, or hands it back.
pub(super) type Branch<V> = Box<dyn Fn(V, Lease) -> Option<(V, Lease)>>;

pub(super) fn branch<V, W>(
    name: Rc<str>,
    select: impl Fn(V) -> Result<W, V>,
    next: Rc<dyn Node<W>>,
) -> impl Fn(V, Lease) -> Option<(V, Lease)> {
    move |value, lease| {
        let (selected, lease) = guarded(&name, lease, || select(value))?;
        match selected {
            Ok(value) => {
                next.process(value, lease);
                None
            }
            Err(value) => Some((value, lease)),
        }
    }
}

pub(super) struct BranchNode<V> {
    pub(super) branches: Vec<Branch<V>>,
}

impl<V> Node<V> for BranchNode<V> {
    fn process(&self, value: V, lease: Lease) {
        let untaken = self
            .branches
            .iter()
            .try_fold((value, lease), |(value, lease), branch| {
                branch(value, lease)
            });
        debug_assert!(untaken.is_none(), "the default branch takes every value");
    }
}

pub(super) struct ForEachNode<F> {
    pub(super) name: Rc<str>,
    pub(super) action: Arc<F>,
}

impl<V, F: Fn(V)> Node<V> for ForEachNode<F> {
    fn process(&self, value: V, lease: Lease) {
        if let Some(((), lease)) = guarded(&self.name, lease, || (self.action)(value)) {
            lease.complete();
        }
    }
}
