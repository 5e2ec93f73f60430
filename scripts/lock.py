"""Turn pip's resolution report (read from standard input) into constraints.txt (printed)."""

from __future__ import annotations

import json
import re
import sys

HEADER = "# Versions that `make` installs. Regenerate with `make lock`; do not edit by hand."


def main() -> None:
    """Print one pinned line for each package of the report, without local version labels."""
    report = json.load(sys.stdin)
    pins = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        pins[name] = item["metadata"]["version"].partition("+")[0]
    pins.pop("lepton-engine", None)
    print(HEADER, *(f"{name}=={pins[name]}" for name in sorted(pins)), sep="\n")


if __name__ == "__main__":
    main()
