"""How long does a newcomer wait? `unconv --help`, and the whole of `unconv demo`.

python benchmarks/start_up.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UNCONV = Path(sys.executable).with_name("unconv")


def median_seconds(command: list[str], times: int) -> float:
    """The whole process, from start to end, `times` over."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


if __name__ == "__main__":
    print(f"unconv --help: {median_seconds([str(UNCONV), '--help'], 15):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        print(f"unconv demo: {median_seconds([str(UNCONV), 'demo', '-o', folder], 3):.1f} s")
