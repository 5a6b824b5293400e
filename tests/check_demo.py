"""CI's check of a finished demo: the trained trunk beats raw pixels and the untrained trunk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FACTOR = 1.3


def main() -> int:
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    r1 = {row["name"]: row["R@1"] for row in rows}
    better = max(r1["raw pixels"], r1["untrained trunk"])
    ratio = r1["trained trunk"] / better
    print(f"trained {r1['trained trunk']:.3f}, better of the others {better:.3f}: x {ratio:.2f}")
    return 0 if ratio >= FACTOR else 1


if __name__ == "__main__":
    sys.exit(main())
