"""Asserts what must not get lost in these files, then breaks each of them in memory and asserts that it is noticed."""

import json
import pathlib
import sys

import hcl2

FOLDER = pathlib.Path(__file__).parent
FILES = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.tf"))}

# What each kind of process may do, and where; a statement more, or an action more, is a finding.
RIGHTS = {
    "signer": {("s3:PutObject", "staging")},
    "intake": {
        *((f"s3:{action}Object", "staging") for action in ("Put", "Get", "Delete")),
        ("s3:AbortMultipartUpload", "staging"),
        ("s3:GetObject", "blobs"),
        ("s3:ListBucket", "bucket"),
        *((f"sqs:{action}", "notices") for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")),
        ("sqs:GetQueueAttributes", "notices"),
    },
    "worker": {
        *((f"s3:{action}Object", "staging") for action in ("Get", "Delete")),
        *((f"s3:{action}Object", "blobs") for action in ("Get", "Put", "Delete")),
        ("s3:ListBucket", "bucket"),
    },
    "sweeper": {
        *((f"s3:{action}Object", place) for action in ("Get", "Delete") for place in ("staging", "blobs")),
        ("s3:ListBucket", "bucket"),
    },
}
PLACES = {
    "local.staging": "staging",
    "local.blobs": "blobs",
    "aws_s3_bucket.uploads.arn": "bucket",
    "aws_sqs_queue.notices.arn": "notices",
}


def plain(value):
    """Without what the parser adds: quotes, `${…}` around references, its own marks."""
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        value = value.strip('"')
        whole = value.startswith("${") and value.endswith("}") and value.count("${") == 1
        return value[2:-1] if whole else value
    return value


def blocks(files):
    """Every block by (kind, type, name)."""
    found = {}
    for name, text in files.items():
        for kind, entries in plain(hcl2.loads(text)).items():
            for entry in entries if isinstance(entries, list) else []:
                for first, inner in entry.items():
                    for second, body in inner.items() if kind in ("resource", "data") else [("", inner)]:
                        found[kind, first, second] = body
    return found


def one(values):
    """The only block of its kind in its place."""
    [value] = values
    return value


def document(found, name):
    return found["data", "aws_iam_policy_document", name]["statement"]


def conditions(statement):
    return {(each["test"], each["variable"]): each["values"] for each in statement.get("condition", [])}


def check_notification(found):
    queue = one(found["resource", "aws_s3_bucket_notification", "uploads"]["queue"])
    assert queue["filter_prefix"] == "staging/", "the bucket would tell us of our own copies"
    assert queue["events"] == ["s3:ObjectCreated:*"]
    assert queue["queue_arn"] == "aws_sqs_queue.notices.arn"


def check_queue(found):
    sends = one(document(found, "notices"))
    assert sends["actions"] == ["sqs:SendMessage"]
    assert one(sends["principals"]) == {"type": "Service", "identifiers": ["s3.amazonaws.com"]}
    assert conditions(sends) == {
        ("ArnEquals", "aws:SourceArn"): ["aws_s3_bucket.uploads.arn"],
        ("StringEquals", "aws:SourceAccount"): ["data.aws_caller_identity.current.account_id"],
    }, "anybody's bucket could send"
    queue = found["resource", "aws_sqs_queue", "notices"]
    assert "aws_sqs_queue.dead_letters.arn" in str(queue["redrive_policy"]), "what cannot be read would come for ever"
    allowed = found["resource", "aws_sqs_queue_redrive_allow_policy", "dead_letters"]["redrive_allow_policy"]
    assert "byQueue" in str(allowed) and "aws_sqs_queue.notices.arn" in str(allowed)
    for name in ("notices", "dead_letters"):
        assert found["resource", "aws_sqs_queue", name]["sqs_managed_sse_enabled"] in (True, "true")


def check_bucket(found):
    public = found["resource", "aws_s3_bucket_public_access_block", "uploads"]
    names = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert all(public[name] in (True, "true") for name in names)
    assert ("resource", "aws_s3_bucket_versioning", "uploads") not in found
    rules = found["resource", "aws_s3_bucket_lifecycle_configuration", "uploads"]["rule"]
    expiring = [rule for rule in rules if "expiration" in rule]
    assert one(one(expiring)["filter"])["prefix"] == "staging/", "what was kept would expire"
    assert any("abort_incomplete_multipart_upload" in rule for rule in rules)
    cors = one(found["resource", "aws_s3_bucket_cors_configuration", "uploads"]["cors_rule"])
    assert "POST" in cors["allowed_methods"] and cors["allowed_origins"] == "var.allowed_origins"


def check_roles(found):
    locals_ = found["locals", "staging", ""], found["locals", "blobs", ""]
    assert locals_ == ("${aws_s3_bucket.uploads.arn}/staging/*", "${aws_s3_bucket.uploads.arn}/blobs/*")
    for role, expected in RIGHTS.items():
        rights = set()
        for statement in document(found, role):
            assert statement.get("effect", "Allow") == "Allow" and "not_actions" not in statement
            assert not any("*" in right for right in statement["actions"] + statement["resources"]), f"{role} has a *"
            rights |= {(action, PLACES[place]) for action in statement["actions"] for place in statement["resources"]}
            if "s3:ListBucket" in statement["actions"]:
                assert ("StringLikeIfExists", "s3:prefix") in conditions(statement), f"{role} lists everything"
        assert rights == expected, f"{role}: {sorted(rights ^ expected)}"
    assert set(found["locals", "policies", ""]) == set(RIGHTS)


def check(files):
    found = blocks(files)
    for name, value in plain(hcl2.loads(files["roles.tf"]))["locals"][0].items():
        found["locals", name, ""] = value
    for part in (check_notification, check_queue, check_bucket, check_roles):
        part(found)
    return len(found)


# One breakage for each thing that is asserted: file, what stands there, what a careless hand would make of it.
BREAKAGES = [
    ("bucket.tf", 'filter_prefix = "staging/"', 'filter_prefix = ""'),
    ("bucket.tf", 'prefix = "staging/"', 'prefix = ""'),
    ("bucket.tf", "restrict_public_buckets = true", "restrict_public_buckets = false"),
    ("bucket.tf", "abort_incomplete_multipart_upload", "noncurrent_version_transition"),
    ("bucket.tf", "var.allowed_origins", '["*"]'),
    ("queue.tf", '"aws:SourceArn"', '"aws:PrincipalArn"'),
    ("queue.tf", '"aws:SourceAccount"', '"aws:PrincipalAccount"'),
    ("queue.tf", "aws_sqs_queue.dead_letters.arn", "aws_sqs_queue.notices.arn"),
    ("queue.tf", '"byQueue"', '"allowAll"'),
    ("queue.tf", '["sqs:SendMessage"]', '["sqs:*"]'),
    ("roles.tf", '["s3:PutObject"]', '["s3:*"]'),
    ("roles.tf", "resources = [local.staging]", 'resources = ["*"]'),
    ("roles.tf", '["s3:PutObject"]', '["s3:PutObject", "s3:GetObject"]'),
    ("roles.tf", "/staging/*", "/*"),
    ("roles.tf", "StringLikeIfExists", "StringNotLike"),
]


def unnoticed(breakage):
    name, stands, broken = breakage
    assert stands in FILES[name], f"{name} has no {stands}: adapt the breakage"
    try:
        check({**FILES, name: FILES[name].replace(stands, broken, 1)})
    except AssertionError:
        return False
    return True


def main():
    try:
        count = check(FILES)
        missed = [breakage for breakage in BREAKAGES if unnoticed(breakage)]
        assert not missed, f"these would not be noticed: {json.dumps(missed)}"
    except AssertionError as error:
        sys.exit(f"ops/terraform/check: {error or 'an assertion failed'}")
    print(f"{len(FILES)} files, {count} blocks hold; {len(BREAKAGES)} breakages were noticed")


if __name__ == "__main__":
    main()
