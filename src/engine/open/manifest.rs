//! MANIFEST: read, made, written and checked. Owns when a store exists; its format is elsewhere.

use crate::engine::common::{Random, partition_dir};
use crate::engine::config::Config;
use crate::engine::disk::Disk;
use crate::engine::error::OpenError;
use crate::engine::format::Damage;
use crate::engine::format::manifest::Manifest;
use crate::engine::limits::PARTITIONS_MAX;
use crate::engine::recovery::failed;
use crate::engine::recovery::load::read_file;
use crate::engine::types::{PartitionId, StoreId};
use std::io;

const MANIFEST: &str = "MANIFEST";
const MANIFEST_TEMPORARY: &str = "MANIFEST.tmp";

pub(super) fn read_manifest(disk: &dyn Disk) -> Result<Option<Manifest>, OpenError> {
    let bytes = match read_file(disk, MANIFEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::Io(format!("reading {MANIFEST}"), error)),
    };
    match Manifest::decode(&bytes) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(Damage::Version(version)) => {
            Err(OpenError::Newer(format!("{MANIFEST} has format version {version}")))
        }
        Err(damage) => Err(OpenError::Damaged(format!("{MANIFEST}: {damage}"))),
    }
}

/// Makes a store in an empty directory. It is there once MANIFEST is.
pub(super) fn create(disk: &dyn Disk, config: &Config, random: &mut Random) -> Result<Manifest, OpenError> {
    if !config.create || config.read_only {
        return Err(OpenError::Foreign("there is no MANIFEST".to_string()));
    }
    check_is_empty(disk)?;
    let partitions = config.partitions.unwrap_or_else(default_partitions);
    for index in 0..partitions {
        let directory = partition_dir(PartitionId(index));
        disk.create_dir(&directory).map_err(failed(format!("creating {directory}")))?;
    }
    disk.sync_dir("").map_err(failed("syncing the directory"))?;
    let mut store = [0; 16];
    store[..8].copy_from_slice(&random.next().to_le_bytes());
    store[8..].copy_from_slice(&random.next().to_le_bytes());
    let manifest = Manifest {
        store: StoreId(store),
        partitions,
        features: Vec::new(),
        options: config.options.clone(),
        epochs: Vec::new(),
    };
    manifest.check().map_err(|damage| OpenError::Config(format!("an option can't be kept: {damage}")))?;
    write_manifest(disk, &manifest)?;
    Ok(manifest)
}

/// An error if there is anything that we would not have put there ourselves.
pub(super) fn check_is_empty(disk: &dyn Disk) -> Result<(), OpenError> {
    let names = disk.list("").map_err(failed("reading the directory"))?;
    for name in names {
        let ours = ["LOCK", MANIFEST_TEMPORARY, "lost+found"].contains(&name.as_str());
        // A crash while a store was being made leaves empty partition directories behind.
        let begun = name.starts_with("partition_") && disk.list(&name).is_ok_and(|names| names.is_empty());
        if !ours && !begun {
            return Err(OpenError::Foreign(format!(
                "there is no MANIFEST, and the directory isn't empty ({name})"
            )));
        }
    }
    Ok(())
}

fn default_partitions() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(usize::from(PARTITIONS_MAX)) as u16
}

pub(super) fn write_manifest(disk: &dyn Disk, manifest: &Manifest) -> Result<(), OpenError> {
    let write = || -> io::Result<()> {
        match disk.remove(MANIFEST_TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(MANIFEST_TEMPORARY)?;
        file.write_at(0, manifest.encode().as_bytes())?;
        file.sync_data()?;
        disk.rename(MANIFEST_TEMPORARY, MANIFEST)?;
        disk.sync_dir("")
    };
    write().map_err(failed(format!("writing {MANIFEST}")))
}

pub(super) fn check_manifest(manifest: &Manifest, config: &Config) -> Result<(), OpenError> {
    if let Some(feature) = manifest.unknown_feature(&[]) {
        return Err(OpenError::Newer(format!("it uses the feature {feature}")));
    }
    match config.partitions {
        Some(count) if count != manifest.partitions => Err(OpenError::Mismatch(format!(
            "the store was made with {} partitions, not {count}: open it without naming a count, or change it with bitkv reshard DATA --partitions {count}",
            manifest.partitions
        ))),
        _ => Ok(()),
    }
}
