-- What the sweep of the bucket has found.

-- Objects that nothing needs (`staging`, `blob`) and live blobs whose object is missing (`row`), by the key at which one half
-- is without the other. A `blob` goes only when it is still here a restore window after it was first seen.
create table sweep_findings (
    kind          text not null check (kind in ('staging', 'blob', 'row')),
    object_key    text not null,
    size          integer not null,
    stored_at     integer not null,
    first_seen_at integer not null,
    primary key (kind, object_key)
) strict, without rowid;

-- The last complete sweep of each kind, so that any process can tell of it.
create table sweeps (
    kind      text not null primary key check (kind in ('staging', 'blob', 'row')),
    orphans   integer not null,
    bytes     integer not null,
    oldest_at integer,
    as_of     integer not null
) strict;

-- How far the scheduled sweep below a prefix has come, while it is not at the end, and what it has found in staging until there.
create table sweep_places (
    prefix     text not null primary key,
    reached    text not null,
    orphans    integer not null,
    bytes      integer not null,
    oldest_at  integer,
    reached_at integer not null
) strict;
