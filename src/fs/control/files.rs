//! The table of control files: name, permissions, what it shows, what it does.

use super::Control;
use super::render;

/// One control file.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) permissions: u16,
    pub(super) render: Option<fn(&Control) -> String>,
    pub(super) trigger: Option<Trigger>,
}

/// What writing to a file does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trigger {
    Compact,
    Sync,
}

const fn shows(name: &'static str, render: fn(&Control) -> String) -> File {
    File { name, permissions: 0o400, render: Some(render), trigger: None }
}

pub(super) const FILES: &[File] = &[
    shows("version", render::version),
    shows("health", render::health),
    shows("stats", render::stats),
    shows("stats.json", render::stats_json),
    shows("partitions", render::partitions),
    shows("segments", render::segments),
    shows("config", render::config),
    shows("errors", render::errors),
    File {
        name: "compact",
        permissions: 0o600,
        render: Some(render::compact),
        trigger: Some(Trigger::Compact),
    },
    File { name: "sync", permissions: 0o200, render: None, trigger: Some(Trigger::Sync) },
];
