-- What operators look up through the API, whichever org it is of.

-- Whose job it was, where that can be told: found once, as it dies.
alter table dead_letters add column org_id blob;

create index dead_letters_by_org on dead_letters (org_id, id) where org_id is not null;
create index dead_letters_by_kind on dead_letters (kind, reason, pool);

-- With the org, so that the open ones of each are counted from the index alone.
drop index uploads_open;
create index uploads_open on uploads (status, created_at, org_id)
    where status in ('requested', 'issued', 'arrived', 'verified');

-- By what people ask for when something did not go well: no upload that does is in any of these.
create index uploads_ended_by_name on uploads (filename, id) where status in ('rejected', 'expired', 'cancelled');
create index uploads_ended_by_claim on uploads (sha256, id)
    where sha256 is not null and status in ('rejected', 'expired', 'cancelled');
create index uploads_ended_by_digest on uploads (verified_sha256, id)
    where verified_sha256 is not null and status in ('rejected', 'expired', 'cancelled');
create index uploads_ended_by_status on uploads (status, id) where status in ('rejected', 'expired', 'cancelled');
create index uploads_rejected on uploads (reason, id) where reason is not null;
create index uploads_rejected_by_org on uploads (org_id, reason, id) where reason is not null;

-- Those that still take something in, or have lines that are not uploads yet.
create index batches_open on batches (org_id)
    where closed_at is null and (mode = 'prefix' or resume_at is not null);

create index blobs_unreferenced on blobs (org_id, size) where unreferenced_at is not null;

create index api_keys_by_name on api_keys (name);
