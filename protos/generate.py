"""The only writer of `protos/gen`: Python messages, gRPC stubs and their type stubs from every .proto file beside this one.

    python protos/generate.py            writes gen/
    python protos/generate.py --check    exits 1 and names the files when gen/ is not what this would write

`protos/gen` is an import root of its own, so generated code imports itself as `longtail.<area>.v1` and nothing is rewritten.
Knows nothing of what the messages mean.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
GEN = HERE / "gen"
TOOLS = "1.81.1"  # generated code names the version that made it: another one would change every file and the protobuf it needs


def generate(into: Path) -> None:
    """Write the code of all .proto files under `into`, which is created and must be empty.

    Raises:
        RuntimeError: grpcio-tools is not the pinned version, or protoc refuses a file.
    """
    found = version("grpcio-tools")
    if found != TOOLS:
        raise RuntimeError(f"grpcio-tools {TOOLS} is required, found {found}")
    import grpc_tools
    from grpc_tools import protoc

    into.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(p.relative_to(HERE)) for p in (HERE / "longtail").rglob("*.proto"))
    bundled = Path(grpc_tools.__file__).parent / "_proto"  # google/protobuf/*.proto
    scripts = Path(sys.executable).parent  # where this environment's protoc plugins are
    code = protoc.main(
        [
            "protoc",
            f"-I{HERE}",
            f"-I{bundled}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={into}",
            f"--grpc_python_out={into}",
            f"--mypy_out=quiet:{into}",
            f"--mypy_grpc_out=quiet:{into}",
            *sources,
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc refused the files with exit code {code}")


def files(root: Path) -> dict[str, bytes]:
    """Relative path -> content of every file under `root`, byte code apart."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and "__pycache__" not in p.parts}


def differences(expected: Path, actual: Path) -> list[str]:
    """One line per file that is missing from, extra in or changed in `actual`."""
    want, have = files(expected), files(actual)
    return (
        [f"missing: {name}" for name in sorted(want.keys() - have.keys())]
        + [f"not generated: {name}" for name in sorted(have.keys() - want.keys())]
        + [f"differs: {name}" for name in sorted(want.keys() & have.keys()) if want[name] != have[name]]
    )


def main(argv: list[str] | None = None) -> int:
    """Generate or check; returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate protos/gen.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when gen/ is not fresh")
    parser.add_argument("--gen", type=Path, default=GEN, help=argparse.SUPPRESS)  # tests check a copy
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "gen"
        generate(fresh)
        found = differences(fresh, args.gen)
        if args.check:
            for line in found:
                print(line, file=sys.stderr)
            if found:
                print("protos/gen is stale: run `python protos/generate.py`", file=sys.stderr)
            return int(bool(found))
        if found:
            shutil.rmtree(args.gen, ignore_errors=True)
            shutil.copytree(fresh, args.gen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
