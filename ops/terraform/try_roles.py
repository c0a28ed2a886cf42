"""Tries the policies of roles.tf on a server that judges requests by IAM: each role must be able to do what it is for, and
nothing else of what the others do. MiniStack with AUTH=true is such a server."""

import json
import os
import sys
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

import check

DENIED = {"AccessDenied", "403"}

# What each role gets to do of ATTEMPTS below; everything else is to be denied.
LOOKS = {"head staging", "see that it is missing", "head bucket", "list staging"}
MAY = {
    "signer": {"put staging"},
    "intake": {*LOOKS, "put staging", "delete staging", "head blobs", "list blobs", "receive", "delete message"},
    "worker": {*LOOKS, "delete staging", "head blobs", "list blobs", "put blobs", "copy to blobs", "delete blobs"},
    "sweeper": {*LOOKS, "delete staging", "head blobs", "list blobs", "delete blobs"},
}


def client(service, key="test", secret="test"):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    keys = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "us-east-1"}
    return boto3.client(service, endpoint_url=os.environ["LONGSHORE_TEST_AWS"], config=config, **keys)


def policy(found, role, name):
    """The document that Terraform would render for a bucket and a queue of this name."""
    arns = {
        "staging": f"arn:aws:s3:::{name}/staging/*",
        "blobs": f"arn:aws:s3:::{name}/blobs/*",
        "bucket": f"arn:aws:s3:::{name}",
        "notices": f"arn:aws:sqs:us-east-1:000000000000:{name}",
    }
    statements = []
    for statement in check.document(found, role):
        places = [arns[check.PLACES[place]] for place in statement["resources"]]
        rendered = {"Effect": "Allow", "Action": statement["actions"], "Resource": places}
        for (test, variable), values in check.conditions(statement).items():
            rendered.setdefault("Condition", {}).setdefault(test, {})[variable] = values
        statements.append(rendered)
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def attempts(s3, sqs, name, queue, receipt):
    """What the processes do, by name."""
    at = {"Bucket": name}
    return {
        "put staging": lambda: s3.put_object(**at, Key="staging/new", Body=b"bytes"),
        "put blobs": lambda: s3.put_object(**at, Key="blobs/new", Body=b"bytes"),
        "put elsewhere": lambda: s3.put_object(**at, Key="elsewhere", Body=b"bytes"),
        "head staging": lambda: s3.head_object(**at, Key="staging/old"),
        "see that it is missing": lambda: s3.head_object(**at, Key="staging/missing"),
        "head blobs": lambda: s3.head_object(**at, Key="blobs/old"),
        "copy to blobs": lambda: s3.copy_object(**at, Key="blobs/copy", CopySource=f"{name}/staging/old"),
        "list staging": lambda: s3.list_objects_v2(**at, Prefix="staging/"),
        "list blobs": lambda: s3.list_objects_v2(**at, Prefix="blobs/"),
        "list elsewhere": lambda: s3.list_objects_v2(**at, Prefix="else"),
        "head bucket": lambda: s3.head_bucket(**at),
        "delete staging": lambda: s3.delete_object(**at, Key="staging/old"),
        "delete blobs": lambda: s3.delete_object(**at, Key="blobs/old"),
        "receive": lambda: sqs.receive_message(QueueUrl=queue),
        "delete message": lambda: sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipt),
        "send": lambda: sqs.send_message(QueueUrl=queue, MessageBody="forged"),
    }


def is_allowed(attempt):
    try:
        attempt()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in {*DENIED, "404"}, error
        return code not in DENIED
    return True


def role_findings(found, role, name, queue):
    """Where the role may more or less than it should."""
    iam, user = client("iam"), f"{name}-{role}"
    iam.create_user(UserName=user)
    iam.put_user_policy(UserName=user, PolicyName="role", PolicyDocument=policy(found, role, name))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    for old in ("staging/old", "blobs/old"):
        client("s3").put_object(Bucket=name, Key=old, Body=b"bytes")
    client("sqs").send_message(QueueUrl=queue, MessageBody="notice")
    receipt = client("sqs").receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"]
    s3, sqs = (client(service, key["AccessKeyId"], key["SecretAccessKey"]) for service in ("s3", "sqs"))
    tried = attempts(s3, sqs, name, queue, receipt)
    may = {what for what, attempt in tried.items() if is_allowed(attempt)}
    return [f"{role}: {what} is {'allowed' if what in may else 'denied'}" for what in sorted(may ^ MAY[role])]


def main():
    name = f"roles-{uuid.uuid4().hex[:12]}"
    client("s3").create_bucket(Bucket=name)
    queue = client("sqs").create_queue(QueueName=name)["QueueUrl"]
    found = check.blocks(check.FILES)
    findings = [finding for role in check.RIGHTS for finding in role_findings(found, role, name, queue)]
    if findings:
        sys.exit("ops/terraform/check: " + "; ".join(findings))
    print(f"{len(MAY)} roles may do what they are for and nothing else")


main()
