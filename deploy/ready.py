"""`python -m deploy.ready HOST:PORT`: whether the reconciler scraped there says that Triton serves what it should, by its exit status."""

from __future__ import annotations

import sys
import urllib.request

_WAIT_S = 3.0


def main(arguments: list[str]) -> int:
    """0: ready; 1: not, or nobody answers; 2: asked wrongly."""
    if len(arguments) != 1:
        print("usage: python -m deploy.ready HOST:PORT", file=sys.stderr)
        return 2
    try:
        with urllib.request.urlopen(f"http://{arguments[0]}/metrics", timeout=_WAIT_S) as page:
            ready = b"\nlongtail_triton_ready 1.0" in page.read()
    except OSError as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
