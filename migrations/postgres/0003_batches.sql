-- Batches: many uploads by one call, or any number of files under one policy.

create table batches (
    id                uuid not null primary key,
    org_id            uuid not null references orgs (id),
    user_id           uuid not null,
    mode              text not null check (mode in ('each', 'prefix')),
    target_kind       text check (target_kind in ('order', 'style')),
    target_number     text,
    lines             bigint check (lines > 0),            -- each: how many were sent
    known             bigint not null default 0,           -- each: how many of them an earlier upload's ref stands for
    max_files         bigint check (max_files > 0),        -- prefix
    max_file_size     bigint check (max_file_size >= 0),   -- prefix
    admitted          bigint not null default 0,           -- prefix: how many objects have become uploads
    policy            text,                                -- prefix: the last one that was signed
    policy_expires_at bigint,
    manifest          bigint,                              -- the generation of manifest_lines that holds
    manifest_lines    bigint,
    matched           bigint not null default 0,           -- prefix: how many of those lines have an upload
    resume_at         bigint,                              -- null once no line is left to become an upload
    resumes           bigint not null default 0,
    created_at        bigint not null,
    updated_at        bigint not null,
    next_poll_at      bigint,                              -- prefix: when its objects are listed next
    listed_since      bigint,                              -- prefix: when the listing that is under way began
    listed_to         text,                                -- prefix: how far the listing that is under way has come
    closed_at         bigint,                              -- nothing more is taken in
    check ((mode = 'each') = (lines is not null)),
    check ((mode = 'prefix') = (max_files is not null)),
    check ((max_files is null) = (max_file_size is null)),
    check ((target_kind is null) = (target_number is null))
);

create index batches_by_org on batches (org_id, id);
create index batches_to_resume on batches (resume_at) where resume_at is not null;
create index batches_to_poll on batches (next_poll_at) where next_poll_at is not null;
create index batches_to_close on batches (policy_expires_at) where mode = 'prefix' and closed_at is null;

-- Lines that are not uploads yet, some hundreds in a row.
create table batch_lines (
    batch_id uuid not null references batches (id),
    position bigint not null,
    lines    text not null,
    primary key (batch_id, position)
);

-- Uploads of earlier calls that a batch has named again by their refs.
create table batch_known (
    batch_id  uuid not null references batches (id),
    upload_id uuid not null references uploads (id),
    primary key (batch_id, upload_id)
);

create table manifest_lines (
    batch_id   uuid not null references batches (id),
    generation bigint not null,
    path       text collate "C" not null,
    sha256     text not null,
    primary key (batch_id, generation, path)
);

alter table uploads add column batch_id uuid references batches (id);

create index uploads_by_batch on uploads (batch_id, id) where batch_id is not null;

-- How many uploads of a batch stand where, and their bytes. Triggers keep it, so that nobody can move an upload without being
-- counted. Each connection has, as good as always, a shard of its own: no row is one that many wait for.
create table batch_counts (
    batch_id uuid not null references batches (id),
    shard    integer not null,
    status   text not null,
    uploads  bigint not null,
    bytes    bigint not null,
    primary key (batch_id, shard, status)
);

create function count_in_batch(batch uuid, upload_status text, by_uploads bigint, by_bytes bigint) returns void
language plpgsql
as $$
begin
    insert into batch_counts (batch_id, shard, status, uploads, bytes)
    values (batch, pg_backend_pid() % 64, upload_status, by_uploads, by_bytes)
    on conflict (batch_id, shard, status) do update
    set uploads = batch_counts.uploads + excluded.uploads, bytes = batch_counts.bytes + excluded.bytes;
end
$$;

create function count_upload_in() returns trigger
language plpgsql
as $$
begin
    perform count_in_batch(new.batch_id, new.status, 1, coalesce(new.arrived_size, new.size, 0));
    return null;
end
$$;

create function recount_upload() returns trigger
language plpgsql
as $$
begin
    perform count_in_batch(old.batch_id, old.status, -1, -coalesce(old.arrived_size, old.size, 0));
    perform count_in_batch(new.batch_id, new.status, 1, coalesce(new.arrived_size, new.size, 0));
    return null;
end
$$;

create trigger uploads_counted_in after insert on uploads
for each row when (new.batch_id is not null)
execute function count_upload_in();

create trigger uploads_recounted after update of status, size, arrived_size on uploads
for each row when (new.batch_id is not null
    and (old.status <> new.status
        or coalesce(old.arrived_size, old.size, 0) <> coalesce(new.arrived_size, new.size, 0)))
execute function recount_upload();
