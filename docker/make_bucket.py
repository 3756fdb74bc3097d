"""Makes a bucket on the S3 server at MLFLOW_S3_ENDPOINT_URL unless it is there: python make_bucket.py NAME"""

import os
import sys

import boto3
from botocore.exceptions import ClientError


def main(bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as problem:
        if problem.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        client.create_bucket(Bucket=bucket)


if __name__ == "__main__":
    main(sys.argv[1])
