//! Which partitions of the payload topic an instance has, from what it says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Service;

impl Service {
    /// The partitions that its processes were given and not asked to give up since.
    pub(crate) fn held(&self) -> BTreeSet<i32> {
        let mut held = BTreeSet::new();
        for (is_assigned, partitions) in self.moves() {
            for partition in partitions {
                if is_assigned {
                    held.insert(partition);
                } else {
                    held.remove(&partition);
                }
            }
        }
        held
    }

    /// Partitions assigned (true) and revoked, in that order; a killed process revokes nothing.
    pub(crate) fn moves(&self) -> Vec<(bool, Vec<i32>)> {
        let of_topic = format!("{}/", self.topic("payload"));
        let said = self.said();
        let told = said.lines().filter(|line| line.contains(&of_topic));
        let moves = told.filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let is_assigned = match line["message"].as_str()? {
                "assigned" => true,
                "revoked" => false,
                _ => return None,
            };
            let numbers = line["which"].as_str()?.strip_prefix(&of_topic)?;
            let partitions = numbers.split(',').map(|number| number.parse().unwrap());
            Some((is_assigned, partitions.collect()))
        });
        moves.collect()
    }
}
