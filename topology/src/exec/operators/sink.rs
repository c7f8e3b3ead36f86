//! The operator that ends a stream in a topic.

use std::sync::Arc;

use crate::completion::Completion;
use crate::exec::context::WorkerContext;
use crate::exec::node::Node;
use crate::exec::replay::{reach_end, run_guarded};
use crate::exec::write::append;
use crate::metrics::NodeMetrics;
use crate::record::Record;

pub(crate) struct SinkNode<V> {
    pub(crate) node: Arc<NodeMetrics>,
    pub(crate) topic: Arc<str>,
    pub(crate) encode: Arc<dyn Fn(V) -> Record + Send + Sync>,
    pub(crate) context: WorkerContext,
}

impl<V: 'static> Node<V> for SinkNode<V> {
    fn process(&self, value: V, completion: Completion) {
        self.node.processed.add(1);
        let Some(completion) = reach_end(&self.node, completion) else {
            return;
        };
        let encoded = run_guarded(&self.node, completion, || (self.encode)(value));
        let Some((record, mut completion)) = encoded else {
            return;
        };
        let record = record.to(Arc::clone(&self.topic));
        completion.begin_write();
        let context = self.context.clone();
        drop(tokio::task::spawn_local(async move {
            if append(&context, [record], &|| completion.can_write())
                .await
                .is_ok()
            {
                completion.complete();
            } else {
                completion.abandon();
            }
        }));
    }
}
