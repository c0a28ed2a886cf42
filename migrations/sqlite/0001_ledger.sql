-- Orgs, keys, uploads, blobs, files and reports. Ids are UUIDv7 in 16 bytes, times are milliseconds since the epoch, UTC.

create table orgs (
    id         blob not null primary key,
    name       text not null unique check (length(name) between 1 and 200),
    created_at integer not null
) strict;

create table api_keys (
    key         text not null primary key,
    org_id      blob not null references orgs (id),
    user_id     blob not null,
    name        text not null,
    scopes      text not null,
    secret_hash text not null,
    created_at  integer not null,
    expires_at  integer,
    revoked_at  integer
) strict;

create index api_keys_by_org on api_keys (org_id);

create table uploads (
    id                blob not null primary key,
    org_id            blob not null references orgs (id),
    user_id           blob not null,
    status            text not null check (status in
        ('requested', 'issued', 'arrived', 'verified', 'done', 'rejected', 'expired', 'cancelled')),
    reason            text check (reason in ('digest_mismatch', 'size_mismatch', 'too_large', 'object_missing',
        'object_changed', 'unsafe_path', 'too_many_files')),
    filename          text not null,
    size              integer check (size >= 0),
    content_type      text,
    sha256            text,
    verified_sha256   text,
    target_kind       text check (target_kind in ('order', 'style')),
    target_number     text,
    client_ref        text,
    metadata          text,
    object_key        text not null unique,
    policy            text,
    policy_expires_at integer,
    etag              text,
    arrived_size      integer,
    arrived_via       text check (arrived_via in ('notice', 'callback', 'poll', 'form')),
    changes           integer not null default 0,
    file_id           blob not null unique,
    deduplicated      integer,
    created_at        integer not null,
    updated_at        integer not null,
    arrived_at        integer,
    next_poll_at      integer,
    resume_at         integer,
    resumes           integer not null default 0,
    check ((status = 'rejected') = (reason is not null)),
    check ((target_kind is null) = (target_number is null))
) strict;

create unique index uploads_by_ref on uploads (org_id, client_ref)
    where client_ref is not null and status not in ('rejected', 'expired', 'cancelled');
create index uploads_by_org on uploads (org_id, id);
create index uploads_open on uploads (status, created_at)
    where status in ('requested', 'issued', 'arrived', 'verified');
create index uploads_to_poll on uploads (next_poll_at) where next_poll_at is not null;
create index uploads_to_resume on uploads (resume_at) where resume_at is not null;
create index uploads_to_expire on uploads (policy_expires_at) where status in ('requested', 'issued');

create table blobs (
    id         blob not null primary key,
    org_id     blob not null references orgs (id),
    sha256     text not null,
    size       integer not null check (size >= 0),
    object_key text not null unique,
    state      text not null check (state in ('live', 'deleting')),
    refs       integer not null check (refs >= 0),
    created_at integer not null,
    unique (org_id, sha256)
) strict;

create table files (
    id            blob not null primary key,
    org_id        blob not null references orgs (id),
    user_id       blob not null,
    upload_id     blob not null unique references uploads (id),
    blob_id       blob not null references blobs (id),
    filename      text not null,
    size          integer not null,
    sha256        text not null,
    content_type  text,
    target_kind   text,
    target_number text,
    deduplicated  integer not null,
    created_at    integer not null
) strict;

create index files_by_org on files (org_id, id);
create index files_by_blob on files (blob_id);

create table report_deltas (
    id           integer primary key,
    org_id       blob not null references orgs (id),
    files        integer not null,
    bytes        integer not null,
    unique_files integer not null,
    unique_bytes integer not null,
    created_at   integer not null
) strict;

create index report_deltas_by_org on report_deltas (org_id, id);

create table org_reports (
    org_id       blob not null primary key references orgs (id),
    files        integer not null,
    bytes        integer not null,
    unique_files integer not null,
    unique_bytes integer not null,
    as_of        integer not null,
    mends        integer not null default 0  -- how often a drift was mended: a recount that saw another count is stale
) strict;
