"""The files of orchestrator/deploy are what their readers take, as far as that is known offline."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import botocore.session
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator
from packaging.requirements import Requirement
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config

from orchestrator import command_line, submit_options
from orchestrator.cluster_settings import require_remote
from orchestrator.settings import SweepSettings, load_settings
from orchestrator.submission import STOP_WAIT_S, Job

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "orchestrator" / "deploy"
LOCK = (ROOT / "requirements.lock").read_text()
RAY = version("ray")
IMAGE = f"registry.example.org/monocon-sweep:{version('monocon-sweep')}-ray{RAY}"
USER = 1000
"""The id of the image's user."""
DRIVERS = {"13": 580}
"""The first driver of NVIDIA that runs a major version of CUDA, by NVIDIA's release notes."""
KUBERNETES = kubernetes_validate.latest_version()
RAY_JOB = {
    "entrypoint", "metadata", "runtimeEnvYAML", "backoffLimit", "submitterConfig", "rayClusterSpec",
    "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "jobId", "submissionMode", "suspend",
    "activeDeadlineSeconds", "submitterPodTemplate",
}  # fmt: skip
RAY_CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "autoscalerOptions"}
HEAD_GROUP = {"rayStartParams", "template", "serviceType"}
WORKER_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
"""Fields of KubeRay 1.6's API reference, of which these are those that one may want here."""


def documents() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text())}


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "cluster.yaml").read_text())


@pytest.fixture
def job() -> dict[str, Any]:
    return documents()["RayJob"]["spec"]


@pytest.fixture
def settings(tmp_path: Path) -> SweepSettings:
    """Of the search space that comes with the job."""
    (tmp_path / "sweep.yaml").write_text(documents()["ConfigMap"]["data"]["sweep.yaml"])
    return load_settings(tmp_path / "sweep.yaml")


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in groups(job):
        yield from group["template"]["spec"]["containers"]


def test_the_launcher_takes_the_cluster(cluster: dict[str, Any]) -> None:
    config = prepare_config(cluster)
    validate_config(config)
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        validate_config({**config, "workers": 4})


def test_aws_takes_the_nodes(cluster: dict[str, Any]) -> None:
    service = botocore.session.get_session().get_service_model("ec2")
    fields = service.operation_model("RunInstances").input_shape
    for node in cluster["available_node_types"].values():
        config = {**node["node_config"], "MinCount": 1, "MaxCount": 1}
        report = ParamValidator().validate(config, fields)
        assert not report.has_errors(), report.generate_report()
        assert ParamValidator().validate({**config, "ImageID": ""}, fields).has_errors()


def test_a_node_has_a_driver_for_the_locked_cuda_and_room_for_the_image(cluster: dict[str, Any]) -> None:
    (cuda,) = re.findall(r"^cuda-toolkit==(\d+)\.", LOCK, re.MULTILINE)
    text = (DEPLOY / "cluster.yaml").read_text()
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines())
    assert f"driver {DRIVERS[cuda]} or newer" in comment and f"cuda-toolkit {cuda}" in comment
    for node in cluster["available_node_types"].values():
        assert node["node_config"]["ImageId"] == "ami-IMAGE"
        (disk,) = node["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["VolumeSize"] >= 100
    assert len(re.findall(r"ImageId: ami-IMAGE +# change", text)) == len(cluster["available_node_types"])


@pytest.mark.slow
def test_a_worker_without_its_gpu_does_not_start(cluster: dict[str, Any]) -> None:
    import torch

    (command,) = cluster["worker_setup_commands"]
    python, *words = shlex.split(command)
    assert python == "python"
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert (ended.returncode == 0) == torch.cuda.is_available(), ended.stderr


@pytest.mark.parametrize("node", ["head", "worker"])
def test_what_cluster_env_holds_is_read_as_it_is(
    cluster: dict[str, Any], node: str, tmp_path: Path
) -> None:
    values = {
        "MLFLOW_TRACKING_PASSWORD": "a $HOME&touch made;touch made #b 'c\"d `touch made` \\e*!!",
        "AWS_SECRET_ACCESS_KEY": "Zm9v/+==",
        "RAY_AUTH_MODE": "disabled",
        "LAST": " without a newline = ",
    }
    lines = ["# of the tracking server", "", *(f"{key}={value}" for key, value in values.items())]
    (tmp_path / "cluster.env").write_text("\n".join(lines))
    (tmp_path / "ray").write_text('#!/bin/sh\nenv -0 >"$HOME/told"\n')
    (tmp_path / "ray").chmod(0o755)
    (tmp_path / ".bashrc").write_text('PATH="$HOME:$PATH"\n')
    start = cluster[f"{node}_start_ray_commands"][-1]
    assert "/home/ray/cluster.env" in cluster["file_mounts"]
    command = start.replace("/home/ray/cluster.env", str(tmp_path / "cluster.env"))
    subprocess.run(
        " ".join(_with_interactive(command)),  # as Ray has it run
        shell=True,
        check=True,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    told = dict(each.split("=", 1) for each in (tmp_path / "told").read_text().split("\0") if each)
    assert told.items() >= {**values, "RAY_AUTH_MODE": "token"}.items()
    assert not (tmp_path / "made").exists()


def test_the_shared_folder_is_mounted_and_then_given_to_the_user_of_the_image(
    cluster: dict[str, Any], job: dict[str, Any]
) -> None:
    commands = cluster["initialization_commands"]
    storage = "/mnt/shared/runs"
    parts = (
        *("install -y nfs-common", "sudo mount -t nfs4"),
        *(f"sudo mkdir -p {storage}", f"sudo chown {USER}:{USER} {storage}"),
    )
    places = ["\n".join(commands).index(part) for part in parts]
    assert places == sorted(places)
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert f"--set storage={storage}" in (DEPLOY / "cluster.yaml").read_text()
    for group in groups(job):
        assert group["template"]["spec"]["securityContext"]["fsGroup"] == USER


def test_the_cluster_asks_for_its_token_and_shows_no_page_to_others(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]]
    assert all("export RAY_AUTH_MODE=token; ray start " in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert cluster["docker"]["image"] == IMAGE
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_kubernetes_takes_what_is_its_own(job: dict[str, Any]) -> None:
    for kind, document in documents().items():
        if kind != "RayJob":
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for group in groups(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        pod["spec"]["containers"][0]["volumeMount"] = []
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_kuberay_knows_every_field(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    assert job.keys() <= RAY_JOB
    assert cluster.keys() <= RAY_CLUSTER
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"].keys() <= HEAD_GROUP
    assert all(group.keys() <= WORKER_GROUP for group in cluster["workerGroupSpecs"])
    for group in groups(job):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_every_node_runs_the_locked_ray(job: dict[str, Any]) -> None:
    assert job["rayClusterSpec"]["rayVersion"] == RAY
    assert {container["image"] for container in containers(job)} == {IMAGE}
    (base,) = re.findall(r"^FROM (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert base == f"rayproject/ray:{RAY}-py311-gpu"


def test_the_image_holds_what_is_packaged() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {
        word for line in re.findall(r"^COPY .*$", text, re.MULTILINE) for word in line.split()[2:-1]
    }
    assert copied == {
        *("pyproject.toml", "requirements.lock", "README.md", "LICENSE"),
        *("orchestrator", "trainables", "dashboards"),
    }
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_has_every_extra_as_it_is_locked() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    (line,) = re.findall(r"^RUN (pip install .*)$", text, re.MULTILINE)
    words = shlex.split(line)
    assert words[words.index("--constraint") + 1] == "/home/ray/monocon/requirements.lock"
    *_, project, with_botocore = words
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert project == f"/home/ray/monocon[{','.join(reversed(extras))}]"
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE))
    for requirement in map(Requirement, [*chain(*extras.values()), with_botocore]):
        assert requirement.specifier.contains(locked[requirement.name]), requirement
    assert locked["boto3"] == locked["botocore"]


def test_a_retry_is_the_same_sweep(job: dict[str, Any], settings: SweepSettings) -> None:
    words = shlex.split(job["entrypoint"])
    assert words[:4] == ["exec", "python", "-m", "orchestrator.sweep"]
    options = command_line.parse(words[4:])
    assert options.or_resume and options.address == "auto"
    assert job["backoffLimit"] > 0
    found = Job("a", "RUNNING", metadata=job["metadata"])
    assert (found.metadata["sweep"], found.storage) == (options.name, settings.storage)
    (sweep,) = [
        mount["mountPath"] for mount in next(containers(job))["volumeMounts"] if mount["name"] == "sweep"
    ]
    assert options.file == Path(sweep) / "sweep.yaml"


def test_the_end_of_the_head_is_a_tidy_stop(job: dict[str, Any]) -> None:
    pod = groups(job)[0]["template"]["spec"]
    words = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert words[:3] == ["python", "-m", "orchestrator.submit"]
    options = submit_options.parse(words[3:])
    assert (options.stop, options.address) == (job["metadata"]["sweep"], "http://127.0.0.1:8265")
    assert pod["terminationGracePeriodSeconds"] > STOP_WAIT_S
    variables = yaml.safe_load(job["runtimeEnvYAML"])["env_vars"]
    assert variables == {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}


def test_the_search_space_is_one_of_a_cluster(job: dict[str, Any], settings: SweepSettings) -> None:
    require_remote(settings)
    for container in containers(job):
        (shared,) = [
            mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "shared"
        ]
        assert Path(settings.storage).is_relative_to(shared)
    *_, worker = containers(job)
    limits = worker["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) >= settings.resources.gpus
    assert int(limits["cpu"]) >= settings.resources.cpus


def test_no_secret_is_written_down(job: dict[str, Any]) -> None:
    given = [variable for container in containers(job) for variable in container.get("env", [])]
    assert {variable["name"] for variable in given} == {
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    }
    assert all(variable.keys() == {"name", "valueFrom"} for variable in given)
