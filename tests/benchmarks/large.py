"""TwoNN of more rows than an n x n matrix can be made of, by faiss: seconds and peak memory.

python tests/benchmarks/large.py --rows 200000 --columns 128
"""

import argparse
import time
from pathlib import Path

from lightning_id import manifolds
from lightning_id.functional import twonn_dimension
from lightning_id.functional.faiss_search import faiss_geometry

MIB = 1024


def resident(field: str) -> int:
    """Return VmRSS (now) or VmHWM (peak) of this process in MiB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // MIB for line in lines if line.startswith(field))


def main() -> None:
    """Measure a 5-ball, and print the estimate and its cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=128)
    options = parser.parse_args()
    x = manifolds.ball(options.rows, 5, ambient=options.columns)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before, start = resident("VmRSS"), time.perf_counter()
    estimate = twonn_dimension(faiss_geometry(x))
    print(f"{options.rows} x {options.columns}: {estimate.value:.3f} ± {estimate.std_error:.3f}")
    print(f"{time.perf_counter() - start:.0f} s, {resident('VmHWM') - before} MiB besides")


if __name__ == "__main__":
    main()
