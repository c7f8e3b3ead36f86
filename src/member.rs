//! The data directory: its lock, and the member id that is kept in it.

use std::fs::File;

use anyhow::Context;
use uuid::Uuid;

use crate::config::Config;

/// Two processes on one data directory would share a member id and fence each other off.
pub(crate) fn lock_data_dir(config: &Config) -> anyhow::Result<File> {
    let folder = &config.data_dir;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("data_dir {} can not be made", folder.display()))?;
    let lock = File::create(folder.join("lock"))?;
    lock.try_lock().with_context(|| {
        format!(
            "another process uses data_dir {}; stop it, or give each its own",
            folder.display()
        )
    })?;
    Ok(lock)
}

/// The member id that is configured, or else kept in the data directory: it brings a killed instance back to its partitions
/// at once. A directory that was copied to another host or path gets another id.
pub(crate) fn id(config: &Config) -> anyhow::Result<String> {
    if let Some(id) = &config.kafka.group_instance_id {
        return Ok(id.clone());
    }
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
