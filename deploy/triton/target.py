"""Where Triton runs the models: backend, device and instances of the server that a model repository is written for.

One release serves all of them. The local server (from the wheel) has the Python backend alone; NVIDIA's container has both. Knows no
release and no file format.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.files import write_atomically

PYTHON, ONNXRUNTIME = "python", "onnxruntime"
BACKENDS = (PYTHON, ONNXRUNTIME)
CPU, GPU = "cpu", "gpu"
DEVICES = (CPU, GPU)


@dataclass(frozen=True, slots=True)
class Target:
    """What a model repository is written for.

    Attributes:
        backend: `python` runs the small `model.py` beside each model, on the runtime that was measured to be fastest on this host, and is
            in every Triton; `onnxruntime` is Triton's own backend, without a process of ours in between, in NVIDIA's container only.
        device: whose instances are made; the Python backend's runtimes compute on the CPU.
        instances: of each model, side by side; they share the device.

    Raises:
        ValueError: naming the key that makes no sense.
    """

    backend: str = PYTHON
    device: str = CPU
    instances: int = 1

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"backend: {self.backend!r} is not one of {', '.join(BACKENDS)}")
        if self.device not in DEVICES:
            raise ValueError(f"device: {self.device!r} is not one of {', '.join(DEVICES)}")
        if isinstance(self.instances, bool) or not isinstance(self.instances, int) or self.instances < 1:
            raise ValueError(f"instances: must be a whole number of at least 1, got {self.instances!r}")
        if (self.backend, self.device) == (PYTHON, GPU):
            raise ValueError(f"device: the {PYTHON} backend's runtimes compute on the CPU; for {GPU} take {ONNXRUNTIME}")


def read(path: Path) -> Target:
    """The target that was written to `path`; the default where none was.

    Raises:
        ValueError: the file says something else; naming it and the key.
    """
    try:
        return Target(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Target()
    except (ValueError, TypeError) as wrong:
        raise ValueError(f"{path.name}: {wrong}") from None


def write(path: Path, target: Target) -> None:
    """Keep a target for all who write the model repository beside it."""
    write_atomically(path, json.dumps(asdict(target)) + "\n")
