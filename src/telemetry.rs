//! Log lines: to stderr, short for people or JSON for machines.
//!
//! `error` is for a person to act on, `warn` tells of something recovered, `info` of a state moved. Whoever logs names no
//! secret and no signed policy.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Whether a command runs until it is stopped and tells of its work, or is over soon and has a result to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// As the filter says.
    Service,
    /// Warnings and errors, unless somebody chose a filter.
    Command,
    /// Nothing, unless somebody chose a filter: it tells by itself of all that goes wrong.
    Report,
}

/// Starts logging. A second call does nothing, so that tests may call it too.
pub(crate) fn start(log: &Log, talk: Talk) {
    let directives = match talk {
        Talk::Command if !log.filter_is_chosen => "warn",
        Talk::Report if !log.filter_is_chosen => "off",
        _ => &log.filter,
    };
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).finish().try_init(),
        LogFormat::Human => lines
            .with_timer(TimeOfDay)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .compact()
            .finish()
            .try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging had been started before");
    }
}

/// The hour where the person is who reads; the date is known to them.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", chrono::Local::now().format("%H:%M:%S%.3f"))
    }
}
