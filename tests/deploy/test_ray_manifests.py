"""The KubeRay manifests, against the fields that KubeRay documents for ray.io/v1.

No package of PyPI carries KubeRay's own schema, so the one here is ours: the documented fields that a cluster or a job may have, everything
else refused. It holds no more than what is used here and its neighbours, and says nothing of what the operator does with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "ray"
TEXT, WHOLE, TRUTH = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}


def _only(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def _list(of: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": least}


AMOUNTS = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$"}}
RESOURCES = _only(requests=AMOUNTS, limits=AMOUNTS)
CONTAINER = _only(
    ("name", "image"),
    name=TEXT,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    env=_list(_only(("name",), name=TEXT, value=TEXT)),
    ports=_list(_only(("containerPort",), containerPort={"type": "integer", "minimum": 1, "maximum": 65535}, name=TEXT)),
    resources=RESOURCES,
    volumeMounts=_list(_only(("name", "mountPath"), name=TEXT, mountPath=TEXT, readOnly=TRUTH)),
)
EFFECT = {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]}
TOLERATION = _only(key=TEXT, operator={"enum": ["Exists", "Equal"]}, value=TEXT, effect=EFFECT)
VOLUME = _only(("name",), name=TEXT, persistentVolumeClaim=_only(("claimName",), claimName=TEXT, readOnly=TRUTH))
POD = _only(("containers",), containers=_list(CONTAINER, 1), volumes=_list(VOLUME), tolerations=_list(TOLERATION), nodeSelector=AMOUNTS)
TEMPLATE = _only(("spec",), spec=POD, metadata={"type": "object"})
START = {"type": "object", "additionalProperties": TEXT}  # numbers too are texts here
HEAD = _only(("template",), rayStartParams=START, template=TEMPLATE, serviceType=TEXT, enableIngress=TRUTH, resources=AMOUNTS)
WORKERS = _only(
    ("groupName", "template", "minReplicas", "maxReplicas"),
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    numOfHosts=WHOLE,
    idleTimeoutSeconds=WHOLE,
    suspend=TRUTH,
    rayStartParams=START,
    template=TEMPLATE,
)
UPSCALING = {"enum": ["Default", "Aggressive", "Conservative"]}
AUTOSCALER = _only(idleTimeoutSeconds=WHOLE, upscalingMode=UPSCALING, resources=RESOURCES, version={"enum": ["v1", "v2"]})
CLUSTER = _only(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling=TRUTH,
    autoscalerOptions=AUTOSCALER,
    suspend=TRUTH,
    headGroupSpec=HEAD,
    workerGroupSpecs=_list(WORKERS),
)
JOB = _only(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT,
    backoffLimit=WHOLE,
    activeDeadlineSeconds=WHOLE,
    shutdownAfterJobFinishes=TRUTH,
    ttlSecondsAfterFinished=WHOLE,
    runtimeEnvYAML=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    suspend=TRUTH,
    rayClusterSpec=CLUSTER,
)
ACCESS = _list({"enum": ["ReadWriteMany", "ReadWriteOnce"]}, 1)
CLAIM = _only(("accessModes", "resources"), accessModes=ACCESS, resources=RESOURCES, storageClassName=TEXT)
KINDS = {("ray.io/v1", "RayCluster"): CLUSTER, ("ray.io/v1", "RayJob"): JOB, ("v1", "PersistentVolumeClaim"): CLAIM}


def _documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            yield f"{file.name} {document['kind']}", document


DOCUMENTS = dict(_documents())


def _check(document: dict[str, Any]) -> None:
    spec = KINDS[document["apiVersion"], document["kind"]]
    metadata = _only(("name",), name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}, labels={"type": "object"})
    jsonschema.validate(
        document, _only(("apiVersion", "kind", "metadata", "spec"), apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec)
    )


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_manifest_has_documented_fields_only(document: dict[str, Any]) -> None:
    """A misspelt field would be dropped by the API server, or refused: here it is refused."""
    _check(document)


def test_the_schema_bites() -> None:
    """A field that is none, a number where a text belongs and a missing template are each refused."""
    cluster = yaml.safe_load(yaml.safe_dump(DOCUMENTS["cluster.yaml RayCluster"]))
    number = {**cluster["spec"]["headGroupSpec"], "rayStartParams": {"num-cpus": 0}}
    for change in ({"rayVerson": "2"}, {"headGroupSpec": {"rayStartParams": {}}}, {"rayVersion": 2.6}, {"headGroupSpec": number}):
        with pytest.raises(jsonschema.ValidationError):
            _check({**cluster, "spec": {**cluster["spec"], **change}})


def _clusters() -> dict[str, dict[str, Any]]:
    return {name: d["spec"].get("rayClusterSpec", d["spec"]) for name, d in DOCUMENTS.items() if d["kind"] != "PersistentVolumeClaim"}


@pytest.mark.parametrize("spec", _clusters().values(), ids=_clusters())
def test_clusters_are_what_searches_need(spec: dict[str, Any]) -> None:
    """The pinned Ray; the shared folder on every node; GPU workers, whose request is their limit; no trials on the head."""
    assert spec["rayVersion"] == version("ray")
    pods = [spec["headGroupSpec"]["template"]["spec"], *(group["template"]["spec"] for group in spec["workerGroupSpecs"])]
    for pod in pods:
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert {volume["name"]: mounts[volume["name"]] for volume in pod["volumes"]} == {"searches": "/searches"}
    gpus = [group["template"]["spec"]["containers"][0]["resources"] for group in spec["workerGroupSpecs"] if group["groupName"] == "gpu"]
    assert [(r["requests"]["nvidia.com/gpu"], r["limits"]["nvidia.com/gpu"]) for r in gpus] == [("1", "1")]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_job_runs_the_search_by_its_file() -> None:
    """What the job starts is the command of the documentation, and its file lies where all nodes see it."""
    assert DOCUMENTS["job.yaml RayJob"]["spec"]["entrypoint"] == "python -m training.search --config /searches/search.toml"
