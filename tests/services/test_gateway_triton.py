"""The Triton adapter on the wire, against a server that speaks the same protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from ranking.errors import Unavailable
from services.gateway.triton import Triton
from tests.deploy.releases import bert_logits, features_batch, text_batch, trees_logits
from tests.services import fake_triton


@pytest.fixture
async def server() -> AsyncIterator[tuple[grpc.aio.Server, str]]:
    running, address = await fake_triton.start()
    yield running, address
    await running.stop(None)


async def test_tensors_travel_both_ways(server: tuple[grpc.aio.Server, str]) -> None:
    """Float matrices and integer token tensors arrive whole, and the (n,) output comes back."""
    triton = Triton(server[1])
    features, texts = features_batch(7), text_batch(5)
    np.testing.assert_array_equal(await triton.infer("trees", 1, {"features": features}, "logit", 5.0), trees_logits(features))
    np.testing.assert_array_equal(await triton.infer("bert", 1, texts, "logit", 5.0), bert_logits(texts))
    await triton.close()


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [("trees", 2, "trees version 2: NOT_FOUND"), ("nobody", 1, "NOT_FOUND"), ("short", 1, "output logit has 8 bytes, expected 3 float32")],
)
async def test_a_server_that_cannot_answer_is_unavailable(
    server: tuple[grpc.aio.Server, str], model: str, version: int, message: str
) -> None:
    """An unknown model or version, or an output of the wrong size, is Unavailable and says why."""
    triton = Triton(server[1])
    with pytest.raises(Unavailable, match=message):
        await triton.infer(model, version, {"features": features_batch(3)}, "logit", 5.0)
    await triton.close()


async def test_a_slow_server_is_a_timeout(server: tuple[grpc.aio.Server, str]) -> None:
    """No answer within the timeout raises TimeoutError, not Unavailable: the two degrade under different names."""
    triton = Triton(server[1])
    with pytest.raises(TimeoutError, match=r"slow version 1: no answer within 0\.050 s"):
        await triton.infer("slow", 1, {"features": features_batch(3)}, "logit", 0.05)
    await triton.close()


async def test_a_server_that_comes_back_is_used_again(server: tuple[grpc.aio.Server, str]) -> None:
    """Gone: Unavailable. Back on the same address: answers, through the same channel, without a restart."""
    running, address = server
    triton = Triton(address)
    features = {"features": features_batch(3)}
    await triton.infer("trees", 1, features, "logit", 5.0)
    await running.stop(None)
    with pytest.raises(Unavailable):
        await triton.infer("trees", 1, features, "logit", 5.0)
    again, _ = await fake_triton.start(int(address.rpartition(":")[2]))
    found = None
    while found is None:
        try:
            found = await triton.infer("trees", 1, features, "logit", 5.0)
        except Unavailable:
            continue
    np.testing.assert_array_equal(found, trees_logits(features["features"]))
    await triton.close()
    await again.stop(None)
