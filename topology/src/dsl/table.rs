//! Tables that are looked up, and streams joined with them.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::{Async, KStream, StreamsBuilder};
use crate::exec::context::{SharedKey, WorkerContext};
use crate::exec::operators::Calls;
use crate::graph::{GraphTable, NodeKind};
use crate::named::Named;

/// What is looked up by key, asynchronously: a database behind a cache, say.
///
/// It lives on one worker's thread and is called there, many times at once: neither it nor its
/// futures need be `Send`, and none may block. A panic is that of the record whose key it is. A
/// future is dropped when nobody waits for it any more: its time is up, or the worker ends.
pub trait Lookup {
    /// What it is looked up by.
    type Key;
    /// What it has.
    type Value;
    /// Why it cannot tell.
    type Error;

    /// What there is for `key`: `Ok(None)` says that there is nothing, and whoever cannot say is
    /// to answer with an error.
    fn get(&self, key: Self::Key)
    -> impl Future<Output = Result<Option<Self::Value>, Self::Error>>;
}

type Get<K, V, E> = dyn Fn(K) -> LocalBoxFuture<'static, Result<Option<V>, E>>;
type MakeGet<K, V, E> = Arc<dyn Fn(&WorkerContext) -> Rc<Get<K, V, E>> + Send + Sync>;

/// A table that streams of its builder are [joined](KStream::left_join) with, whatever their
/// partition: what Kafka Streams' `GlobalKTable` is to a stream.
///
/// Unlike that it is no copy of a topic but looked up for each value. So it needs no time to fill
/// and no disk, but it may be slow, or not answer, and how old an answer may be is its own affair.
///
/// ```
/// # use std::collections::HashMap;
/// # use std::convert::Infallible;
/// # use topology::{Async, Consumed, ConsumedRecord, Lookup, Named, StreamsBuilder};
/// struct Prices(HashMap<String, u32>);
///
/// impl Lookup for Prices {
///     type Key = String;
///     type Value = u32;
///     type Error = Infallible;
///
///     async fn get(&self, article: String) -> Result<Option<u32>, Infallible> {
///         Ok(self.0.get(&article).copied())
///     }
/// }
///
/// let article = |record: &ConsumedRecord| format!("{:?}", record.key);
/// let builder = StreamsBuilder::new();
/// let prices = builder.global_table(Named::new("prices"), |_| Prices(HashMap::new()));
/// builder
///     .stream("orders", Consumed::with(article, Named::new("orders")))
///     .left_join(
///         &prices,
///         |article| Some(article.clone()),
///         |article, price| (article, price),
///         Async::named(Named::new("join-prices")),
///     )
///     .for_each(|(article, price)| println!("{article}: {price:?}"), Named::new("show"));
/// println!("{}", builder.build()?.describe().to_mermaid());
/// # Ok::<(), topology::TopologyError>(())
/// ```
pub struct GlobalTable<K, V, E> {
    builder: StreamsBuilder,
    table: GraphTable,
    make: MakeGet<K, V, E>,
}

impl StreamsBuilder {
    /// A table; one that no stream is joined with is an error of [`build`](Self::build).
    ///
    /// `supplier` is called once for each worker, on its thread, however many streams are joined
    /// with the table.
    pub fn global_table<T: Lookup + 'static>(
        &self,
        name: Named,
        supplier: impl Fn(&WorkerContext) -> T + Send + Sync + 'static,
    ) -> GlobalTable<T::Key, T::Value, T::Error> {
        let make = move |context: &WorkerContext| {
            let table = Rc::new(supplier(context));
            Rc::new(move |key| {
                let table = Rc::clone(&table);
                async move { table.get(key).await }.boxed_local()
            }) as Rc<Get<T::Key, T::Value, T::Error>>
        };
        GlobalTable {
            builder: self.clone(),
            table: self.lock().graph.add_table(name),
            make: Arc::new(make),
        }
    }
}

impl<V: 'static> KStream<V> {
    /// Joins each value with what `table` has for its key, by one asynchronous call, as of
    /// [`process_values_async`](Self::process_values_async): `how` says in which order, how many
    /// at once, for how long and how often.
    ///
    /// `joiner` gets what [`get`](Lookup::get) answered, so an error is told from nothing found;
    /// with [`Async::retry_while`] a value can wait for a table that cannot tell. A value without
    /// a key is joined with nothing and not looked up, but waits for its turn as any other.
    pub fn left_join<K: 'static, T: 'static, E: 'static, W: 'static>(
        self,
        table: &GlobalTable<K, T, E>,
        key_of: impl Fn(&V) -> Option<K> + Send + Sync + 'static,
        joiner: impl Fn(V, Result<Option<T>, E>) -> W + Send + Sync + 'static,
        how: Async<V, W>,
    ) -> KStream<W> {
        let kind = NodeKind::LeftJoin {
            table: table.table.name.to_string(),
            calls: how.description(),
        };
        let is_own = Arc::ptr_eq(&self.builder.declared, &table.builder.declared);
        let id = table.table.id;
        let make = Arc::clone(&table.make);
        let key_of = Arc::new(key_of);
        let joiner = Arc::new(joiner);
        let stream = self.add_operator(how.name.clone(), kind, move |context, node, next| {
            let get = context.shared(SharedKey::Table(id), || make(context));
            let key_of = Arc::clone(&key_of);
            let joiner = Arc::clone(&joiner);
            let call = move |value: V| {
                let lookup = key_of(&value).map(&*get);
                let joiner = Arc::clone(&joiner);
                async move {
                    let found = match lookup {
                        Some(lookup) => lookup.await,
                        None => Ok(None),
                    };
                    joiner(value, found)
                }
            };
            Calls::node(node, call, how.options.clone(), context, next)
        });
        let own = is_own.then_some(&table.table);
        stream.builder.lock().graph.mark_joined(&stream.node, own);
        stream
    }
}

impl<K, V, E> std::fmt::Debug for GlobalTable<K, V, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GlobalTable")
            .field("name", &self.table.name)
            .finish_non_exhaustive()
    }
}
