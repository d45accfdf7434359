"""The scrape page over TLS: with the certificate that lies there, for scrapers that have theirs, and for nobody who hangs."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, Counter

from services.features.settings import Settings as FeatureSettings
from services.gateway.settings import Settings
from services.rpc import tls
from services.rpc.scraping import AT_ONCE, scraped
from services.rpc.settings import InvalidSettingError
from tests.services.certificates import Authority


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("things", "Things", registry=made).inc(3)
    return made


@pytest.fixture
def files(tmp_path: Path) -> tls.Files:
    """A server certificate of `authority`, which scrapers' certificates must be of, too."""
    certificate, key = AUTHORITY.server().write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    return tls.Files(certificate, key, tmp_path / "ca.pem")


AUTHORITY = Authority()


def scraper(folder: Path, trusted: Authority = AUTHORITY, own: Authority | None = AUTHORITY) -> ssl.SSLContext:
    """A client that trusts one authority and has a certificate of another, or none."""
    context = ssl.create_default_context(cadata=trusted.pem.decode())
    if own is not None:
        context.load_cert_chain(*own.sign("prometheus").write(folder, "scraper"))
    return context


def page(address: str, context: ssl.SSLContext) -> str:
    with urllib.request.urlopen(f"https://{address}/metrics", context=context, timeout=20) as answer:
        return cast(bytes, answer.read()).decode()


@pytest.fixture
def served(files: tls.Files, registry: CollectorRegistry) -> Iterator[str]:
    with scraped("127.0.0.1:0", registry, files) as address:
        yield address


def test_who_has_a_certificate_may_read(served: str, tmp_path: Path) -> None:
    """The page is the one of plain HTTP."""
    assert "things_total 3.0" in page(served, scraper(tmp_path))


def test_who_has_none_may_not(served: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither without a certificate, nor with somebody else's, nor in plain text; none of that is an error of the server's."""
    caplog.set_level(logging.ERROR)
    for context in (scraper(tmp_path, own=None), scraper(tmp_path, own=Authority("other"))):
        with pytest.raises(OSError, match=r"(?i)certificate|reset|unknown|alert|closed|EOF"):
            page(served, context)
    with pytest.raises(OSError, match=r"(?i)reset|closed|disconnected|without response"):
        urllib.request.urlopen(f"http://{served}/metrics", timeout=20).read()
    assert "things_total 3.0" in page(served, scraper(tmp_path))
    assert not caplog.records


def test_a_client_that_says_nothing_holds_up_nobody(served: str, tmp_path: Path) -> None:
    """Connected and silent, it has a thread of its own."""
    host, _, port = served.rpartition(":")
    with socket.create_connection((host, int(port))):
        assert "things_total 3.0" in page(served, scraper(tmp_path))


def test_only_so_many_are_answered_at_once(registry: CollectorRegistry) -> None:
    """Silent connections beyond the bound are closed at once; a place that is free again answers a scrape."""
    with scraped("127.0.0.1:0", registry) as address, ExitStack() as silent:
        where = (address.rpartition(":")[0], int(address.rpartition(":")[2]))
        held = [silent.enter_context(socket.create_connection(where)) for _ in range(AT_ONCE)]
        beyond = silent.enter_context(socket.create_connection(where, timeout=20))
        assert beyond.recv(1) == b""
        for one in held[:2]:
            one.close()
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
                    assert "things_total 3.0" in answer.read().decode()
                break
            except (urllib.error.URLError, OSError):  # the threads of those that left have not ended yet
                assert time.monotonic() < deadline


def test_a_renewed_certificate_serves_the_next_scrape(served: str, files: tls.Files, tmp_path: Path) -> None:
    """Files that cannot be used change nothing; those of another authority, once both lie there, are what the next client meets."""
    files.certificate.write_bytes(b"nonsense")
    assert "things_total 3.0" in page(served, scraper(tmp_path))
    other = Authority("other")
    other.server().write(tmp_path, "server")
    with pytest.raises(OSError, match="certificate"):
        page(served, scraper(tmp_path))
    assert "things_total 3.0" in page(served, scraper(tmp_path, trusted=other))


def test_files_that_are_no_certificate_are_named(registry: CollectorRegistry, tmp_path: Path) -> None:
    """At the start, before a port is taken."""
    (tmp_path / "a.pem").write_text("nonsense")
    with (
        pytest.raises(InvalidSettingError, match=r"a\.pem"),
        scraped("127.0.0.1:0", registry, tls.Files(tmp_path / "a.pem", tmp_path / "a.pem")),
    ):
        pass


def test_files_that_cannot_even_be_looked_for_are_named(registry: CollectorRegistry, tmp_path: Path) -> None:
    """Behind a folder of somebody else's, say; here by a name too long for the file system."""
    nowhere = tmp_path / ("t" * 300)
    with pytest.raises(InvalidSettingError, match="File name too long"), scraped("127.0.0.1:0", registry, tls.Files(nowhere, nowhere)):
        pass


def test_a_file_that_grew_has_changed(files: tls.Files) -> None:
    """Though the file system's clock did not move between its first half and its second."""
    half, at = files.stamp(), files.certificate.stat()
    files.certificate.write_bytes(files.certificate.read_bytes() + b"\n")
    os.utime(files.certificate, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert files.stamp() != half


@pytest.mark.parametrize("make", [Settings, FeatureSettings])
def test_scrapers_with_certificates_may_come_from_anywhere(make: type[Settings] | type[FeatureSettings]) -> None:
    """A page that asks for certificates may be reached from other machines; one that only has its own may not, as anybody could read it."""
    name = "metrics_address" if make is Settings else "feature_metrics_address"
    own = {"metrics_cert": "a.pem", "metrics_key": "a.key", name: "0.0.0.0:9464"}
    make(**own, metrics_client_ca="ca.pem")  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError, match=f"LONGTAIL_{name.upper()}"):
        make(**own)  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError, match="LONGTAIL_METRICS_KEY: certificate and key go together"):
        make(metrics_cert="a.pem")
