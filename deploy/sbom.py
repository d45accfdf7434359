"""``python -m deploy.sbom FILE``: what a running platform is made of, as a CycloneDX bill of materials.

Made of the pinned set (`constraints.txt`) and the wheel with Triton's server, and of nothing else: no clock, no network, no look at the
machine, so the same pins give the same bytes.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from deploy.triton.wheel import REQUIREMENT

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?==(?P<version>[A-Za-z0-9.!+_-]+)")
_LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)  # the specification wants an instant, and reproducible builds one that says nothing


def pins(text: str) -> dict[str, str]:
    """Version by normalised name (PEP 503).

    Raises:
        ValueError: a line is no exact pin; it is quoted.
    """
    out: dict[str, str] = {}
    for line in text.splitlines():
        wanted = line.partition("#")[0].strip()
        if not wanted:
            continue
        found = _PIN.fullmatch(wanted)
        if found is None:
            raise ValueError(f"constraints.txt: {line!r} is no exact pin, name==version")
        out[re.sub(r"[-_.]+", "-", found["name"]).lower()] = found["version"]
    return out


def bill(parts: dict[str, str]) -> str:
    """The bill of materials, JSON."""
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, "\n".join(f"{name}=={version}" for name, version in sorted(parts.items()))),
        components=[
            Component(
                name=name,
                version=version,
                type=ComponentType.LIBRARY,
                purl=(purl := PackageURL("pypi", None, name, version)),
                bom_ref=str(purl),
            )
            for name, version in parts.items()
        ],
    )
    bom.metadata.timestamp = _LONG_AGO
    bom.metadata.component = root = Component(name="longtail", type=ComponentType.APPLICATION, bom_ref="longtail")
    bom.register_dependency(root, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def main() -> int:
    """Write it where the only argument says."""
    if len(sys.argv) != 2:
        print("python -m deploy.sbom FILE", file=sys.stderr)
        return 2
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = pins(CONSTRAINTS.read_text("utf-8")) | pins(REQUIREMENT)
    path.write_text(bill(parts), "utf-8")
    print(f"{path}: {len(parts)} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
