-- Batches: many uploads by one call, or any number of files under one policy.

create table batches (
    id                blob not null primary key,
    org_id            blob not null references orgs (id),
    user_id           blob not null,
    mode              text not null check (mode in ('each', 'prefix')),
    target_kind       text check (target_kind in ('order', 'style')),
    target_number     text,
    lines             integer check (lines > 0),           -- each: how many were sent
    known             integer not null default 0,          -- each: how many of them an earlier upload's ref stands for
    max_files         integer check (max_files > 0),       -- prefix
    max_file_size     integer check (max_file_size >= 0),  -- prefix
    admitted          integer not null default 0,          -- prefix: how many objects have become uploads
    policy            text,                                -- prefix: the last one that was signed
    policy_expires_at integer,
    manifest          integer,                             -- the generation of manifest_lines that holds
    manifest_lines    integer,
    matched           integer not null default 0,          -- prefix: how many of those lines have an upload
    resume_at         integer,                             -- null once no line is left to become an upload
    resumes           integer not null default 0,
    created_at        integer not null,
    updated_at        integer not null,
    next_poll_at      integer,                             -- prefix: when its objects are listed next
    listed_since      integer,                             -- prefix: when the listing that is under way began
    listed_to         text,                                -- prefix: how far the listing that is under way has come
    closed_at         integer,                             -- nothing more is taken in
    check ((mode = 'each') = (lines is not null)),
    check ((mode = 'prefix') = (max_files is not null)),
    check ((max_files is null) = (max_file_size is null)),
    check ((target_kind is null) = (target_number is null))
) strict;

create index batches_by_org on batches (org_id, id);
create index batches_to_resume on batches (resume_at) where resume_at is not null;
create index batches_to_poll on batches (next_poll_at) where next_poll_at is not null;
create index batches_to_close on batches (policy_expires_at) where mode = 'prefix' and closed_at is null;

-- Lines that are not uploads yet, some hundreds in a row.
create table batch_lines (
    batch_id blob not null references batches (id),
    position integer not null,
    lines    text not null,
    primary key (batch_id, position)
) strict, without rowid;

-- Uploads of earlier calls that a batch has named again by their refs.
create table batch_known (
    batch_id  blob not null references batches (id),
    upload_id blob not null references uploads (id),
    primary key (batch_id, upload_id)
) strict, without rowid;

create table manifest_lines (
    batch_id   blob not null references batches (id),
    generation integer not null,
    path       text not null,
    sha256     text not null,
    primary key (batch_id, generation, path)
) strict, without rowid;

alter table uploads add column batch_id blob references batches (id);

create index uploads_by_batch on uploads (batch_id, id) where batch_id is not null;

-- How many uploads of a batch stand where, and their bytes. Triggers keep it, so that nobody can move an upload without being
-- counted. With one writer, one shard is enough.
create table batch_counts (
    batch_id blob not null references batches (id),
    shard    integer not null,
    status   text not null,
    uploads  integer not null,
    bytes    integer not null,
    primary key (batch_id, shard, status)
) strict, without rowid;

create trigger uploads_counted_in after insert on uploads when new.batch_id is not null
begin
    insert into batch_counts (batch_id, shard, status, uploads, bytes)
    values (new.batch_id, 0, new.status, 1, coalesce(new.arrived_size, new.size, 0))
    on conflict (batch_id, shard, status) do update
    set uploads = uploads + excluded.uploads, bytes = bytes + excluded.bytes;
end;

create trigger uploads_recounted after update of status, size, arrived_size on uploads
when new.batch_id is not null
    and (old.status <> new.status
        or coalesce(old.arrived_size, old.size, 0) <> coalesce(new.arrived_size, new.size, 0))
begin
    insert into batch_counts (batch_id, shard, status, uploads, bytes)
    values (old.batch_id, 0, old.status, -1, -coalesce(old.arrived_size, old.size, 0))
    on conflict (batch_id, shard, status) do update
    set uploads = uploads + excluded.uploads, bytes = bytes + excluded.bytes;
    insert into batch_counts (batch_id, shard, status, uploads, bytes)
    values (new.batch_id, 0, new.status, 1, coalesce(new.arrived_size, new.size, 0))
    on conflict (batch_id, shard, status) do update
    set uploads = uploads + excluded.uploads, bytes = bytes + excluded.bytes;
end;
