-- Files that go, and the bytes that nothing refers to any more.

-- The upload of a deleted file stays as it ended, but its ref may be taken again. A release that does not know of deletes goes on
-- answering with the first one.
alter table uploads add column file_deleted_at bigint;

drop index uploads_by_ref;
create unique index uploads_by_ref on uploads (org_id, client_ref)
    where client_ref is not null and status not in ('rejected', 'expired', 'cancelled') and file_deleted_at is null;

-- Since when no file refers to it; null while one does. A release that does not know of it may refer to a blob without
-- clearing it, so whoever reads it asks for the refs too.
alter table blobs add column unreferenced_at bigint;

create index blobs_to_collect on blobs (unreferenced_at) where unreferenced_at is not null;
