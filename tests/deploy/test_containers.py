"""Containers: the files are what the tools that read them take, and name only what is in our code."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from deploy import dashboards, ready, reconciler
from deploy.metrics import DeployMetrics, exposed
from deploy.triton.backend_model import CUDA_VARIABLE
from ranking.layout import Layout
from services.features import settings as features
from services.gateway import settings as gateway
from services.rpc.settings import variable
from tests.deploy.test_observability import EXPORTED

ROOT = Path(dashboards.__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
KUBERNETES = "1.31.0"  # the oldest whose probes, policies and scalers these are
MANIFESTS = sorted((DEPLOY / "k8s").glob("*.yaml"))
OBJECTS = [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text())]
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
# Read by Feast and by feature_store.redis.yaml, by OpenTelemetry, by model.py within Triton.
ELSEWHERE = {"FEAST_FS_YAML_FILE_PATH", "LONGTAIL_FEATURE_REDIS", "OTEL_EXPORTER_OTLP_ENDPOINT", CUDA_VARIABLE}
LOADS = {"services.gateway": gateway, "services.features": features}


def _interpolated(text: str) -> str:
    """As Compose does where the shell sets nothing."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)


def of_kind(kind: str) -> list[Any]:
    return [one for one in OBJECTS if one["kind"] == kind]


def pods() -> Iterator[tuple[str, Any]]:
    for one in of_kind("Deployment"):
        yield one["metadata"]["name"], one["spec"]["template"]


def containers() -> list[Any]:
    return [pytest.param(c, id=f"{name}/{c['name']}") for name, pod in pods() for c in pod["spec"]["containers"]]


def starts(module: str, arguments: list[str], environment: Mapping[str, str]) -> None:
    """A module of ours exists, and takes these arguments and this environment."""
    assert importlib.util.find_spec(module) is not None
    known = {variable(f.name) for kind in LOADS.values() for f in dataclasses.fields(kind.Settings)} | ELSEWHERE
    assert set(environment) <= known
    if module in LOADS:
        loaded = LOADS[module].load(arguments, environment)
        mine = {variable(f.name): getattr(loaded, f.name) for f in dataclasses.fields(loaded)}
        for name, text in environment.items():
            if name in mine and text:
                assert str(mine[name]).lower() == text.lower() or float(mine[name]) == float(text)
    else:
        assert module == "deploy.reconciler"
        reconciler.parser().parse_args(arguments)


@pytest.mark.parametrize("path", DOCKERFILES, ids=[p.name for p in DOCKERFILES])
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    """And what is copied is there; nobody runs as root; no image without a version."""
    done = subprocess.run([Path(sys.executable).with_name("hadolint"), path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line
    assert re.findall(r"^USER (.*)$", text, re.M)[-1] == "1000"
    assert all(":" in image and not image.endswith(":latest") for image in re.findall(r"^FROM (\S+)", text, re.M))
    assert len(re.findall(r"^FROM", text, re.M)) == 2


def test_the_image_has_what_the_wheel_is_made_of() -> None:
    """Every package of the wheel is copied, and what is not in it but needed at run time."""
    text = (DEPLOY / "docker" / "longtail.Dockerfile").read_text()
    packages = re.search(r"^packages = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert packages is not None
    for package in json.loads(packages.group(1)):
        assert f"COPY {package.split('/')[0]} " in text
    assert "COPY feature_repo /opt/longtail/feature_repo" in text
    assert "-c constraints.txt" in text


def test_compose_takes_the_file() -> None:
    """The reader of the Compose specification takes it, and what services refer to is defined."""
    read = PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(_interpolated(COMPOSE_TEXT))))  # merged: it knows no merge keys
    read.validate()
    assert set(read.service_names()) == {"gateway", "features", "reconciler", "triton", "redis", "prometheus", "grafana"}
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        assert ":" in service["image"] or (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        named = {v.partition(":")[0] for v in service.get("volumes", ()) if v[0] not in "./$"}
        assert named <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("wrong", ["services: {a: {image: x, colour: red}}", "services: {a: {image: x, networks: [there]}}"])
def test_compose_files_that_are_wrong_are_refused(wrong: str) -> None:
    """The reader bites: an unknown key, a network nobody defined."""
    with pytest.raises(ValueError, match=r"colour|there"):
        PyCompose.from_yaml(wrong).validate()


@pytest.mark.parametrize("name", ["gateway", "features", "reconciler"])
def test_composes_services_start_as_said(name: str) -> None:
    """Module, options and variables are ours; a variable's default stands for what the shell does not set."""
    service = COMPOSE["services"][name]
    module, *arguments = service["command"]
    environment = {k: _interpolated(v) for k, v in service.get("environment", {}).items()}
    starts(module, arguments, environment)
    assert service["volumes"] == ["${LONGTAIL_HOME:-../.longtail}:/state"]


def test_what_compose_mounts_is_there() -> None:
    """Files of the project at paths that exist; the same state at the same place everywhere."""
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), (name, source)
    repository = Layout(Path("/state")).triton_repository
    assert f"--model-repository={repository}" in (DEPLOY / "docker" / "triton.Dockerfile").read_text()


def test_prometheus_asks_where_processes_answer() -> None:
    """Each target is a service and the port its metrics are on."""
    config = yaml.safe_load((DEPLOY / "observability" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    services = COMPOSE["services"]
    assert targets.pop("triton") == ["triton:8002"]  # tritonserver's default
    said = {name: json.dumps([services[name]["command"], services[name].get("environment")]) for name in targets}
    for job, (target,) in targets.items():
        host, _, port = target.partition(":")
        assert host == job
        assert f"0.0.0.0:{port}" in said[job]
    source = yaml.safe_load((DEPLOY / "observability" / "grafana" / "datasource.yml").read_text())["datasources"][0]
    assert source["uid"] == json.loads(dashboards.board("gateway"))["panels"][0]["datasource"]["uid"]
    provider = yaml.safe_load((DEPLOY / "observability" / "grafana" / "dashboards.yml").read_text())["providers"][0]
    assert any(v.endswith(f":{provider['options']['path']}:ro") for v in services["grafana"]["volumes"])


@pytest.mark.parametrize("manifest", [pytest.param(o, id=f"{o['kind']}-{o['metadata']['name']}") for o in OBJECTS])
def test_kubernetes_takes_the_manifest(manifest: Any) -> None:
    """By the API's own schema, unknown fields refused; all in one namespace."""
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    if manifest["kind"] != "Namespace":
        assert manifest["metadata"]["namespace"] == of_kind("Namespace")[0]["metadata"]["name"]


def test_a_manifest_that_is_wrong_is_refused() -> None:
    """The schema bites: a misspelt field."""
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("container", containers())
def test_kubernetes_containers_start_as_said(container: Any) -> None:
    """Module, options, variables and where they come from exist; secrets are never in the manifest."""
    configured = {k: v for c in container.get("envFrom", ()) for k, v in _config(c["configMapRef"]["name"]).items()}
    environment = (
        configured | {e["name"]: e.get("value", "redis://:secret@redis:6379/0") for e in container["env"]} if "env" in container else {}
    )
    assert all(e["valueFrom"]["secretKeyRef"]["name"] == "longtail-stores" for e in container.get("env", ()) if "valueFrom" in e)
    if "args" in container:
        module, *arguments = container["args"]
        starts(module, arguments, environment)
    else:
        assert container["image"].startswith("longtail-triton")
        assert set(environment) <= ELSEWHERE
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    for name, value in environment.items():
        if name.endswith("_ADDRESS"):
            assert int(value.rpartition(":")[2]) in ports.values()


def _config(name: str) -> dict[str, str]:
    return next(dict(o["data"]) for o in of_kind("ConfigMap") if o["metadata"]["name"] == name)


@pytest.mark.parametrize("container", containers())
def test_kubernetes_containers_are_bounded(container: Any) -> None:
    """No privileges, no root's capabilities, memory limited, an image by version."""
    secure = container["securityContext"]
    assert secure["allowPrivilegeEscalation"] is False
    assert secure["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]
    assert re.fullmatch(r"[\w-]+:\d+\.\d+\.\d+", container["image"])


def test_probes_ask_what_is_there() -> None:
    """gRPC health on ports that are open, of services the gateway has; commands of ours."""
    from services.feedback.servicer import NAME as FEEDBACK
    from services.gateway.servicer import NAME as RANKING
    from services.online.servicer import NAME as ONLINE

    asked = 0
    for _, pod in pods():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for c in pod["spec"]["containers"]:
            ports = {p["containerPort"] for p in c["ports"]} | {p["name"] for p in c["ports"]}
            for probe in (c[name] for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in c):
                asked += 1
                if "grpc" in probe:
                    assert probe["grpc"]["port"] in ports
                    assert probe["grpc"].get("service", FEEDBACK) in (FEEDBACK, RANKING, ONLINE)
                elif "exec" in probe:
                    *_, module, address = probe["exec"]["command"]
                    assert importlib.util.find_spec(module) is not None
                    assert int(address.rpartition(":")[2]) in ports
                else:
                    assert probe["httpGet"]["port"] in ports
            assert pod["metadata"]["annotations"]["prometheus.io/port"] in {str(p) for p in ports} or len(pod["spec"]["containers"]) > 1
    assert asked >= 6


def test_what_refers_finds() -> None:
    """Selectors, budgets, the scaler, volumes and policies name pods, ports and metrics that are there."""
    labels = {name: pod["metadata"]["labels"] for name, pod in pods()}
    open_ports = {p["containerPort"] for _, pod in pods() for c in pod["spec"]["containers"] for p in c["ports"]}

    def chosen(selector: Mapping[str, str]) -> list[str]:
        return [name for name, own in labels.items() if selector.items() <= own.items()]

    for one in of_kind("Deployment"):
        assert chosen(one["spec"]["selector"]["matchLabels"]) == [one["metadata"]["name"]]
        volumes = {v["name"] for v in one["spec"]["template"]["spec"]["volumes"]}
        for c in one["spec"]["template"]["spec"]["containers"]:
            assert {m["name"] for m in c["volumeMounts"]} <= volumes
    for one in of_kind("Service"):
        (name,) = chosen(one["spec"]["selector"])
        ports = {p["name"]: p["containerPort"] for n, pod in pods() if n == name for c in pod["spec"]["containers"] for p in c["ports"]}
        assert all(ports[p["targetPort"]] == p["port"] for p in one["spec"]["ports"])
    for one in of_kind("PodDisruptionBudget"):
        (name,) = chosen(one["spec"]["selector"]["matchLabels"])
        replicas = next(d["spec"]["replicas"] for d in of_kind("Deployment") if d["metadata"]["name"] == name)
        assert one["spec"]["minAvailable"] < replicas
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] in labels
    metric = scaler["spec"]["metrics"][0]["pods"]["metric"]
    assert set(metric["selector"]["matchLabels"]) <= EXPORTED[metric["name"]]
    for one in of_kind("NetworkPolicy"):
        selector = one["spec"]["podSelector"].get("matchLabels", {})
        assert chosen(selector)
        for rule in one["spec"].get("ingress", ()):
            assert {p["port"] for p in rule["ports"]} <= open_ports


async def test_ready_is_what_the_reconciler_says() -> None:
    """The exit status of the pod's readiness probe follows the metric."""
    import asyncio

    metrics = DeployMetrics()
    with exposed("127.0.0.1:0", metrics) as address:
        assert await asyncio.to_thread(ready.main, [address]) == 1
        metrics.said(ready=True, release="r1")
        assert await asyncio.to_thread(ready.main, [address]) == 0
    assert await asyncio.to_thread(ready.main, [address]) == 1
    assert ready.main([]) == 2
