-- What the sweep of the bucket has found.

-- Objects that nothing needs (`staging`, `blob`) and live blobs whose object is missing (`row`), by the key at which one half
-- is without the other. A `blob` goes only when it is still here a restore window after it was first seen.
create table sweep_findings (
    kind          text collate "C" not null check (kind in ('staging', 'blob', 'row')),
    object_key    text collate "C" not null,
    size          bigint not null,
    stored_at     bigint not null,
    first_seen_at bigint not null,
    primary key (kind, object_key)
);

-- The last complete sweep of each kind, so that any process can tell of it.
create table sweeps (
    kind      text not null primary key check (kind in ('staging', 'blob', 'row')),
    orphans   bigint not null,
    bytes     bigint not null,
    oldest_at bigint,
    as_of     bigint not null
);

-- How far the scheduled sweep below a prefix has come, while it is not at the end, and what it has found in staging until there.
create table sweep_places (
    prefix     text not null primary key,
    reached    text collate "C" not null,
    orphans    bigint not null,
    bytes      bigint not null,
    oldest_at  bigint,
    reached_at bigint not null
);
