"""Cost and memory of this package against the number of rows and of columns.

    python tests/benchmarks/scaling.py --figure scaling.png --output scaling.md
    python tests/benchmarks/scaling.py --smoke    small arrays: does it run?

Every point has a fresh process, in which the peak of memory beyond the rows is measured first, then
the time of TwoNN, of TwoNN + PCA 90 % + participation ratio, and of a bare ``x @ x.T`` in turns.
The figure draws the two expected slopes: n² at 512 columns (the Gram matrix and its ranking), and d
at 2000 rows, which begins where the columns outweigh the ranking. The spectrum adds min(n, d)³.

Memory is stated as one n x n matrix and two blocks of n x 4096 in float32, and measured: the peak
of resident memory less what was resident before the call. Below a few thousand rows the buffers of
the BLAS and the tiles, some 20 MiB whatever the rows, are what one sees.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import (
    Worker,
    machine,
    median,
    mib,
    round_robin,
    save_activations,
    seconds,
    stated_memory,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_id.history.tables import markdown_table

COLUMNS = 512  # of the sweep over rows
ROWS = 2000  # of the sweep over columns
SWEEP_N = (1000, 2000, 4000, 8000, 16000)
SWEEP_D = (64, 256, 1024, 4096, 16384, 65536, 200704)
HALF = 100_000  # columns from which the rows are stored in float16
BUDGET = 15.0  # seconds of one call at one point
CALLS = {"twonn": "TwoNN", "all": "TwoNN + PCA + PR", "product": "x @ x.T"}


@dataclass(frozen=True)
class Point:
    """What was measured of one array.

    Attributes:
        n: Rows.
        d: Columns.
        dtype: Of the array.
        times: Call to median seconds.
        extra: Call to peak of bytes beyond the rows.
    """

    n: int
    d: int
    dtype: str
    times: dict[str, float]
    extra: dict[str, float]


def measure(n: int, d: int, repeats: int, folder: Path) -> Point:
    """Measure one array in a fresh process.

    Args:
        n: Rows.
        d: Columns.
        repeats: Turns of each call.
        folder: Where the array is written.

    Returns:
        Times and memory.
    """
    dtype = "float16" if d >= HALF else "float32"
    # float16 products are another thing: there the bare product has rows in float32.
    calls = [call for call in CALLS if call != "product" or dtype == "float32"]
    path = save_activations(folder, n, d, dtype)
    extra = {}
    for call in ("twonn", "all"):
        with Worker("lightning_id") as fresh:
            fresh.ask("load", path=path)
            extra[call] = fresh.ask("memory", call=call)["extra"]
    with Worker("lightning_id") as ours:
        ours.ask("load", path=path)
        tasks = {call: lambda call=call: ours.ask("run", call=call)["seconds"] for call in calls}
        if dtype == "float16":
            with Worker("product") as product:
                product.ask("load", path=path)
                tasks["product"] = lambda: product.ask("run", call="product")["seconds"]
                times = round_robin(tasks, repeats, dict.fromkeys(tasks, BUDGET))
        else:
            times = round_robin(tasks, repeats, dict.fromkeys(tasks, BUDGET))
    return Point(n, d, dtype, {call: median(found) for call, found in times.items()}, extra)


def slope(points: Sequence[Point], axis: str, call: str) -> float:
    """Return the exponent of the cost between the last two points.

    Args:
        points: A sweep.
        axis: ``"n"`` or ``"d"``.
        call: Key of `CALLS`.

    Returns:
        The slope in the log-log plot.
    """
    before, last = points[-2:]
    ratio = getattr(last, axis) / getattr(before, axis)
    return math.log(last.times[call] / before.times[call]) / math.log(ratio)


def draw(over_n: Sequence[Point], over_d: Sequence[Point]) -> Figure:
    """Draw cost against rows, cost against columns, and memory against rows.

    Args:
        over_n: The sweep over rows.
        over_d: The sweep over columns.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    by_n, by_d, memory = figure.subplots(1, 3)
    _costs(by_n, over_n, "n", 2, f"Cost at d = {over_n[0].d}", "rows n")
    _costs(by_d, over_d, "d", 1, f"Cost at n = {over_d[0].n}", "columns d")
    rows = [point.n for point in over_n]
    for call, marker in (("twonn", "o"), ("all", "s")):
        extra = [point.extra[call] / 2**20 for point in over_n]
        memory.loglog(rows, extra, marker=marker, label=CALLS[call])
    stated = [stated_memory(n) / 2**20 for n in rows]
    memory.loglog(rows, stated, "k--", label="stated: n² and two blocks of n x 4096")
    memory.set(title=f"Peak memory beyond the rows, d = {over_n[0].d}", xlabel="rows n")
    memory.set_ylabel("MiB")
    memory.set_xticks(rows, [str(n) for n in rows], minor=False)
    memory.set_xticks([], minor=True)
    memory.legend(loc="lower right")
    return figure


def _costs(
    axes: Axes, points: Sequence[Point], axis: str, power: int, title: str, label: str
) -> None:
    sizes = [getattr(point, axis) for point in points]
    for (call, name), style in zip(CALLS.items(), ("o-", "s-", "^:"), strict=True):
        axes.loglog(sizes, [point.times[call] for point in points], style, label=name)
    last = points[-1].times["twonn"]
    expected = [last * (size / sizes[-1]) ** power for size in sizes]
    axes.loglog(sizes, expected, "k--", label=f"slope {power}")
    axes.set(title=title, xlabel=label, ylabel="seconds")
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False, rotation=30)
    axes.set_xticks([], minor=True)
    lowest = min(min(point.times.values()) for point in points)
    axes.set_ylim(bottom=lowest / 2)  # the slope leaves the figure where other costs rule
    axes.legend()


def table(points: Sequence[Point]) -> str:
    """Return a sweep as Markdown.

    Args:
        points: The sweep.

    Returns:
        The table.
    """
    header = [
        "rows x columns",
        *CALLS.values(),
        "TwoNN / x @ x.T",
        "extra, TwoNN",
        "extra, all",
        "stated",
        "TwoNN / stated",
    ]
    rows = []
    for point in points:
        stated = stated_memory(point.n)
        rows.append(
            [
                f"{point.n} x {point.d}" + (", float16" if point.dtype == "float16" else ""),
                *(seconds(point.times[call]) for call in CALLS),
                f"{point.times['twonn'] / point.times['product']:.2f}",
                *(mib(point.extra[call]) for call in ("twonn", "all")),
                mib(stated),
                f"{point.extra['twonn'] / stated:.2f}",
            ]
        )
    return markdown_table([header, *rows])


def main() -> int:
    """Run the benchmark.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=Path, default=Path("scaling.png"), help="the picture")
    parser.add_argument("--output", type=Path, help="write the report there too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="small arrays, 2 repeats")
    options = parser.parse_args()
    about, shrink = machine(), 8 if options.smoke else 1
    repeats = 2 if options.smoke else options.repeats
    over_n, over_d = [], []
    with tempfile.TemporaryDirectory() as folder:
        for n in SWEEP_N:
            print(f"{n // shrink} x {COLUMNS} ...", file=sys.stderr)
            over_n.append(measure(n // shrink, COLUMNS, repeats, Path(folder)))
        for d in SWEEP_D[:-2] if options.smoke else SWEEP_D:
            print(f"{ROWS // shrink} x {d} ...", file=sys.stderr)
            over_d.append(measure(ROWS // shrink, d, repeats, Path(folder)))
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    draw(over_n, over_d).savefig(options.figure, dpi=150)
    parts = [
        "# Scaling",
        about,
        "## Against the rows",
        table(over_n),
        f"Slope of TwoNN between the last two points: {slope(over_n, 'n', 'twonn'):.2f};"
        " expected 2.",
        "## Against the columns",
        table(over_d),
        f"Slope of TwoNN between the last two points: {slope(over_d, 'd', 'twonn'):.2f};"
        " expected 1.",
    ]
    report = "\n\n".join(parts) + "\n"
    print(report)
    if options.output:
        options.output.write_text(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
