//! The daemon's log: where it goes, what it takes down, and how that is changed while it runs.

use super::Options;
use super::options::LogFormat;
use crate::fs::control::source::LogLevel;
use std::fs::File;
use std::sync::Arc;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The level of a log that runs.
struct Level {
    now: parking_lot::Mutex<tracing::Level>,
    handle: reload::Handle<Targets, Registry>,
}

impl LogLevel for Level {
    fn level(&self) -> String {
        self.now.lock().to_string().to_lowercase()
    }

    fn set_level(&self, level: &str) -> bool {
        let Ok(level) = level.parse::<tracing::Level>() else { return false };
        let mut now = self.now.lock();
        if self.handle.reload(levels(level)).is_err() {
            return false;
        }
        *now = level;
        true
    }
}

fn levels(level: tracing::Level) -> Targets {
    // The binding complains of a mount that is gone when it wants to unmount, which is how all mounts end.
    Targets::new().with_default(level).with_target("fuser", tracing::Level::ERROR)
}

/// Starts the log, if there is to be one: a daemon without `--log-file` has none.
pub(super) fn start(options: &Options) -> Result<Option<Box<dyn LogLevel>>, String> {
    let text = || fmt::layer().with_target(false);
    let json = || fmt::layer().json().with_target(false);
    let layer = match (&options.log_file, options.log_format) {
        (Some(path), format) => {
            let file = File::options().create(true).append(true).open(path);
            let file = Arc::new(file.map_err(|error| {
                format!("{}: opening the log: {error}; name a file that can be written", path.display())
            })?);
            match format {
                LogFormat::Text => text().with_ansi(false).with_writer(file).boxed(),
                LogFormat::Json => json().with_writer(file).boxed(),
            }
        }
        (None, _) if !options.foreground => return Ok(None),
        (None, LogFormat::Text) => text().with_writer(std::io::stderr).boxed(),
        (None, LogFormat::Json) => json().with_writer(std::io::stderr).boxed(),
    };
    let (filter, handle) = reload::Layer::new(levels(options.log_level));
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|error| format!("starting the log: {error}"))?;
    Ok(Some(Box::new(Level { now: parking_lot::Mutex::new(options.log_level), handle })))
}

/// A panic costs one operation its answer; that must not be all that is ever seen of it, and a daemon's standard error leads nowhere.
pub(super) fn report_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_string(), ToString::to_string);
        let text = panic.payload().downcast_ref::<&str>().copied();
        let what = text.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str));
        let what = what.unwrap_or("no message");
        tracing::error!("a panic at {place}: {what}; this is a bug, please report it");
        before(panic);
    }));
}
