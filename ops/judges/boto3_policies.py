#!/usr/bin/env python3
"""Prints random POST policies as boto3 signs them, one JSON object per line, the same ones at every run.

    boto3_policies.py COUNT

boto3's `generate_presigned_post` decides about the document, its base64 and the signature; this script only makes up what
is asked of it, and sets the clock that it reads.
"""

import base64
import datetime
import hashlib
import json
import random
import sys
import uuid

import boto3
import botocore.auth
import botocore.signers
from botocore.config import Config

REGIONS = ["us-east-1", "eu-west-1", "eu-central-1", "ap-northeast-1", "sa-east-1", "local"]
TYPES = ["text/plain", "image/png", "application/x-\"quoted\"", "text/plain; charset=utf-8", "видео/mp4"]
LETTERS = "abcXYZ019-_.~+ =&%$\"'\\/üя漢🎉"


def text(dice, least, most):
    return "".join(dice.choice(LETTERS) for _ in range(dice.randint(least, most)))


def secret(dice):
    return "".join(dice.choice("ABCxyz0189+/") for _ in range(40))


def question(dice):
    """What a policy is to allow, in the service's own terms, and by whose signature."""
    least = dice.randint(0, 5_000_000_000)
    now = datetime.datetime(2015, 1, 1) + datetime.timedelta(seconds=dice.randint(0, 20 * 365 * 86400))
    return {
        "accessKeyId": "AKIA" + "".join(dice.choice("ABCXYZ0189") for _ in range(16)),
        "secretAccessKey": secret(dice),
        "sessionToken": text(dice, 50, 900) if dice.random() < 0.5 else None,
        "region": dice.choice(REGIONS),
        "signedAt": int((now - datetime.datetime(1970, 1, 1)).total_seconds()),
        "life": dice.randint(1, 7 * 86400),
        "bucket": "bucket-" + str(dice.randint(0, 10**9)),
        "key": "staging/" + text(dice, 1, 200),
        "minSize": least,
        "maxSize": dice.randint(least, 5_000_000_000),
        "contentType": dice.choice(TYPES) if dice.random() < 0.6 else None,
        "sha256": hashlib.sha256(dice.randbytes(8)).hexdigest() if dice.random() < 0.5 else None,
        "owner": str(uuid.UUID(bytes=dice.randbytes(16))),
        "isPrefix": dice.random() < 0.3,
        "traceparent": f"00-1{dice.randbytes(15).hex()}f-1{dice.randbytes(7).hex()}f-01" if dice.random() < 0.5 else None,
    }


def fields_of(asked):
    """The form's fields that are not for boto3 to add."""
    owner = "batch" if asked["isPrefix"] else "upload"
    fields = {"success_action_status": "201", f"x-amz-meta-{owner}-id": asked["owner"]}
    if asked["contentType"] is not None:
        fields["Content-Type"] = asked["contentType"]
    if asked["traceparent"] is not None:
        fields["x-amz-meta-traceparent"] = asked["traceparent"]
    if asked["sha256"] is not None:
        fields["x-amz-checksum-algorithm"] = "SHA256"
        fields["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(asked["sha256"])).decode()
    return fields


def answer(asked):
    now = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=asked["signedAt"])
    botocore.auth.get_current_datetime = botocore.signers.get_current_datetime = lambda *_, **__: now
    client = boto3.client(
        "s3",
        region_name=asked["region"],
        endpoint_url="http://localhost",
        aws_access_key_id=asked["accessKeyId"],
        aws_secret_access_key=asked["secretAccessKey"],
        aws_session_token=asked["sessionToken"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    fields = fields_of(asked)
    conditions = [{name: value} for name, value in fields.items()]
    conditions.append(["content-length-range", asked["minSize"], asked["maxSize"]])
    # With a key that ends so, boto3 makes the condition on its beginning by itself.
    key = asked["key"] + ("${filename}" if asked["isPrefix"] else "")
    form = client.generate_presigned_post(asked["bucket"], key, fields, conditions, asked["life"])
    return {"asked": asked, "url": form["url"], "fields": form["fields"]}


def main():
    dice = random.Random(20151229)
    for _ in range(int(sys.argv[1])):
        print(json.dumps(answer(question(dice))))


if __name__ == "__main__":
    main()
