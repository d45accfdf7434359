"""What the platform is made of, and what is known against it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy import sbom
from deploy.audit import judge


def lines() -> list[str]:
    return [line for line in sbom.CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]


def test_the_bill_names_every_pin_and_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One component per line of constraints.txt and for Triton's wheel, by package URL; the root depends on each; the schema holds."""
    path = tmp_path / "out" / "sbom.json"
    monkeypatch.setattr(sys, "argv", ["sbom", str(path)])
    assert sbom.main() == 0
    text = path.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    names = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines()} | {"nvidia-pytriton"}
    assert {c["name"] for c in found["components"]} == names
    assert {c["purl"] for c in found["components"]} == {d for e in found["dependencies"] if e["ref"] == "longtail" for d in e["dependsOn"]}
    assert all(c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" for c in found["components"])


def test_the_same_pins_give_the_same_bytes_and_others_do_not() -> None:
    """In whatever order they stand."""
    pins = {"b": "2.0", "a": "1.0"}
    assert sbom.bill(pins) == sbom.bill(dict(sorted(pins.items())))
    assert json.loads(sbom.bill(pins))["serialNumber"] != json.loads(sbom.bill({**pins, "a": "1.1"}))["serialNumber"]


@pytest.mark.parametrize("line", ["numpy>=2", "numpy", "-e .", "https://example.org/x.whl", "numpy==2.*"])
def test_what_is_no_exact_pin_is_refused(line: str) -> None:
    """The line is quoted: a bill with a gap is none."""
    with pytest.raises(ValueError, match=re.escape(repr(line))):
        sbom.pins(f"# comment\nok==1.0\n{line}\n")


def said(*packages: Any) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


CLEAN = {"name": "a", "version": "1.0", "vulns": []}
KNOWN = {"name": "b", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "not on the index"}


@pytest.mark.parametrize(
    ("stdout", "code", "line"),
    [
        (said(CLEAN), 0, "1 packages, 0 advisories, 0 not asked about"),
        (said(CLEAN, KNOWN), 1, "b 2.0: PYSEC-1, fixed in 2.1"),
        (said(CLEAN, SKIPPED), 3, "c: not asked about: not on the index"),
        (said(KNOWN, SKIPPED), 1, "2 packages, 1 advisories, 1 not asked about"),
        (said(), 3, "0 packages"),
        ("", 3, "no source of advisories could be asked, so nothing is known: ProxyError: away"),
        ("Traceback", 3, "nothing is known"),
    ],
)
def test_silence_is_no_clean_bill(stdout: str, code: int, line: str) -> None:
    """0 only where everything was asked about; an advisory is 1; a source that is away is 3 and says so."""
    verdict = judge(stdout, "Traceback\nProxyError: away\n")
    assert verdict.code == code
    assert any(line in one for one in verdict.lines)
