data "aws_region" "current" {}

output "settings" {
  description = "What the environment of every process needs."
  value = {
    LONGSHORE_BUCKET_URL = "s3://${aws_s3_bucket.uploads.bucket}"
    LONGSHORE_INBOX_URL  = "sqs+${aws_sqs_queue.notices.url}"
    AWS_REGION           = data.aws_region.current.region
  }
}

output "roles" {
  description = "The role of each kind of process."
  value       = { for kind, role in aws_iam_role.process : kind => role.arn }
}

output "policies" {
  description = "The policies behind the roles, to attach several to one role."
  value       = { for kind, policy in aws_iam_policy.process : kind => policy.arn }
}

output "dead_letters" {
  description = "Where notices end that cannot be read."
  value       = aws_sqs_queue.dead_letters.url
}
