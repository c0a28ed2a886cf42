-- Lists by what they are filtered by, in the order of their ids: a page of a million rows reads a page.

-- Every move of an upload writes its index entries anew on PostgreSQL, so those of uploads hold only what they are needed for.
create index files_by_target on files (org_id, target_kind, target_number, id) where target_kind is not null;
create index uploads_by_target on uploads (org_id, target_kind, target_number, id) where target_kind is not null;

create index files_by_name on files (org_id, filename, id);

-- By its bytes a file is found at its blob.
drop index files_by_blob;
create index files_by_blob on files (blob_id, id);

-- What came to nothing, and what no ref stands for any more: no upload that goes well is in either.
create index uploads_ended on uploads (org_id, status, id) where status in ('rejected', 'expired', 'cancelled');
create index uploads_ended_in_batch on uploads (batch_id, status, id)
    where batch_id is not null and status in ('rejected', 'expired', 'cancelled');
create index uploads_by_former_ref on uploads (org_id, client_ref)
    where client_ref is not null and (status in ('rejected', 'expired', 'cancelled') or file_deleted_at is not null);
