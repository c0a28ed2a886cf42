//! What `longshore sweep` says: for people in columns, for machines in lines of JSON.

use std::collections::HashMap;
use std::time::Duration;

use longshore_jobs::job::Context;
use longshore_jobs::ledger::sweeps::{self, Finding, Kind, Orphan, Tally};
use longshore_jobs::ledger::{Db, LedgerError, blobs};
use longshore_jobs::model::Timestamp;
use longshore_jobs::sweep_bucket::{Page, Terms};
use serde_json::{Value, json};
use uuid::Uuid;

use super::SweepArgs;
use crate::cli::output::Columns;
use crate::cli::say;

/// How many of each kind are shown, but with `--list`.
const SHOWN: i64 = 20;
/// How many are read at once.
const PAGE: i64 = 1000;
/// How many foreign objects are named.
const FOREIGN: usize = 20;
/// How many entries are named of a blob whose bytes are lost.
const FILES: i64 = 20;

/// What was looked at, found and removed so far, and how to show it.
pub(super) struct Report {
    applies: bool,
    json: bool,
    shown: i64,
    /// Of staging, and of blobs.
    terms: (Terms, Terms),
    /// Whether the schedule removes blobs' objects too.
    by_schedule: bool,
    looked_at: usize,
    foreign: usize,
    /// Some of their keys, whatever is asked to be shown: they may be all of another ledger's.
    foreign_keys: Vec<String>,
    /// By kind.
    found: HashMap<Kind, Tally>,
    removed: HashMap<Kind, Tally>,
}

impl Report {
    pub(super) fn new(args: &SweepArgs, terms: (Terms, Terms), by_schedule: bool) -> Self {
        Self {
            applies: args.apply,
            json: args.json,
            shown: if args.list { i64::MAX } else { SHOWN },
            terms,
            by_schedule,
            looked_at: 0,
            foreign: 0,
            foreign_keys: Vec::new(),
            found: HashMap::new(),
            removed: HashMap::new(),
        }
    }

    pub(super) fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// Counts a page, and says at once what was removed.
    pub(super) fn add(&mut self, page: &Page) {
        self.looked_at += page.looked_at;
        self.foreign += page.foreign.len();
        let room = FOREIGN.saturating_sub(self.foreign_keys.len());
        self.foreign_keys.extend(page.foreign.iter().take(room).cloned());
        for (kind, orphan) in &page.found {
            let found = self.found.entry(*kind).or_default();
            *found = found.and([orphan]);
        }
        for orphan in &page.removed {
            let removed = self.removed.entry(page.kind).or_default();
            *removed = removed.and([orphan]);
            if removed.orphans <= self.shown {
                self.tell_removed(page.kind, orphan);
            }
        }
    }

    fn tell_removed(&self, kind: Kind, orphan: &Orphan) {
        let Orphan { object_key: key, size, stored_at } = orphan;
        if self.json {
            let line = json!({"removed": true, "kind": kind, "key": key, "size": size, "storedAt": stored_at});
            return say(format_args!("{line}\n"));
        }
        say(format_args!("removed {} ({size} bytes, of {stored_at})\n", key.escape_debug()));
    }

    /// Says what was found, and what is to become of it.
    pub(super) async fn tell(&self, ctx: &Context) -> Result<(), LedgerError> {
        if self.json {
            for kind in Kind::ALL {
                self.tell_lines(ctx, *kind).await?;
            }
            for key in &self.foreign_keys {
                say(format_args!("{}\n", json!({"removed": false, "kind": "foreign", "key": key})));
            }
            say(format_args!("{}\n", self.summary()));
            return Ok(());
        }
        say(self.totals());
        for kind in Kind::ALL {
            self.tell_columns(ctx, *kind).await?;
        }
        if self.foreign > 0 {
            self.tell_foreign();
        }
        Ok(())
    }

    fn tell_foreign(&self) {
        say(format_args!(
            "\nForeign objects, which are left: {}. Their orgs are not in this ledger, or their keys are not of its making.\n\n",
            self.foreign
        ));
        let mut columns = Columns::with_heads(&["key"]);
        for key in &self.foreign_keys {
            columns.row(vec![key.escape_debug().to_string()]);
        }
        say(columns);
        if self.foreign > self.foreign_keys.len() {
            say(format_args!("… and {} more.\n", self.foreign - self.foreign_keys.len()));
        }
    }

    /// What was found, and what of it has gone.
    fn of_kind(&self, kind: Kind) -> (Tally, Tally) {
        let of = |tallies: &HashMap<Kind, Tally>| tallies.get(&kind).copied().unwrap_or_default();
        (of(&self.found), of(&self.removed))
    }

    fn totals(&self) -> String {
        let mut columns = Columns::with_heads(&["kind", "found", "bytes", "oldest", "removed", "freed bytes"]);
        for kind in Kind::ALL {
            let (found, removed) = self.of_kind(*kind);
            columns.row(vec![
                kind.to_string(),
                found.orphans.to_string(),
                found.bytes.to_string(),
                found.oldest_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
                removed.orphans.to_string(),
                removed.bytes.to_string(),
            ]);
        }
        let mode = if self.applies { "" } else { " This was a dry run: nothing was removed." };
        format!("{} objects looked at.{mode}\n\n{columns}", self.looked_at)
    }

    fn summary(&self) -> Value {
        let of_kind = |kind: &Kind| {
            let (found, removed) = self.of_kind(*kind);
            json!({
                "kind": kind,
                "found": found.orphans,
                "bytes": found.bytes,
                "oldestAt": found.oldest_at,
                "removed": removed.orphans,
                "removedBytes": removed.bytes,
            })
        };
        let kinds: Vec<Value> = Kind::ALL.iter().map(of_kind).collect();
        json!({"summary": {"applied": self.applies, "lookedAt": self.looked_at, "foreign": self.foreign, "kinds": kinds}})
    }

    /// What is to become of those of a kind.
    fn outlook(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Staging => {
                "staging: objects that no open upload needs. They go with the next scheduled sweep, or by --apply."
            }
            Kind::Blob if self.by_schedule => {
                "blob: objects that no row names. Those that still are orphans then go with the next scheduled sweep."
            }
            Kind::Blob => {
                "blob: objects that no row names. Those that still are orphans then can be removed by --apply."
            }
            Kind::Row => {
                "row: blobs whose object is missing or cut. Nothing removes them. They heal when the object is brought back (an \
                 earlier version in a versioned bucket, a backup), or when the same bytes are uploaded again."
            }
        }
    }

    /// The findings of a kind that this run has looked at.
    fn reading(&self, ctx: &Context, kind: Kind) -> Reading {
        let min_age = match kind {
            Kind::Staging => self.terms.0.min_age,
            Kind::Blob => self.terms.1.min_age,
            Kind::Row => Duration::ZERO,
        };
        let stored_by = ctx.now() - min_age;
        Reading { kind, stored_by, after: String::new(), left: self.shown, begun: false, left_off: false }
    }

    async fn tell_columns(&self, ctx: &Context, kind: Kind) -> Result<(), LedgerError> {
        let (db, mut read) = (&ctx.db, self.reading(ctx, kind));
        let heads: &[&str] = match kind {
            Kind::Staging => &["size", "stored", "first seen", "key"],
            Kind::Blob => &["size", "stored", "first seen", "goes", "key"],
            Kind::Row => &["size", "written", "first seen", "key", "files"],
        };
        while let Some(page) = read.next(db).await? {
            if page.first {
                say(format_args!("\n{}\n\n", self.outlook(kind)));
            }
            let mut columns = Columns::with_heads(heads);
            for found in &page.findings {
                columns.row(self.cells(db, kind, found).await?);
            }
            say(columns);
        }
        if read.left_off {
            say("… and more: --list shows all.\n");
        }
        Ok(())
    }

    async fn cells(&self, db: &Db, kind: Kind, found: &Finding) -> Result<Vec<String>, LedgerError> {
        let Finding { object_key, size, stored_at, first_seen_at } = found;
        let key = object_key.escape_debug().to_string();
        let mut cells = vec![size.to_string(), stored_at.to_string(), first_seen_at.to_string()];
        match kind {
            Kind::Staging => cells.push(key),
            Kind::Blob => cells.extend([(*first_seen_at + self.terms.1.restore_window).to_string(), key]),
            Kind::Row => {
                let (files, count) = blobs::files_at(db, object_key, FILES).await?;
                let named = files.iter().map(Uuid::to_string).collect::<Vec<_>>().join(" ");
                let more = count - i64::try_from(files.len()).unwrap_or(0);
                cells.extend([key, if more > 0 { format!("{named} and {more} more") } else { named }]);
            }
        }
        Ok(cells)
    }

    async fn tell_lines(&self, ctx: &Context, kind: Kind) -> Result<(), LedgerError> {
        let (db, mut read) = (&ctx.db, self.reading(ctx, kind));
        while let Some(page) = read.next(db).await? {
            for found in &page.findings {
                say(format_args!("{}\n", self.line(db, kind, found).await?));
            }
        }
        Ok(())
    }

    async fn line(&self, db: &Db, kind: Kind, found: &Finding) -> Result<Value, LedgerError> {
        let Finding { object_key: key, size, stored_at, first_seen_at } = found;
        let mut line = json!({
            "removed": false, "kind": kind, "key": key, "size": size, "storedAt": stored_at, "firstSeenAt": first_seen_at,
        });
        match kind {
            Kind::Staging => {}
            Kind::Blob => line["goesAt"] = json!(*first_seen_at + self.terms.1.restore_window),
            Kind::Row => {
                let (files, count) = blobs::files_at(db, key, FILES).await?;
                (line["files"], line["fileCount"]) = (json!(files), json!(count));
            }
        }
        Ok(line)
    }
}

/// Reads the findings of a kind page by page, as many as are to be shown.
struct Reading {
    kind: Kind,
    /// What was stored later was not looked at.
    stored_by: Timestamp,
    after: String,
    left: i64,
    begun: bool,
    /// Whether there are more than are to be shown.
    left_off: bool,
}

struct Findings {
    findings: Vec<Finding>,
    first: bool,
}

impl Reading {
    async fn next(&mut self, db: &Db) -> Result<Option<Findings>, LedgerError> {
        let wanted = self.left.min(PAGE);
        let mut findings = sweeps::list(db, (self.kind, self.stored_by), &self.after, wanted + 1).await?;
        let more = findings.len() > usize::try_from(wanted).unwrap_or(0);
        findings.truncate(usize::try_from(wanted).unwrap_or(0));
        self.left -= i64::try_from(findings.len()).unwrap_or(0);
        self.left_off = more && self.left == 0;
        let Some(last) = findings.last() else { return Ok(None) };
        self.after.clone_from(&last.object_key);
        let first = !std::mem::replace(&mut self.begun, true);
        Ok(Some(Findings { findings, first }))
    }
}
