"""The platform on this machine, in the background: the controller (with Triton), the feature process and the gateway, started, watched and
stopped.

Processes are started by module name, so nothing of `services` is imported here. What runs is written to
``<home>/run/platform.json``; a process is only ever signalled while it is still the one that was started. `up` and `down` take turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy import lifecycle, store, told
from deploy.files import locked, write_atomically
from deploy.triton import process, target, wheel
from deploy.triton.target import Target
from ranking.errors import Unavailable
from ranking.layout import Layout

STATE = "platform.json"
_GATEWAY_STATE, _FEATURES_STATE = "gateway.json", "features.json"
CONTROLLER, FEATURES, GATEWAY = "deploy.controller", "services.features", "services.gateway"
SUPERVISOR = "deploy.supervise"
_SUPERVISED = {FEATURES, GATEWAY}
"""Started again when they die; the controller brings Triton back itself."""
_STATES = {CONTROLLER: told.STATE, FEATURES: _FEATURES_STATE, GATEWAY: _GATEWAY_STATE}
_STOP_S = 30.0
_POLL_S = 0.1
_ERROR_S = 3.0  # after which an error that stands is not waited out: what passes by itself passes sooner
_FOLLOW_S = 0.6  # a running gateway looks at the pointer every 0.25 s and does not say which release it serves: two looks and some
_children: dict[int, subprocess.Popen[bytes]] = {}  # started by this very process, which has to reap them


@dataclass(frozen=True, slots=True)
class Running:
    """One background process.

    Attributes:
        module: what was started with ``python -m``.
        pid: its process id.
        started: its start time in clock ticks since boot: together with `pid` it names one process for ever.
        log: where its output goes.
    """

    module: str
    pid: int
    started: int
    log: str


def up(
    layout: Layout,
    feature_repo: Path,
    *,
    release: str = "",
    address: str = "127.0.0.1:50051",
    triton_port: int = 8001,
    workers: int | None = None,
    written_for: Target | None = None,
    wait_s: float = 120.0,
) -> dict[str, Any]:
    """Start what does not run yet and wait until the gateway serves; returns `status`.

    The gateway's clock is the one in `layout.serving` where historical data are replayed.

    Args:
        layout: the state directory.
        feature_repo: directory with feature_store.yaml.
        release: verified on Triton and activated before the gateway starts; empty: the active one, else, or where its manifest cannot be
            read (made by an older version), the newest that can.
        address: of the gateway; port 0 takes a free one, kept when the gateway is started again.
        triton_port: gRPC port of Triton; 0 takes a free one, kept across Triton's restarts.
        workers: gateway processes on the address, None: as its own settings say; without effect on a gateway that runs already.
        written_for: what the model repository is written for from now on; None: as before. A Triton that runs gets it with the next
            release it is given.
        wait_s: seconds before giving up.

    Raises:
        Unavailable: something ended or did not become ready; the message quotes the end of its log.
        InvalidRelease: the release is refused.

    After an error what this call started is stopped, and what ran before runs on.
    """
    with locked(_lock(layout)):
        if written_for is not None:
            if not (wheel.locate(layout.triton_server).backends / written_for.backend).is_dir():
                raise Unavailable(
                    f"the local Triton has no {written_for.backend} backend; `longtail release render` writes for one that has"
                )
            target.write(layout.triton_target, written_for)
        _up(layout, feature_repo, release, _with_port(address), triton_port or process.free_port(), workers, wait_s)
    return status(layout)


def _up(layout: Layout, feature_repo: Path, release: str, address: str, triton_port: int, workers: int | None, wait_s: float) -> None:
    known = {p.module: p for p in processes(layout) if _alive(p)}
    before = dict(known)
    environment = {**os.environ, "LONGTAIL_HOME": str(layout.home)}
    try:
        if CONTROLLER not in known:
            known[CONTROLLER] = _start(layout, CONTROLLER, ["--grpc-port", str(triton_port)], environment)
            _remember(layout, known)
        wanted = release or _usable(layout)
        triton = _wait(known[CONTROLLER], lambda: _repairable(layout) if wanted else _triton(layout), wait_s)["grpc"]
        wanted = wanted or store.active(layout.releases) or _newest(layout)
        now, _ = store.look(layout.releases)
        if now is None or wanted != now.release:
            lifecycle.activate(layout, wanted, triton)
            time.sleep(_FOLLOW_S if GATEWAY in known else 0.0)
        clock = _read(layout.serving)
        common = ["--feature-repo", str(feature_repo), *(["--as-of", clock["as_of"]] if clock else [])]
        if FEATURES not in known:  # nobody waits for it: until it has made a snapshot, gateways read Feast
            known[FEATURES] = _start(layout, FEATURES, common, environment)
            _remember(layout, known)
        if GATEWAY not in known:
            own = ["--address", address, "--triton", triton, *(["--workers", str(workers)] if workers else [])]
            known[GATEWAY] = _start(layout, GATEWAY, [*own, *common], environment)
            _remember(layout, known)
        _wait(known[GATEWAY], lambda: _supervised(layout.run / _GATEWAY_STATE), wait_s)
    except BaseException:
        _stop_all(p for module, p in known.items() if module not in before)
        _remember(layout, before)
        raise


def down(layout: Layout) -> list[str]:
    """Stop what `up` started, the gateway first; returns the modules that were stopped."""
    with locked(_lock(layout)):
        stopped = _stop_all(processes(layout))
        _remember(layout, {})
    return stopped


def status(layout: Layout) -> dict[str, Any]:
    """What runs, where it listens, which release is active and, as "problem", why the pointer does not say so (else empty)."""
    now, problem = store.look(layout.releases)
    alive = {p.module: asdict(p) for p in processes(layout) if _alive(p)}
    return {
        "home": str(layout.home),
        "release": now.release if now else None,
        "problem": problem,
        "processes": alive,
        "triton": _triton(layout) if CONTROLLER in alive else None,
        "features": _supervised(layout.run / _FEATURES_STATE) if FEATURES in alive else None,
        "gateway": _supervised(layout.run / _GATEWAY_STATE) if GATEWAY in alive else None,
    }


def processes(layout: Layout) -> list[Running]:
    """What `up` started last, running or not."""
    state = _read(layout.run / STATE)
    return [Running(**p) for p in state["processes"]] if state else []


def _with_port(address: str) -> str:
    """The address with a port that is free now in place of 0."""
    host, _, port = address.rpartition(":")
    return f"{host}:{process.free_port()}" if port == "0" else address


def _usable(layout: Layout) -> str:
    """The release to serve in place of the active one, where that has a manifest nobody can read; empty where it has none of that."""
    now, _ = store.look(layout.releases)
    unusable = now is not None and any(row.id == now.release and row.problem for row in store.list_releases(layout.releases))
    return _newest(layout) if unusable else ""


def _newest(layout: Layout) -> str:
    readable = [r for r in store.list_releases(layout.releases) if not r.problem]
    if not readable:
        raise Unavailable(f"{layout.releases}: holds no release; `longtail train` or `make demo` publishes one")
    return readable[-1].id


def _start(layout: Layout, module: str, options: list[str], environment: Mapping[str, str]) -> Running:
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.run.mkdir(parents=True, exist_ok=True)
    (layout.run / _STATES[module]).unlink(missing_ok=True)
    log = layout.logs / f"{module}.log"
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", *([SUPERVISOR] if module in _SUPERVISED else []), module, *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C in the caller's terminal is not for it
        )
    _children[child.pid] = child
    return Running(module, child.pid, _start_time(child.pid) or 0, str(log))


def _remember(layout: Layout, known: Mapping[str, Running]) -> None:
    if not known:
        (layout.run / STATE).unlink(missing_ok=True)
        return
    write_atomically(layout.run / STATE, json.dumps({"processes": [asdict(p) for p in known.values()]}, indent=1))


def _wait(running: Running, look: Callable[[], dict[str, Any] | None], wait_s: float) -> dict[str, Any]:
    """Until `look` sees a state that says "ready"; not for as long where it goes on saying "error"."""
    deadline = time.monotonic() + wait_s
    wrong_since: float | None = None
    while time.monotonic() < deadline:
        state = look()
        if state and state.get("ready"):
            return state
        if not _alive(running):
            raise Unavailable(f"{running.module} ended while starting:\n{_tail(Path(running.log))}")
        error = state.get("error") if state else None
        wrong_since = (wrong_since or time.monotonic()) if error else None
        if wrong_since and time.monotonic() - wrong_since >= _ERROR_S:
            raise Unavailable(f"{running.module} is not ready: {error}")
        time.sleep(_POLL_S)
    raise Unavailable(f"{running.module} was not ready after {wait_s:g} s:\n{_tail(Path(running.log))}")


def _stop_all(some: Iterable[Running]) -> list[str]:
    """Stop those that run, the gateway first; returns their modules."""
    stopped = []
    for running in sorted(some, key=lambda p: p.module, reverse=True):  # services before deploy
        if _alive(running):
            _stop(running)
            stopped.append(running.module)
    return stopped


def _stop(running: Running) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _alive(running):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
        time.sleep(_POLL_S)


def _alive(running: Running) -> bool:
    child = _children.get(running.pid)
    if child and child.poll() is not None:
        del _children[running.pid]
    return _start_time(running.pid) == running.started != 0


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat; None for no process or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _triton(layout: Layout) -> dict[str, Any] | None:
    state = told.read_state(layout)
    return asdict(state) if state else None


def _repairable(layout: Layout) -> dict[str, Any] | None:
    """Like `_triton`, but ready as well where Triton runs and only what the pointer says keeps it from being: a damaged pointer, or a
    release that cannot be used, of an older version for example. The activation to come puts another in its place.
    """
    state = _triton(layout)
    return state | {"ready": True} if state and state["error"] and state["triton_pid"] else state


def _lock(layout: Layout) -> Path:
    return layout.run / "platform.lock"


def _supervised(path: Path) -> dict[str, Any] | None:
    """What a supervised process says of itself, unless it died since."""
    said = _read(path)
    return said | {"ready": False, "error": "it died and is being started again"} if said and _start_time(said["pid"]) is None else said


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _tail(path: Path, lines: int = 12) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
