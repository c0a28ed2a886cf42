//! Log lines: to stderr, short for people or JSON for machines.
//!
//! `error` is for a person to act on, `warn` tells of something recovered, `info` of a state moved. Whoever logs names no
//! secret and no signed policy.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
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
    let directives = directives(log, talk);
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

/// What PostgreSQL remarks on every migration that has been applied. Only who names it gets to see it.
const QUIET: &str = "sqlx::postgres::notice=warn";

fn directives(log: &Log, talk: Talk) -> String {
    match talk {
        Talk::Command if !log.filter_is_chosen => return "warn".to_owned(),
        Talk::Report if !log.filter_is_chosen => return "off".to_owned(),
        _ => {}
    }
    let most = EnvFilter::try_new(&log.filter).ok().and_then(|filter| filter.max_level_hint());
    // The later one of two for the same target holds.
    if most > Some(LevelFilter::WARN) { format!("{QUIET},{}", log.filter) } else { log.filter.clone() }
}

/// The hour where the person is who reads; the date is known to them.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", chrono::Local::now().format("%H:%M:%S%.3f"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(filter: &str) -> String {
        let log = Log { format: LogFormat::Human, filter: filter.to_owned(), filter_is_chosen: true };
        directives(&log, Talk::Service)
    }

    #[test]
    fn a_filter_that_somebody_chose_lets_no_remarks_of_the_ledger_through_unless_it_names_them() {
        assert_eq!(chosen("info,longshore=debug"), "sqlx::postgres::notice=warn,info,longshore=debug");
        for silent in ["error", "off", "warn"] {
            assert_eq!(chosen(silent), silent);
        }
        let named = EnvFilter::try_new(chosen("info,sqlx::postgres::notice=info")).unwrap();
        assert!(named.to_string().contains("sqlx::postgres::notice=info"), "{named}");
        assert!(!named.to_string().contains("notice=warn"), "{named}");
    }
}
