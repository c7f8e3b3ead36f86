//! Which partitions of the payload topic an instance has, read from its log lines. Metrics show
//! them too, but only every few seconds and without the order of the changes, which tests need.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Service;

/// Partitions that an instance was assigned or gave up.
pub(crate) struct Move {
    is_assigned: bool,
    pub(crate) partitions: Vec<i32>,
}

impl Service {
    /// Returns the partitions that its processes were assigned and have not given up since.
    pub(crate) fn assigned(&self) -> BTreeSet<i32> {
        let mut assigned = BTreeSet::new();
        for Move {
            is_assigned,
            partitions,
        } in self.moves()
        {
            for partition in partitions {
                if is_assigned {
                    assigned.insert(partition);
                } else {
                    assigned.remove(&partition);
                }
            }
        }
        assigned
    }

    /// Returns the assignments and revocations in their order; a killed process revokes nothing.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let of_topic = format!("{}/", self.topic("payload"));
        let output = self.output();
        let lines = output.lines().filter(|line| line.contains(&of_topic));
        let moves = lines.filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let is_assigned = match line["message"].as_str()? {
                "assigned" => true,
                "revoked" => false,
                _ => return None,
            };
            let numbers = line["which"].as_str()?.strip_prefix(&of_topic)?;
            let partitions = numbers.split(',').map(|number| number.parse().unwrap());
            Some(Move {
                is_assigned,
                partitions: partitions.collect(),
            })
        });
        moves.collect()
    }
}
