//! The data directory: its lock, and the member id that is kept in it.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use topology::StreamsError;
use topology::log::SourceError;
use topology_kafka::GroupProtocol;
use uuid::Uuid;

use crate::config::{Config, LogKind};

/// Who this process is in its consumer groups, for as long as it holds its data directory.
#[derive(Debug)]
pub(crate) struct Member {
    _lock: Option<File>,
    /// The static member id; `None`: a dynamic member, or a log that knows no members.
    pub(crate) id: Option<String>,
}

/// Locks the data directory and finds the member id in it. Two processes on one directory would
/// share an id and fence each other off. Where the log is Kafka, the directory need not be
/// writable: then this is a dynamic member, unless an id is configured.
pub(crate) fn claim(config: &Config) -> anyhow::Result<Member> {
    let folder = &config.data_dir;
    let configured = config.kafka.group_instance_id.clone();
    match lock_file(folder) {
        Ok(lock) => {
            if lock.try_lock().is_err() {
                let folder = folder.display();
                bail!("another process uses data_dir {folder}; stop it, or give each its own");
            }
            let id = match config.log {
                LogKind::Embedded => None,
                LogKind::Kafka if configured.is_some() => configured,
                // A member of KIP-848 with an id can not leave: a stop would hold its partitions.
                LogKind::Kafka if config.kafka.group_protocol == GroupProtocol::Consumer => None,
                LogKind::Kafka => Some(kept_id(config)?),
            };
            Ok(Member {
                _lock: Some(lock),
                id,
            })
        }
        Err(error) if config.log == LogKind::Kafka => {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "data_dir can not be written: after a kill, partitions wait for the session to end");
            Ok(Member {
                _lock: None,
                id: configured,
            })
        }
        Err(error) => {
            let folder = folder.display();
            Err(error).with_context(|| format!("data_dir {folder} can not be written"))
        }
    }
}

impl Member {
    /// Adds the remedy where another process took over this member.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if !is_fenced(&error) {
            return error;
        }
        let id = self.id.as_deref().unwrap_or_default();
        error.context(format!(
            "member {id} is another process now; give each process its own data_dir and kafka.group_instance_id"
        ))
    }
}

/// Whether another process is the same member of the group.
pub fn is_fenced(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(StreamsError::Source(SourceError::Fenced(_)))
    )
}

fn lock_file(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    File::create(folder.join("lock"))
}

/// The id that brings a killed instance back to its partitions at once. A directory that was
/// copied to another host or path gets another one.
fn kept_id(config: &Config) -> anyhow::Result<String> {
    let path = config.data_dir.join("member-id");
    let folder = config.data_dir.canonicalize()?;
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let bound = format!("{} {}", host.trim(), folder.display());
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((id, to)) = kept.trim_end().split_once(' ')
        && to == bound
    {
        return Ok(id.to_owned());
    }
    let id = format!("{}-{}", config.application_id, Uuid::now_v7());
    std::fs::write(&path, format!("{id} {bound}\n"))
        .with_context(|| format!("{} can not be written", path.display()))?;
    Ok(id)
}
