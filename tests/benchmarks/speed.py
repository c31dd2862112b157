"""This package against its peers, side by side in one run, as one Markdown report.

    python tests/benchmarks/speed.py                 every row, on an idle machine
    python tests/benchmarks/speed.py --busy          with one core kept busy by another process
    python tests/benchmarks/speed.py --only 2000x784 --repeats 15
    python tests/benchmarks/speed.py --smoke         small arrays, in a minute: does it run?

Peers: ``pip install lightning-id[peers]``. DADApy needs numpy < 2 and gets a virtual environment of
its own, made when it is first needed (``--dadapy-env``, or LIGHTNING_ID_DADAPY_ENV). A peer that
cannot be had is named in the report, and its column stays empty.

Every contender has a process of its own, with its default threads, reads the same .npy file, and is
warmed up; they take turns (`bench.round_robin`). The times are medians. What is timed:

- ours: ``twonn_dimension(x)`` with error bar; the same, ``pca_dimension(geometry, 0.9)`` and
  ``participation_ratio(geometry)`` on one new `Geometry`; ``ess_dimension(geometry)`` after TwoNN
  on the same, whose Gram matrix it reads;
- scikit-dimension ``TwoNN().fit(x)``, DADApy ``Data(x, maxk=2).compute_id_2NN()``, no error bars;
- faiss ``IndexFlatL2.search(x, 3)``, the rows being in the index already;
- scikit-learn ``PCA().fit(x)``; for information also with ``svd_solver="covariance_eigh"``;
- ``x @ x.T`` in torch, in float32, in the process of ours (a float32 copy has another).

The results must agree, or the exit status is 1. Same convention everywhere: F = i / N, the 10 %
largest ratios left out, a line through the origin.

- scikit-dimension, DADApy, float64 reference: 1e-4. They compute in float64 what ours computes from
  differences; scikit-dimension rounds distances to float32, DADApy fits by iteration.
- faiss: 1e-3, from the distances it found: float32 products of rows that are not centred lose
  digits of the difference of two near distances, which is all that log mu is made of.
- PCA: the same number of components, one off only where the share held is within 1e-5 of 90 %,
  which is what float32 singular values tell; the participation ratio to 1e-4.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import (
    Busy,
    PeerMissingError,
    Worker,
    machine,
    median,
    mib,
    round_robin,
    save_activations,
    seconds,
    stated_memory,
)

from lightning_id.history.tables import markdown_table

PEERS = ("scikit-dimension", "DADApy", "faiss", "sklearn")
ENVIRONMENT = "LIGHTNING_ID_DADAPY_ENV"
RESIDENT_LIMIT = 2.5 * 2**30
BUDGET = 20.0  # seconds of one contender on one row
OUR_BUDGET = 50.0  # the same of ours and of the product, to which ours is very near
SMOKE = 8  # times smaller in both directions
TOLERANCE = {"scikit-dimension": 1e-4, "DADApy": 1e-4, "faiss": 1e-3, "reference": 1e-4}
PCA_TOLERANCE = 1e-4
PCA_MARGIN = 1e-5


@dataclass(frozen=True)
class Row:
    """A row of the table of the bars: how many times faster ours must be.

    Attributes:
        n: Rows of the array.
        d: Columns.
        twonn: TwoNN against the fastest TwoNN peer.
        search: TwoNN against the search of faiss.
        both: TwoNN, PCA and participation ratio against the fastest TwoNN peer plus PCA.
        product: TwoNN against a bare product.
        ess: Expected simplex skewness against TwoNN on the same geometry.
        dtype: Of the array. The rows in float16 are compared with the product only.
    """

    n: int
    d: int
    twonn: float
    search: float
    both: float
    product: float
    ess: float = 3
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """What ``--only`` takes."""
        return f"{self.n}x{self.d}"


ROWS = (
    Row(2000, 784, twonn=2, search=1, both=2.5, product=1 / 1.25),
    Row(5000, 4096, twonn=3.5, search=1.3, both=4, product=1),
    Row(2000, 21632, twonn=3, search=1.5, both=8, product=1),
    Row(10000, 512, twonn=1.5, search=1 / 1.2, both=1.4, product=1 / 1.25),
    Row(2000, 200704, math.nan, math.nan, math.nan, product=1 / 1.2, dtype="float16"),
)


@dataclass
class Outcome:
    """What was measured of a row.

    Attributes:
        row: The row.
        shape: Of the array, as measured.
        times: Task to seconds of its turns.
        results: Task to its results, the same in every turn.
        failed: Task of a peer to why it failed.
        peak: Peak of resident memory of a fresh process with the rows and TwoNN.
        extra: Peak of memory beyond the rows.
    """

    row: Row
    shape: tuple[int, int]
    times: dict[str, list[float]] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    peak: float = math.nan
    extra: float = math.nan

    def median(self, task: str) -> float:
        """Return the median seconds of a task, NaN if it was not run."""
        return median(self.times.get(task, []))

    @property
    def fastest_twonn(self) -> float:
        """Median seconds of the fastest TwoNN peer."""
        found = [self.median(f"{peer}: twonn") for peer in ("scikit-dimension", "DADApy")]
        return min((value for value in found if not math.isnan(value)), default=math.nan)

    @property
    def speedups(self) -> dict[str, float]:
        """How many times faster ours is, by the name of the bar."""
        twonn = self.median("ours: twonn")
        return {
            "twonn": self.fastest_twonn / twonn,
            "search": self.median("faiss: search") / twonn,
            "both": (self.fastest_twonn + self.median("sklearn: pca")) / self.median("ours: all"),
            "product": self.median("torch: product") / twonn,
            "ess": twonn / self.median("ours: ess"),
        }


def dadapy_python(folder: Path) -> str:
    """Return the interpreter of DADApy's environment, which is made if there is none.

    Args:
        folder: Of the virtual environment.

    Returns:
        Path of the interpreter.

    Raises:
        PeerMissingError: If the environment cannot be made.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    installed = (
        python.exists()
        and not subprocess.run(
            [python, "-c", "import importlib.util as u; assert u.find_spec('dadapy')"],
            capture_output=True,
            check=False,
        ).returncode
    )
    if not installed:
        print("making an environment for DADApy ...", file=sys.stderr)
        wanted = ["dadapy>=0.3", "numpy<2", "threadpoolctl"]
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *wanted],
        ):
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                raise PeerMissingError(f"DADApy: cannot be installed ({said[-1]})") from None
    return str(python)


def start_peers(
    stack: ExitStack, wanted: tuple[str, ...], environment: Path
) -> tuple[dict[str, Worker], list[str]]:
    """Start the peers there are.

    Args:
        stack: Ends them.
        wanted: Their names.
        environment: Folder of DADApy's virtual environment.

    Returns:
        Name to worker, and why the others are missing.
    """
    workers, missing = {}, []
    for name in wanted:
        try:
            python = dadapy_python(environment) if name == "DADApy" else sys.executable
            workers[name] = stack.enter_context(Worker(name, python))
        except PeerMissingError as error:
            missing.append(str(error))
    return workers, missing


def measure(
    row: Row,
    ours: Worker,
    peers: dict[str, Worker],
    folder: Path,
    busy: Busy | None,
    repeats: int,
    smoke: bool,
) -> Outcome:
    """Measure one row.

    Args:
        row: The row.
        ours: The worker of this package.
        peers: The workers of the others.
        folder: Where the array is written.
        busy: The process that keeps a core busy, if there is one.
        repeats: Turns of each contender.
        smoke: Whether to take a small array instead.

    Returns:
        Times, results and memory.
    """
    shape = (row.n // SMOKE, row.d // SMOKE) if smoke else (row.n, row.d)
    path = save_activations(folder, *shape, row.dtype)
    outcome = Outcome(row, shape)
    with Worker("lightning_id") as fresh:
        fresh.ask("load", path=path)
        memory = fresh.ask("memory", call="twonn")
        outcome.peak, outcome.extra = memory["peak"], memory["extra"]

    def task(name: str, worker: Worker, call: str) -> Callable[[], float]:
        def run() -> float:
            try:
                answer = worker.ask("run", call=call)
            except RuntimeError as error:
                if worker is ours:
                    raise
                outcome.failed[name] = str(error)
                return math.nan
            outcome.results[name] = answer["results"]
            return answer["seconds"]

        return run

    def held(run: Callable[[], float]) -> Callable[[], float]:
        def run_held() -> float:
            with busy.held():
                return run()

        return run_held

    with ExitStack() as stack:
        ours.ask("load", path=path)
        tasks = {name: task(name, ours, call) for name, call in _OURS}
        if row.dtype == "float32":
            for name, worker in peers.items():
                try:
                    calls = worker.ask("load", path=path)["calls"]
                except RuntimeError as error:
                    outcome.failed[name] = str(error)
                    continue
                tasks |= {f"{name}: {c}": task(f"{name}: {c}", worker, c) for c in calls}
        else:
            product = stack.enter_context(Worker("product"))
            product.ask("load", path=path)
            tasks["torch: product"] = task("torch: product", product, "product")
            task("reference: twonn", product, "reference")()
        if busy is not None:
            tasks |= {f"{name}, idle": held(tasks[name]) for name, _ in _OURS}
        mine = [name for name in tasks if name.startswith(("ours", "torch"))]
        budget = dict.fromkeys(tasks, BUDGET) | dict.fromkeys(mine, OUR_BUDGET)
        outcome.times = round_robin(tasks, repeats, budget)
    return outcome


_OURS = (
    ("ours: twonn", "twonn"),
    ("ours: all", "all"),
    ("ours: ess", "ess"),
    ("torch: product", "product"),
)


def bars_table(outcomes: list[Outcome]) -> str:
    """Return the table of ratios and their bars.

    Args:
        outcomes: What was measured.

    Returns:
        Markdown.
    """
    header = [
        "rows x columns",
        "TwoNN: times faster than the fastest peer",
        "than faiss search",
        "TwoNN + PCA + PR: than fastest peer + sklearn PCA",
        "TwoNN time / one x @ x.T",
        "ESS time / TwoNN time",
        "peak resident",
    ]
    rows = []
    for outcome in outcomes:
        row, speedups = outcome.row, outcome.speedups
        cells = [
            _verdict(f"{value:.2f}", ">=", f"{bar:.3g}", value, value >= bar)
            for value, bar in (
                (speedups[name], getattr(row, name)) for name in ("twonn", "search", "both")
            )
        ]
        for name in ("product", "ess"):
            share, most = 1 / speedups[name], 1 / getattr(row, name)
            cells.append(_verdict(f"{share:.2f}", "<=", f"{most:.3g}", share, share <= most + 1e-9))
        peak = mib(outcome.peak)
        if row.dtype == "float16":
            fits = outcome.peak < RESIDENT_LIMIT
            peak = _verdict(peak, "<", mib(RESIDENT_LIMIT), outcome.peak, fits)
        rows.append([_label(outcome), *cells, peak])
    return markdown_table([header, *rows])


def limits_table(outcomes: list[Outcome]) -> str:
    """Return how far any exact search may get past the fastest peer, as Markdown.

    Args:
        outcomes: What was measured.

    Returns:
        Markdown.
    """
    header = ["rows x columns", "x @ x.T", "fastest peer", "ours", "half a product, times faster"]
    rows = []
    for outcome in outcomes:
        product, peer = outcome.median("torch: product"), outcome.fastest_twonn
        if math.isnan(peer):
            continue
        ours = outcome.median("ours: twonn")
        cells = [seconds(product), f"{peer / product:.2f}", f"{ours / product:.2f}"]
        rows.append([_label(outcome), *cells, f"{peer / (product / 2):.2f}"])
    return (
        "Distances of all pairs need half a product (by symmetry), in float32. Peer and ours are in"
        " products; a bar\nabove the last column, the peer's time over that of half a product,"
        " cannot be met by an exact search.\n\n" + markdown_table([header, *rows])
    )


def times_table(outcomes: list[Outcome]) -> str:
    """Return the table of medians, with the fastest and slowest turn.

    Args:
        outcomes: What was measured.

    Returns:
        Markdown.
    """
    header = ["rows x columns", "call", "median", "fastest", "slowest", "turns", "/ x @ x.T"]
    rows = []
    for outcome in outcomes:
        unit = outcome.median("torch: product")
        for name, times in outcome.times.items():
            if not times:
                rows.append([_label(outcome), name, "failed", "-", "-", "0", "-"])
                continue
            spread = [seconds(value) for value in (median(times), min(times), max(times))]
            rows.append(
                [
                    _label(outcome),
                    name,
                    *spread,
                    str(len(times)),
                    f"{median(times) / unit:.2f}",
                ]
            )
    return markdown_table([header, *rows])


def busy_table(outcomes: list[Outcome]) -> str:
    """Return how many times slower each is with a core kept busy than without, in the same rounds.

    Args:
        outcomes: What was measured.

    Returns:
        Markdown.
    """
    header = ["rows x columns", *(name for name, _ in _OURS)]
    rows = [
        [_label(o), *(f"{o.median(name) / o.median(f'{name}, idle'):.2f}" for name, _ in _OURS)]
        for o in outcomes
    ]
    return markdown_table([header, *rows])


def memory_table(outcomes: list[Outcome]) -> str:
    """Return the table of the memory of TwoNN beyond the rows.

    Args:
        outcomes: What was measured.

    Returns:
        Markdown.
    """
    header = ["rows x columns", "peak extra", "stated: 4 n² + 2 · 4 n · 4096", "share"]
    rows = []
    for outcome in outcomes:
        stated = stated_memory(outcome.shape[0])
        share = outcome.extra / stated
        rows.append([_label(outcome), mib(outcome.extra), mib(stated), f"{share:.2f}"])
    return markdown_table([header, *rows])


def agreement_table(outcomes: list[Outcome]) -> tuple[str, bool]:
    """Return the table of the results and of ours, and whether all of them agree.

    Args:
        outcomes: What was measured.

    Returns:
        Markdown, and the verdict.
    """
    header = ["rows x columns", "call", "result", "ours", "difference", "allowed", ""]
    rows, agree = [], True
    for outcome in outcomes:
        ours = outcome.results["ours: all"]
        alone = outcome.results["ours: twonn"]
        found = {("ours, alone", "ID"): (alone["id"], ours["id"], 1e-9)}
        for name, results in outcome.results.items():
            peer = name.split(":")[0]
            if peer in TOLERANCE:
                found[name, "ID"] = (results["id"], ours["id"], TOLERANCE[peer])
            elif peer == "sklearn":
                count = ours["components"]
                allowed = 1 / count if results["margin"] < PCA_MARGIN else 0.0
                found[name, "PCA 90 %"] = (results["components"], count, allowed)
                pair = results["participation"], ours["participation"]
                found[name, "PR"] = (*pair, PCA_TOLERANCE)
        for (name, quantity), (theirs, mine, allowed) in found.items():
            difference = abs(theirs - mine) / abs(mine)
            good = difference <= allowed
            agree = agree and good
            rows.append(
                [
                    _label(outcome),
                    f"{name}, {quantity}",
                    f"{theirs:.7g}",
                    f"{mine:.7g}",
                    f"{difference:.1e}",
                    f"{allowed:.1e}",
                    "agree" if good else "DISAGREE",
                ]
            )
    return markdown_table([header, *rows]), agree


def _verdict(value: str, relation: str, bar: str, number: float, passes: bool) -> str:
    if bar == "nan":
        return "-"
    if math.isnan(number):
        return f"no peer ({relation} {bar})"
    return f"{value} ({relation} {bar}) {'PASS' if passes else 'MISS'}"


def _label(outcome: Outcome) -> str:
    n, d = outcome.shape
    return f"{n} x {d}" + (f", {outcome.row.dtype}" if outcome.row.dtype != "float32" else "")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options.

    Args:
        arguments: By default, the ones of the command line.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--only", action="append", choices=names, help="a row; may be repeated")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--busy", action="store_true", help="keep one core busy")
    parser.add_argument("--repeats", type=int, default=9, help="turns of a quick contender")
    parser.add_argument("--output", type=Path, help="write the report there too")
    parser.add_argument("--smoke", action="store_true", help="small arrays, 3 repeats")
    cache = Path.home() / ".cache" / "lightning_id" / "dadapy"
    parser.add_argument(
        "--dadapy-env", type=Path, default=os.environ.get(ENVIRONMENT, cache), metavar="FOLDER"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Run the benchmark.

    Returns:
        1 if results disagree, else 0.
    """
    options = parse()
    start, about = time.perf_counter(), machine()
    repeats = 3 if options.smoke else options.repeats
    chosen = [row for row in ROWS if not options.only or row.name in options.only]
    with ExitStack() as stack:
        ours = stack.enter_context(Worker("lightning_id"))
        peers, missing = start_peers(stack, tuple(options.peers), options.dadapy_env)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        busy = stack.enter_context(Busy()) if options.busy else None
        outcomes = []
        for row in chosen:
            print(f"{row.name} ...", file=sys.stderr)
            outcomes.append(measure(row, ours, peers, folder, busy, repeats, options.smoke))
        workers = [ours, *peers.values()]
        libraries = {w.name: (w.about["versions"], w.about["threads"]) for w in workers}
    agreement, agree = agreement_table(outcomes)
    parts = [
        "# Speed" + (", one core kept busy" if options.busy else ""),
        about,
        "\n".join(
            f"- {name}: {_listed(versions)}; threads {_listed(threads) or 'unknown'}"
            for name, (versions, threads) in libraries.items()
        ),
        *(f"Missing: {why}" for why in missing),
        *(f"Failed: {_label(o)}, {why}" for o in outcomes for why in o.failed.values()),
        "## Targets",
        bars_table(outcomes),
        *(["## Busy against idle, in the same rounds", busy_table(outcomes)] if busy else []),
        "## The least that an exact search costs",
        limits_table(outcomes),
        "## Medians",
        times_table(outcomes),
        "## Memory of TwoNN beyond the rows, in a fresh process",
        memory_table(outcomes),
        "## Do the results agree",
        agreement,
        f"{time.perf_counter() - start:.0f} s in all.",
    ]
    report = "\n\n".join(parts) + "\n"
    print(report)
    if options.output:
        options.output.write_text(report)
    return 0 if agree else 1


def _listed(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


if __name__ == "__main__":
    sys.exit(main())
