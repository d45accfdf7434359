"""A gateway with stub models over the platform's data, in a process of its own, and what that process uses of processor and memory."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.bench.platform import Platform

_SHARED = ("releases", "feast", "snapshot", "serving.json")  # what the stub's state directory has of the platform's
_SETTLE_S, _IDLE_SHARE = 60, 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def stub_gateway(platform: Platform) -> AsyncIterator[tuple[str, int]]:
    """A gateway with stub models over the platform's data: address and process id. Its state is its own: its scores mean nothing."""
    with tempfile.TemporaryDirectory(prefix="longtail-bench-") as folder:
        for name in _SHARED:
            if (platform.layout.home / name).exists():
                (Path(folder) / name).symlink_to(platform.layout.home / name)
        command = [sys.executable, "-m", "services.bench.stub", "--address", "127.0.0.1:0", "--home", folder, "--log-level", "ERROR"]
        environment = os.environ | {"LONGTAIL_HOME": folder}
        process = await asyncio.create_subprocess_exec(*command, *platform.options, env=environment, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout is not None
            address = (await process.stdout.readline()).decode().strip()
            if not address:
                raise RuntimeError(f"the gateway with stub models ended with {await process.wait()}")
            await _settled(process.pid)
            yield address, process.pid
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _settled(pid: int) -> None:
    """Wait until a process has nothing to do: a gateway imports what explanations need once it serves, which takes seconds of a core."""
    for _ in range(_SETTLE_S):
        before = cpu_s(pid)
        await asyncio.sleep(1.0)
        if cpu_s(pid) - before < _IDLE_SHARE:
            return


def cpu_s(pid: int) -> float:
    """Processor time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mb(pid: int) -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
