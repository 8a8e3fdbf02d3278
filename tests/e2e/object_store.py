"""A real S3 server on loopback, which tests stop and start again."""

from __future__ import annotations

import logging
from typing import Any

import boto3
from moto.server import ThreadedMotoServer
from servers import free_port

ADDRESS = "127.0.0.1"
KEY, SECRET, REGION = "tests", "of-no-account", "us-east-1"


class ObjectStore:
    """An S3 server with an empty bucket, `sweeps`; what it holds outlives a stop.

    Attributes:
        environment: the variables by which clients find it and may use it.
        client: to look at it.
    """

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it has a line for each request
        self._port = free_port()
        url = f"http://{ADDRESS}:{self._port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": url,
        }
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
        )
        self.start()
        self.client.create_bucket(Bucket="sweeps")

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address=ADDRESS, port=self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """From now on connections are refused."""
        self._server.stop()

    def names(self, prefix: str) -> set[str]:
        """Of all objects of the bucket below a prefix, relative to it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="sweeps", Prefix=prefix)
        return {item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])}
