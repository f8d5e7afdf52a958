"""Looks into a bucket behind the server's back, see answers.py.

    s3.py ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY BUCKET
"""

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from answers import serve
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, access_key_id, secret_access_key, bucket = sys.argv[1:]
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    aws_access_key_id=access_key_id,
    aws_secret_access_key=secret_access_key,
    region_name="us-east-1",
    # Checksums in trailers are newer than the gateway that Debian ships.
    config=Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"max_attempts": 5},
    ),
)


def keys():
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def uploads():
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    return [(item["Key"], item["UploadId"]) for page in pages for item in page.get("Uploads", [])]


def put(key, file, storage_class=None):
    more = {"StorageClass": storage_class} if storage_class else {}
    with open(file, "rb") as body:
        s3.put_object(Bucket=bucket, Key=key, Body=body, **more)


def head(key, customer_key):
    more = {}
    if customer_key:
        more = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": base64.b64decode(customer_key)}
    found = s3.head_object(Bucket=bucket, Key=key, **more)
    shown = ("ServerSideEncryption", "SSEKMSKeyId", "SSECustomerAlgorithm", "StorageClass")
    return {name: found[name] for name in shown if name in found}


def put_empty(keys):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b""), keys))


def get(key, file):
    try:
        s3.download_file(bucket, key, file)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return False
        raise
    return True


def leave_open(key):
    """Begins a multipart upload and forgets it, as a server would that fails to abort."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 100)


def end_incomplete_uploads_by_rule():
    rule = {
        "ID": "incomplete",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


def allow_all_but(user, action):
    """Lets another user of the gateway do everything in the bucket, but for one action."""
    statement = {
        "Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]},
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    statements = [{"Effect": "Allow", "Action": "s3:*", **statement}]
    if action:
        statements.append({"Effect": "Deny", "Action": action, **statement})
    policy = {"Version": "2012-10-17", "Statement": statements}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def remove_all():
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.delete_object(Bucket=bucket, Key=key), keys()))


def destroy():
    for key, upload in uploads():
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    remove_all()
    s3.delete_bucket(Bucket=bucket)


serve({
    "create": lambda: s3.create_bucket(Bucket=bucket) and None,
    "put": put,
    "head": head,
    "put_empty": put_empty,
    "get": get,
    "list": keys,
    "uploads": uploads,
    "leave_open": leave_open,
    "end_incomplete_uploads_by_rule": end_incomplete_uploads_by_rule,
    "allow_all_but": allow_all_but,
    "remove_all": remove_all,
    "destroy": destroy,
})
