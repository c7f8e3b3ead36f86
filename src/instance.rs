//! The identity of this process: the lock on its data directory, and its id as a static member of
//! the consumer groups, which is kept there.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use topology::StreamsError;
use topology::log::SourceError;
use topology_kafka::GroupProtocol;
use uuid::Uuid;

use crate::config::{Config, LogKind};

/// Holds the lock on the data directory until it is dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    /// `None` if the directory is not writable, which only Kafka permits.
    _lock: Option<File>,
    member_id: Option<String>,
}

impl Instance {
    /// Locks the data directory and reads the member id from it. Two processes with one directory
    /// would have the same id and fence each other.
    ///
    /// With Kafka the directory need not be writable. The process is then a dynamic member, unless
    /// `kafka.group_instance_id` is set.
    pub(crate) fn acquire(config: &Config) -> anyhow::Result<Self> {
        let folder = config.data_dir.display();
        match open_lock_file(&config.data_dir) {
            Ok(file) => {
                if file.try_lock().is_err() {
                    bail!(
                        "another process uses the data directory {folder}; stop that process, or \
                         set `data_dir` to a different directory for each process"
                    );
                }
                Ok(Self {
                    _lock: Some(file),
                    member_id: member_id(config)?,
                })
            }
            Err(error) if config.log == LogKind::Kafka => {
                tracing::warn!(
                    %error,
                    "cannot write to the data directory {folder}: after a crash, other instances \
                     get this one's partitions only when its session times out; make `data_dir` \
                     writable, or set `kafka.group_instance_id`"
                );
                Ok(Self {
                    _lock: None,
                    member_id: config.kafka.group_instance_id.clone(),
                })
            }
            Err(error) => Err(error).with_context(|| {
                format!(
                    "cannot write to the data directory {folder}; set `data_dir` to a writable one"
                )
            }),
        }
    }

    /// Returns the static member id, or `None` for a dynamic member and for the embedded event log.
    pub(crate) fn member_id(&self) -> Option<String> {
        self.member_id.clone()
    }

    /// Adds the remedy to the error of a process that another one has fenced.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if !is_fenced(&error) {
            return error;
        }
        let id = self.member_id.as_deref().unwrap_or_default();
        error.context(format!(
            "another process joined the consumer group as {id}; give each process its own \
             `data_dir` and `kafka.group_instance_id`"
        ))
    }
}

/// Returns whether another process took over this one's membership in a consumer group.
pub fn is_fenced(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(StreamsError::Source(SourceError::Fenced(_)))
    )
}

fn member_id(config: &Config) -> anyhow::Result<Option<String>> {
    let configured = &config.kafka.group_instance_id;
    match config.log {
        LogKind::Embedded => Ok(None),
        LogKind::Kafka if configured.is_some() => Ok(configured.clone()),
        // With the protocol of KIP-848 a static member cannot leave its group: after a stop, its
        // partitions would be read by nobody until the session times out.
        LogKind::Kafka if config.kafka.group_protocol == GroupProtocol::Consumer => Ok(None),
        LogKind::Kafka => kept_member_id(config).map(Some),
    }
}

fn open_lock_file(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    File::create(folder.join("lock"))
}

/// Returns the member id of earlier runs, with which a process that was killed gets its partitions
/// back at once. The file names host and path, so that a copy of the directory gets a new id.
fn kept_member_id(config: &Config) -> anyhow::Result<String> {
    let path = config.data_dir.join("member-id");
    let folder = config.data_dir.canonicalize()?;
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let place = format!("{} {}", host.trim(), folder.display());
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((id, kept_place)) = kept.trim_end().split_once(' ')
        && kept_place == place
    {
        return Ok(id.to_owned());
    }
    let id = format!("{}-{}", config.application_id, Uuid::now_v7());
    std::fs::write(&path, format!("{id} {place}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(id)
}
