"""A store that speaks S3, for the tests: moto on a free port, with one bucket and one user who may use it.

Says where it is and with which key in one line, then waits for the end of its input and stops. It checks credentials
and signatures: the first calls make the user, and from then on nobody is let in without a key.
"""

import json
import os
import sys

BUCKET = sys.argv[1]
# What is asked below before the user exists.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"


def ask(service):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="first",
        aws_secret_access_key="first",
    )


iam = ask("iam")
iam.create_user(UserName="lantern")
rule = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
iam.put_user_policy(UserName="lantern", PolicyName="bodies", PolicyDocument=policy)
key = iam.create_access_key(UserName="lantern")["AccessKey"]
ask("s3").create_bucket(Bucket=BUCKET)

print(endpoint, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
sys.stdin.read()
server.stop()
