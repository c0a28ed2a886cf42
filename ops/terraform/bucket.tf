# One bucket. Clients post below staging/, by policies that the service signs; the service keeps what it has verified below
# blobs/, to which no policy ever gives access.

resource "aws_s3_bucket" "uploads" {
  # checkov:skip=CKV_AWS_144: a copy in a second region is for those who need one
  # checkov:skip=CKV_AWS_145: SSE-S3, so that no role needs rights to a key; see README
  # checkov:skip=CKV_AWS_18: access logs are for those who need them
  # checkov:skip=CKV_AWS_21: no versions; see below
  bucket = var.name
  tags   = var.tags
}

resource "aws_s3_bucket_ownership_controls" "uploads" {
  bucket = aws_s3_bucket.uploads.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "uploads" {
  bucket                  = aws_s3_bucket.uploads.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "uploads" {
  bucket = aws_s3_bucket.uploads.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# Keys are never used twice and every read is pinned to an ETag, so versions would only keep what was deleted. Versioning is
# therefore never turned on; should somebody do it by hand, the rule `old_versions` keeps the bucket from growing.
resource "aws_s3_bucket_lifecycle_configuration" "uploads" {
  bucket = aws_s3_bucket.uploads.id

  rule {
    id     = "staging"
    status = "Enabled"

    filter {
      prefix = "staging/"
    }

    expiration {
      days = var.staging_days
    }
  }

  rule {
    id     = "broken_off"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  rule {
    id     = "old_versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }
}

resource "aws_s3_bucket_cors_configuration" "uploads" {
  bucket = aws_s3_bucket.uploads.id

  cors_rule {
    allowed_origins = var.allowed_origins
    allowed_methods = ["POST", "GET", "HEAD"]
    allowed_headers = ["*"]
    expose_headers  = ["ETag", "Location"]
    max_age_seconds = 3600
  }
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.uploads.arn, "${aws_s3_bucket.uploads.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "uploads" {
  bucket = aws_s3_bucket.uploads.id
  policy = data.aws_iam_policy_document.bucket.json

  depends_on = [aws_s3_bucket_public_access_block.uploads]
}

# Staging alone: the service's own copies to blobs/ are no news. S3 sends a test event when this is made, so the queue must let it.
resource "aws_s3_bucket_notification" "uploads" {
  bucket = aws_s3_bucket.uploads.id

  queue {
    id            = "staging"
    queue_arn     = aws_sqs_queue.notices.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "staging/"
  }

  depends_on = [aws_sqs_queue_policy.notices]
}
