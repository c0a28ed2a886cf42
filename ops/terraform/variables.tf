variable "name" {
  description = "Names the bucket, the queues and the roles. Bucket names are unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "Take 3 to 40 lower-case letters, digits and hyphens: queue and role names are made of it."
  }
}

variable "allowed_origins" {
  description = "Origins of the pages that post forms to the bucket and read from it, such as https://uploads.example.com."
  type        = list(string)

  validation {
    condition     = length(var.allowed_origins) > 0 && !contains(var.allowed_origins, "*")
    error_message = "Name the origins: `*` would let every page on the web read what a presigned link gives."
  }
}

variable "staging_days" {
  description = "After how many days an object in staging expires. The service removes what it needs no more much sooner; this catches what it never gets to see. An upload whose job is dead loses its bytes then."
  type        = number
  default     = 30

  validation {
    condition     = var.staging_days >= 7
    error_message = "Leave people a week at least to retry what has failed."
  }
}

variable "visibility_seconds" {
  description = "For how long a received notice is hidden from other receivers; the service asks for the same. Must cover one push onto its queue."
  type        = number
  default     = 60
}

variable "max_receive_count" {
  description = "How often a notice is received before it goes to the dead-letter queue. A receiver that is killed uses one up."
  type        = number
  default     = 5
}

variable "trusted_services" {
  description = "AWS services whose machines or tasks may take the roles."
  type        = list(string)
  default     = ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"]
}

variable "tags" {
  description = "Tags on everything."
  type        = map(string)
  default     = {}
}
