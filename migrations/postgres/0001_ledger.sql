-- Orgs, keys, uploads, blobs, files and reports. Ids are UUIDv7, times are milliseconds since the epoch, UTC.

-- Lists travel as JSON, and SQLite's two functions to unfold them are made here, so that the same text runs on both engines.
-- Numbers in a list need a cast, which SQLite has no need of.

-- `volatile` keeps the planner from putting the body of `json_each` in place of the call. It would make two scans of the one,
-- and where a row was changed by others during a statement, PostgreSQL looks again at that row together with only the first
-- entry of such a list: the change would silently be left out for the rest.
-- The entries of an object (key and atom, in their order, a key perhaps twice) or of a list (value, and atom where that is
-- not a list or an object itself). SQLite has more columns, and gives an object's entries a value too.
create function json_each(list text) returns table (key text, value jsonb, atom text)
language sql volatile parallel safe rows 100
as $$
    select key, cast(null as jsonb), value
    from json_each_text(cast(case when left(list, 1) = '{' then list else '{}' end as json))
    union all
    select null, value, value #>> '{}'
    from jsonb_array_elements(cast(case when left(list, 1) = '[' then list else '[]' end as jsonb))
$$;

create function unhex(digits text) returns uuid
language sql immutable parallel safe
as $$ select cast(digits as uuid) $$;

create table orgs (
    id         uuid not null primary key,
    name       text collate "C" not null unique check (length(name) between 1 and 200),
    created_at bigint not null
);

create table api_keys (
    key         text collate "C" not null primary key,
    org_id      uuid not null references orgs (id),
    user_id     uuid not null,
    name        text not null,
    scopes      text not null,
    secret_hash text not null,
    created_at  bigint not null,
    expires_at  bigint,
    revoked_at  bigint
);

create index api_keys_by_org on api_keys (org_id);

create table uploads (
    id                uuid not null primary key,
    org_id            uuid not null references orgs (id),
    user_id           uuid not null,
    status            text not null check (status in
        ('requested', 'issued', 'arrived', 'verified', 'done', 'rejected', 'expired', 'cancelled')),
    reason            text check (reason in ('digest_mismatch', 'size_mismatch', 'too_large', 'object_missing',
        'object_changed', 'unsafe_path', 'too_many_files')),
    filename          text not null,
    size              bigint check (size >= 0),
    content_type      text,
    sha256            text,
    verified_sha256   text,
    target_kind       text check (target_kind in ('order', 'style')),
    target_number     text,
    client_ref        text collate "C",
    metadata          text,
    object_key        text collate "C" not null unique,
    policy            text,
    policy_expires_at bigint,
    etag              text,
    arrived_size      bigint,
    arrived_via       text check (arrived_via in ('notice', 'callback', 'poll', 'form')),
    changes           bigint not null default 0,
    file_id           uuid not null unique,
    deduplicated      boolean,
    created_at        bigint not null,
    updated_at        bigint not null,
    arrived_at        bigint,
    next_poll_at      bigint,
    resume_at         bigint,
    resumes           bigint not null default 0,
    check ((status = 'rejected') = (reason is not null)),
    check ((target_kind is null) = (target_number is null))
);

create unique index uploads_by_ref on uploads (org_id, client_ref)
    where client_ref is not null and status not in ('rejected', 'expired', 'cancelled');
create index uploads_by_org on uploads (org_id, id);
create index uploads_open on uploads (status, created_at)
    where status in ('requested', 'issued', 'arrived', 'verified');
create index uploads_to_poll on uploads (next_poll_at) where next_poll_at is not null;
create index uploads_to_resume on uploads (resume_at) where resume_at is not null;
create index uploads_to_expire on uploads (policy_expires_at, id) where status in ('requested', 'issued');

create table blobs (
    id         uuid not null primary key,
    org_id     uuid not null references orgs (id),
    sha256     text collate "C" not null,
    size       bigint not null check (size >= 0),
    object_key text collate "C" not null unique,
    state      text not null check (state in ('live', 'deleting')),
    refs       bigint not null check (refs >= 0),
    created_at bigint not null,
    unique (org_id, sha256)
);

create table files (
    id            uuid not null primary key,
    org_id        uuid not null references orgs (id),
    user_id       uuid not null,
    upload_id     uuid not null unique references uploads (id),
    blob_id       uuid not null references blobs (id),
    filename      text not null,
    size          bigint not null,
    sha256        text not null,
    content_type  text,
    target_kind   text,
    target_number text,
    deduplicated  boolean not null,
    created_at    bigint not null
);

create index files_by_org on files (org_id, id);
create index files_by_blob on files (blob_id);

create table report_deltas (
    id           bigint generated always as identity primary key,
    org_id       uuid not null references orgs (id),
    files        bigint not null,
    bytes        bigint not null,
    unique_files bigint not null,
    unique_bytes bigint not null,
    created_at   bigint not null
);

create index report_deltas_by_org on report_deltas (org_id, id);

create table org_reports (
    org_id       uuid not null primary key references orgs (id),
    files        bigint not null,
    bytes        bigint not null,
    unique_files bigint not null,
    unique_bytes bigint not null,
    as_of        bigint not null,
    mends        bigint not null default 0  -- how often a drift was mended: a recount that saw another count is stale
);
