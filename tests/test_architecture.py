"""The import arrows of the house, and what must start without what.

The contracts stand in `.importlinter`; here they are run, and each is shown to bite: a copy of the house with one forbidden import
planted in it must be refused. Imports inside functions count like any other.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("ranking", "training", "deploy", "services")
PACKAGES = (*ROOMS, "cli")
HEAVY = ("torch", "ray", "transformers", "imblearn", "sklearn", "lightgbm")

# What the core may use of the standard library: values, types, arithmetic. No clock, no file, no socket, no process, no chance.
CORE_MAY_IMPORT = {
    "__future__", "collections", "collections.abc", "dataclasses", "datetime", "enum", "functools", "hashlib", "json", "math", "pathlib",
    "re", "typing", "unicodedata",
}  # fmt: skip


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(house), str(house / "protos" / "gen")]), "PYTHONIOENCODING": "utf-8"}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", str(house / ".importlinter")]
    return subprocess.run(command, cwd=house, env=env, capture_output=True, text=True, check=False)


def test_every_arrow_points_the_right_way() -> None:
    """All contracts of `.importlinter` are kept."""
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the rooms, to plant forbidden imports in."""
    copy = tmp_path_factory.mktemp("house")
    for room in (*PACKAGES, "protos/gen"):
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", copy)
    return copy


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("ranking", "import services", "ranking imports nothing of ours"),
        ("ranking", "import longtail.ranking", "ranking imports nothing of ours"),
        ("training", "import deploy", "training, deploy and services never import each other"),
        ("deploy", "import services.rpc", "training, deploy and services never import each other"),
        ("services", "import training.release.publish", "training, deploy and services never import each other"),
        ("services", "import torch", "services load no training library"),
        ("services", "from transformers import AutoModel", "services load no training library"),
        ("services", "import imblearn.over_sampling", "services load no training library"),
        ("training", "import grpc.aio", "training knows neither gRPC nor the wire's messages"),
        ("training", "from google.protobuf import text_format", "training knows neither gRPC nor the wire's messages"),
        ("training", "from longtail.ranking.v1 import ranking_service_pb2", "training knows neither gRPC nor the wire's messages"),
        ("deploy", "import torch", "deploy loads no training library"),
        (
            "deploy",
            "import tritonclient.grpc",
            "tritonclient is known to its adapters alone",
        ),
        ("services", "import feast", "feast is known to training's dataset and to the services' feature store"),
        ("training", "from ray import tune", "ray is known to what runs the search's trials and to what submits them"),
        ("services", "import redis.asyncio", "redis is known to the stores' adapter"),
        ("training", "from peft import LoraConfig", "peft is known to the ways of tuning BERT"),
        ("training", "import fsspec", "fsspec is known to deploy's store elsewhere"),
        ("services", "from opentelemetry import trace", "opentelemetry is known to the servers' tracing"),
        ("deploy", "from cyclonedx.model.bom import Bom", "cyclonedx is known to the bill of materials"),
    ],
)
def test_a_forbidden_import_is_caught_even_inside_a_function(house: Path, room: str, line: str, contract: str) -> None:
    """One forbidden line anywhere in a room breaks the contract that forbids it."""
    planted = house / room / "planted.py"
    planted.write_text(f"def late() -> None:\n    {line}\n", "utf-8")
    try:
        said = lint_imports(house).stdout
    finally:
        planted.unlink()
    assert f"{contract} BROKEN" in said, said
    assert f"{room}.planted ->" in said, said


CIRCLE = """
import graphlib, sys
import grimp

graph = grimp.build_graph(*sys.argv[1:], cache_dir=None)
imports = {name: sorted(graph.find_modules_directly_imported_by(name) - {name}) for name in sorted(graph.modules)}  # some run themselves
try:
    graphlib.TopologicalSorter(imports).prepare()
except graphlib.CycleError as error:
    sys.exit("a circle: " + " -> ".join(reversed(error.args[1])))
"""


def circle(house: Path) -> str:
    """One circle of modules that import each other, inside functions and for type checkers too; empty: there is none."""
    env = os.environ | {"PYTHONPATH": str(house)}
    command = [sys.executable, "-c", CIRCLE, *PACKAGES]
    done = subprocess.run(command, cwd=house, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or done.stderr.startswith("a circle: "), done.stderr
    return done.stderr


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Every module can be read, and changed, after those it imports and without those that import it."""
    assert not circle(ROOT)


@pytest.mark.parametrize(
    "line",
    ["def late() -> None:\n    from services.second import answer\n", "if TYPE_CHECKING:\n    from services import second\n"],
    ids=["inside a function", "for the type checker"],
)
def test_a_circle_is_named(house: Path, line: str) -> None:
    """Two modules that know each other, however late, are found and told."""
    planted = {"first": f"from typing import TYPE_CHECKING\n\n{line}", "second": "import services.first\n"}
    for name, text in planted.items():
        (house / "services" / f"{name}.py").write_text(text, "utf-8")
    try:
        said = circle(house)
    finally:
        for name in planted:
            (house / "services" / f"{name}.py").unlink()
    assert said.strip() in {
        "a circle: services.first -> services.second -> services.first",
        "a circle: services.second -> services.first -> services.second",
    }


def imported(path: Path) -> set[str]:
    """Every module a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add(node.module or "")
    return found


CORE = sorted((ROOT / "ranking").rglob("*.py"))


@pytest.mark.parametrize("path", CORE, ids=[p.stem for p in CORE])
def test_the_core_imports_numpy_and_a_little_of_the_standard_library(path: Path) -> None:
    """`ranking/` knows numpy, itself, and the parts of the standard library that do no I/O and tell no time."""
    foreign = {m for m in imported(path) if m.split(".")[0] not in {"numpy", "ranking"}} - CORE_MAY_IMPORT
    assert not foreign


@pytest.mark.parametrize("path", CORE, ids=[p.stem for p in CORE])
def test_the_core_does_no_io(path: Path) -> None:
    """No file is opened or path read, no clock asked, nothing printed, and every random generator is given its seed."""
    touches = {"open", "print", "input", "exec", "eval", "__import__"}
    methods = {
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "mkdir",
        "exists",
        "unlink",
        "iterdir",
        "now",
        "today",
        "utcnow",
        "tofile",
        "memmap",
    }
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name):
            assert function.id not in touches, f"line {node.lineno}: {function.id}()"
        elif isinstance(function, ast.Attribute):
            assert function.attr not in methods, f"line {node.lineno}: .{function.attr}()"
            if ast.unparse(function).startswith("np.random"):
                assert function.attr == "default_rng", f"line {node.lineno}: numpy's global generator is hidden state"
                assert node.args, f"line {node.lineno}: a generator without a seed"


BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed here", name=name)
        return None

sys.meta_path.insert(0, Absent())
{line}
"""


def without_heavy(line: str) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(heavy=set(HEAVY), line=line)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["services.gateway.server", "services.gateway.__main__", "services.feature_store.feast", "feast"])
def test_the_gateway_starts_where_no_training_library_is_installed(module: str) -> None:
    """The gateway's modules, and Feast that it loads while starting, import with every training library absent."""
    done = without_heavy(f"import {module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", HEAVY)
def test_the_blocker_blocks(library: str) -> None:
    """The test above means something: with the same blocker a training library cannot be imported."""
    done = without_heavy(f"import {library}")
    assert done.returncode != 0
    assert f"{library} is not installed here" in done.stderr
