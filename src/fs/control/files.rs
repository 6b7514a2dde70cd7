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
    Config,
    Sync,
    LogLevel,
    Scrub,
    Follow,
    Backup,
}

const fn shows(name: &'static str, render: fn(&Control) -> String) -> File {
    File { name, permissions: 0o400, render: Some(render), trigger: None }
}

const fn does(name: &'static str, trigger: Trigger) -> File {
    File { name, permissions: 0o200, render: None, trigger: Some(trigger) }
}

const fn both(name: &'static str, render: fn(&Control) -> String, trigger: Trigger) -> File {
    File { name, permissions: 0o600, render: Some(render), trigger: Some(trigger) }
}

/// A new file gets its line at the end: its number follows from its place.
pub(super) const FILES: &[File] = &[
    shows("version", |_| render::version()),
    shows("health", |control| render::health(control.source.latch_reason(), &control.source.report())),
    shows("stats", |control| render::stats(&control.source.report())),
    shows("stats.json", |control| render::stats_json(&control.source.report())),
    shows("partitions", |control| render::partitions(&control.source.report())),
    shows("segments", |control| render::segments(&control.source.segments())),
    both("config", |control| render::config(&control.source.options()), Trigger::Config),
    shows("errors", |control| render::errors(&control.source.losses(), &control.source.damages())),
    both(
        "compact",
        |control| render::compact(control.progress.state(), &control.source.report()),
        Trigger::Compact,
    ),
    does("sync", Trigger::Sync),
    both("log_level", |control| render::log_level(control.source.log_level()), Trigger::LogLevel),
    both("scrub", |control| render::scrub(&control.source.scrub_stats()), Trigger::Scrub),
    shows("metrics", |control| {
        render::metrics(&control.source.report(), control.source.latch_reason().is_some())
    }),
    shows("slowlog", |control| render::slowlog(&control.source.slow_operations())),
    both("accesslog", |control| render::accesslog(&control.source.followed_operations()), Trigger::Follow),
    does("backup", Trigger::Backup),
];
