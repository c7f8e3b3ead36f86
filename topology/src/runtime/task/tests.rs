//! Claims about a task whose queue is a list.

use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::completion::Completion;
use crate::log::SourceError;
use crate::metrics::SourceMetrics;
use crate::offsets::OffsetTracker;
use crate::record::{Position, TopicPartition};

#[derive(Debug)]
struct Queue {
    partition: TopicPartition,
    offsets: VecDeque<i64>,
}

impl PartitionQueue for Queue {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn poll(&mut self) -> Option<Result<ConsumedRecord, SourceError>> {
        let offset = self.offsets.pop_front()?;
        let TopicPartition { topic, partition } = self.partition.clone();
        Some(Ok(ConsumedRecord {
            position: Position {
                topic,
                partition,
                offset,
            },
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        }))
    }

    fn set_waker(&mut self, _wake: Arc<dyn Fn() + Send + Sync>) {}
}

/// Keeps what is started.
#[derive(Default)]
struct Keep(RefCell<VecDeque<Completion>>);

impl SourceNode for Keep {
    fn start(&self, completion: Completion) {
        self.0.borrow_mut().push_back(completion);
    }
}

#[test]
fn a_record_far_above_an_open_one_is_held_until_that_has_ended() {
    let keep = Rc::new(Keep::default());
    let metrics = SourceMetrics::default();
    let source = Source {
        node: Rc::clone(&keep) as Rc<dyn SourceNode>,
        due_at: None,
        budget: Rc::new(Budget::new(Arc::default(), Arc::new(metrics))),
    };
    let offsets = Arc::new(Mutex::new(OffsetTracker::default()));
    let queue = Queue {
        partition: TopicPartition {
            topic: "in".into(),
            partition: 0,
        },
        offsets: [0, 1, 5_000_000_000, 5_000_000_001].into(),
    };
    let state = PartitionState::new(Rc::clone(&source.budget), offsets);
    let mut task = Task::new(0, Box::new(queue), state);
    let allowance = ReadAllowance {
        records_max: usize::MAX,
        bytes_max: usize::MAX,
        parts: usize::MAX,
        bytes: usize::MAX,
        window: usize::MAX,
        map_bytes: usize::MAX,
        ..ReadAllowance::default()
    };
    let mut started = || {
        task.poll(&source, allowance, 0, &mut PollRound::new())
            .unwrap();
        let kept = keep.0.borrow();
        let offsets = kept
            .iter()
            .map(|completion| completion.record().position.offset);
        (
            offsets.collect::<Vec<_>>(),
            task.state.span_and_map_bytes().0,
        )
    };
    let end = || keep.0.borrow_mut().pop_front().unwrap().complete();
    assert_eq!(started(), (vec![0, 1], 5_000_000_000));
    end();
    assert_eq!(started(), (vec![1], 4_999_999_999));
    end();
    assert_eq!(started(), (vec![5_000_000_000, 5_000_000_001], 2));
    keep.0.take().into_iter().for_each(Completion::complete);
}
