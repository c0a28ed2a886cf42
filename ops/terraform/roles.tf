# One policy for each kind of process, and a role for each policy. A process that does several kinds of work takes a role
# with several policies attached; `up` needs all four.
#
#   intake   longshore intake                              answers HTTP, receives notices
#   signer   longshore worker --pools issue                signs upload policies
#   worker   longshore worker --pools arrive,verify,store,report
#   sweeper  longshore worker --pools upkeep               polls, expires, collects, sweeps
#
# HEAD needs s3:GetObject, and answers 404 only to those who may list the bucket; to others a missing object is a 403. HEAD has
# no prefix, hence IfExists: whoever does give a prefix is held to it.

locals {
  staging = "${aws_s3_bucket.uploads.arn}/staging/*"
  blobs   = "${aws_s3_bucket.uploads.arn}/blobs/*"

  policies = {
    intake  = data.aws_iam_policy_document.intake.json
    signer  = data.aws_iam_policy_document.signer.json
    worker  = data.aws_iam_policy_document.worker.json
    sweeper = data.aws_iam_policy_document.sweeper.json
  }
}

# What whoever holds a policy may do, its signer must be allowed to: put below staging/ and nothing else.
data "aws_iam_policy_document" "signer" {
  statement {
    sid       = "LetClientsPost"
    actions   = ["s3:PutObject"]
    resources = [local.staging]
  }
}

data "aws_iam_policy_document" "intake" {
  statement {
    sid       = "StorePostedFiles"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject", "s3:DeleteObject"]
    resources = [local.staging]
  }

  # For presigned downloads, and to see whether bytes that are known are there.
  statement {
    sid       = "LetClientsDownload"
    actions   = ["s3:GetObject"]
    resources = [local.blobs]
  }

  statement {
    sid       = "TellMissingFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.uploads.arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["staging/*", "blobs/*"]
    }
  }

  statement {
    sid = "ReceiveNotices"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:ChangeMessageVisibility",
      "sqs:GetQueueAttributes",
    ]
    resources = [aws_sqs_queue.notices.arn]
  }
}

# Copies from staging to blobs, which reads the one and writes the other, and hashes both.
data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "TakeFromStaging"
    actions   = ["s3:GetObject", "s3:DeleteObject"]
    resources = [local.staging]
  }

  statement {
    sid       = "KeepBlobs"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = [local.blobs]
  }

  statement {
    sid       = "TellMissingFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.uploads.arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["staging/*", "blobs/*"]
    }
  }
}

data "aws_iam_policy_document" "sweeper" {
  statement {
    sid       = "LookAndRemove"
    actions   = ["s3:GetObject", "s3:DeleteObject"]
    resources = [local.staging, local.blobs]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.uploads.arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["staging/*", "blobs/*"]
    }
  }
}

resource "aws_iam_policy" "process" {
  for_each = local.policies

  name   = "${var.name}-${each.key}"
  policy = each.value
  tags   = var.tags
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = var.trusted_services
    }
  }
}

resource "aws_iam_role" "process" {
  for_each = local.policies

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "process" {
  for_each = local.policies

  role       = aws_iam_role.process[each.key].name
  policy_arn = aws_iam_policy.process[each.key].arn
}
