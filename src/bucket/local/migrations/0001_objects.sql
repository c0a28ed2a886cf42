-- The local bucket's index: which object is which data file. Data files never change; copies share one.
create table objects (
    key text primary key,
    file text not null,
    size integer not null check (size >= 0),
    etag text not null,
    content_type text,
    metadata text not null,
    sha256 text not null,
    sequencer text not null,
    modified_at integer not null
) without rowid;

create index objects_by_file on objects (file);

-- How often the bucket was opened: the first part of sequencers and of data files' names.
create table openings (
    id integer primary key check (id = 1),
    number integer not null
);

insert into openings (id, number) values (1, 0);
