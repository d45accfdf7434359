"""A model's `config.pbtxt`, written and read through Triton's own protobuf. Knows no directory; `repository` places it.

`client` knows the calls of tritonclient, this module its messages of configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from deploy.triton.target import GPU, ONNXRUNTIME, Target
from ranking.release import MOST_ROWS, TensorSpec

QUEUE = 256  # requests waiting for a model: what two gateways with full backlogs send (4,096 pairs in requests of 128), with room
QUEUE_MS = 10_000  # after which nobody waits for the answer any more: above every gateway's own time limits
WARMUP = "warmup"  # Triton looks for a warm-up's files in this folder of the model


@dataclass(frozen=True, slots=True)
class Warmup:
    """Rows that a version answers before it counts as ready: the golden ones, since random token ids are no vocabulary's.

    Attributes:
        rows: how many.
        shapes: input -> the shape of one row.
    """

    rows: int
    shapes: Mapping[str, tuple[int, ...]]

    @staticmethod
    def file(name: str) -> str:
        """The file that holds an input's rows, of little-endian values."""
        return f"golden_{name}"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a model's configuration says, as far as models and targets differ in it.

    Attributes:
        name: the model's.
        inputs: as the release says them: the first dimension is the batch.
        output: likewise; (-1,): a score per row.
        versions: served side by side, ascending.
        target: where it runs.
        most_rows: of one execution, and of one request.
        scalar: the ONNX file gives (n,) where Triton wants (n, 1); only its own backend has to be told.
        warmup: what each version answers first.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    versions: tuple[int, ...]
    target: Target = field(default_factory=Target)
    most_rows: int = MOST_ROWS
    scalar: bool = False
    warmup: Warmup | None = None

    def text(self) -> str:
        """The file's content."""
        own = self.target.backend == ONNXRUNTIME
        output: dict[str, Any] = {"name": self.output.name, "data_type": f"TYPE_{self.output.dtype}", "dims": [1]}
        config = model_config_pb2.ModelConfig(
            name=self.name,
            **({"platform": "onnxruntime_onnx"} if own else {}),
            backend=self.target.backend,
            max_batch_size=self.most_rows,
            version_policy={"specific": {"versions": self.versions}},
            input=[{"name": t.name, "data_type": f"TYPE_{t.dtype}", "dims": t.shape[1:]} for t in self.inputs],
            output=[output | ({"reshape": {"shape": []}} if own and self.scalar else {})],
            instance_group=[{"count": self.target.instances, "kind": "KIND_GPU" if self.target.device == GPU else "KIND_CPU"}],
            dynamic_batching=_batching(),
        )
        if self.warmup:
            config.model_warmup.append(_warmup(self.warmup, self.inputs))
        return text_format.MessageToString(config)

    @classmethod
    def parse(cls, text: str) -> ModelConfig:
        """Read what `text` wrote, as far as it decides whether versions can serve side by side.

        Raises:
            ValueError: it is something else, or torn.
        """
        try:
            config = text_format.Parse(text, model_config_pb2.ModelConfig())
        except text_format.ParseError as wrong:
            raise ValueError(str(wrong)) from None
        if not config.output:  # what ends before it is torn
            raise ValueError("names no output")
        batch = [-1] if config.max_batch_size else []  # 0: written before requests were batched
        inputs = tuple(TensorSpec(t.name, _kind(t), (*batch, *t.dims)) for t in config.input)
        output = TensorSpec(config.output[0].name, _kind(config.output[0]), (-1,))
        warm = [Warmup(w.batch_size, {name: tuple(i.dims) for name, i in w.inputs.items()}) for w in config.model_warmup]
        versions = tuple(config.version_policy.specific.versions)
        return cls(config.name, inputs, output, versions, most_rows=config.max_batch_size, warmup=warm[0] if warm else None)


def _batching() -> dict[str, Any]:
    """Requests that wait at the same time run as one, up to `most_rows`; nobody is made to wait for others to come.

    Beyond the queue's length, or its time, a request is refused at once: the gateway says which member it lacks and answers without it.
    """
    policy = {"timeout_action": "REJECT", "default_timeout_microseconds": QUEUE_MS * 1000, "max_queue_size": QUEUE}
    return {"max_queue_delay_microseconds": 0, "default_queue_policy": policy}


def _warmup(warmup: Warmup, inputs: tuple[TensorSpec, ...]) -> Any:
    tensors = {
        t.name: model_config_pb2.ModelWarmup.Input(
            data_type=f"TYPE_{t.dtype}", dims=warmup.shapes[t.name], input_data_file=Warmup.file(t.name)
        )
        for t in inputs
    }
    return model_config_pb2.ModelWarmup(name="golden", batch_size=warmup.rows, inputs=tensors, count=1)


def _kind(tensor: Any) -> Any:
    return model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")
