"""The probe of container health checks, against a gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.rpc import probe
from tests.services.certificates import Authority
from tests.services.gateway_fakes import Gateway, gateway


async def test_a_serving_gateway_passes(gw: Gateway) -> None:
    """As a whole and by service; a service it has not does not."""
    address = gw.server.address
    assert await asyncio.to_thread(probe.main, [address]) == 0
    assert await asyncio.to_thread(probe.main, [address, "longtail.ranking.v1.RankingService"]) == 0
    assert await asyncio.to_thread(probe.serving, address, "nobody") == "NOT_FOUND"
    await gw.server.set_serving(serving=False)
    assert await asyncio.to_thread(probe.serving, address) == "NOT_SERVING"


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody listens it fails and says why."""
    assert probe.main(["127.0.0.1:1"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


async def test_a_gateway_with_tls_passes_for_who_may_connect(home: Path, tmp_path: Path) -> None:
    """Trusting its authority, and with a certificate where it asks for one; not in plain text, nor without that certificate."""
    authority = Authority()
    certificate, key = authority.server().write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    own = [str(path) for path in authority.sign("probe").write(tmp_path, "probe")]
    trusting = ["--ca", str(tmp_path / "ca.pem")]
    async with gateway(home, tls_cert=str(certificate), tls_key=str(key)) as gw:
        assert await asyncio.to_thread(probe.main, [gw.server.address, *trusting]) == 0
        assert await asyncio.to_thread(probe.main, [gw.server.address]) == 1
    async with gateway(home, tls_cert=str(certificate), tls_key=str(key), tls_client_ca=str(tmp_path / "ca.pem")) as gw:
        assert await asyncio.to_thread(probe.main, [gw.server.address, *trusting, "--cert", own[0], "--key", own[1]]) == 0
        assert await asyncio.to_thread(probe.main, [gw.server.address, *trusting]) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "address"),
        (["h:1", "--cert", "a.pem"], "--cert and --key go together"),
        (["h:1", "--cert", "a.pem", "--key", "a.key"], "--cert needs --ca"),
        (["h:1", "--ca", "absent.pem"], "absent.pem: No such file"),
    ],
)
def test_what_makes_no_sense_is_named(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the status of a wrong use, which is not that of a server that does not serve."""
    with pytest.raises(SystemExit) as ended:
        probe.main(words)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
