from __future__ import annotations

import pytest
import requests
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from orchestrator.operation_queue import is_refused_for_good


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status}", response=response)


def answered_by_s3(status: int) -> ClientError:
    return ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


ERRORS: dict[str, tuple[Exception, bool]] = {
    "a wrong request": (MlflowException("x", INVALID_PARAMETER_VALUE), True),
    "a busy server": (MlflowException("x", TEMPORARILY_UNAVAILABLE), False),
    "wrong credentials": (answered(401), False),
    "too many requests": (answered(429), False),
    "a path that is forbidden": (answered(403), True),
    "a server's fault": (answered(503), False),
    "no connection": (requests.ConnectionError("x"), False),
    "S3 that cannot be reached": (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), False),
    "an upload to S3 that broke off": (S3UploadFailedError("x"), False),
    "S3's own fault": (answered_by_s3(503), False),
    "a bucket that is not there": (answered_by_s3(404), True),
    "a file that may not be read": (PermissionError("x"), True),
    "a disk that is away": (OSError("x"), False),
    "a bug": (KeyError("x"), True),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_may_pass_is_tried_again_and_what_cannot_is_left_out(name: str) -> None:
    error, is_final = ERRORS[name]
    assert is_refused_for_good(error) is is_final
