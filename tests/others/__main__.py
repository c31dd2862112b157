"""Print layers, numbers and warnings of the cases: `python -m tests.others [NAME ...]`."""

import logging
import sys
import tempfile
import time
import traceback

from tests.others.cases import CASES
from tests.others.harness import Case, deviations, is_sane, kind_of, run

for package in ("pytorch_lightning", "lightning.pytorch"):
    logging.getLogger(package).setLevel(logging.ERROR)


def show(case: Case) -> None:
    """Fit and print."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(case, folder)
    off, twonn, pca = deviations(outcome), outcome.of("twonn"), outcome.of("pca")
    for layer, record in twonn.items():
        depth = "never" if record["depth"] is None else f"{record['depth']:.2f}"
        role = f" ({record['role']})" if record["role"] else ""
        line = f"  {layer + role:<52} {depth:>5} {record['ambient_dimension'] or '-':>6}"
        if record["reason"] is None:
            line += f" {record['value']:9.2f} ± {record['std_error']:.2f}"
            line += f", PCA {pca[layer]['value']:.0f}"
            line += "" if is_sane(record) else ", MORE THAN ITS COLUMNS"
            line += (
                f", off by {off[layer][0]:.0e}, {off[layer][1]}" if layer in off else ", NO ROWS"
            )
        else:
            line += f" {record['reason']}"
        print(line, f"[{record['note']}]" if record["note"] else "")
    print("  keys:", {k: round(v, 2) for k, v in outcome.watched.metrics.items() if "id/" in k})
    for text in outcome.watched.warnings:
        print("  warning:", text)
    print("  changed:", outcome.differences or "nothing", "- hooks left:", outcome.watched.hooks)
    reasons = {layer: kind_of(r["reason"]) for layer, r in twonn.items() if r["reason"]}
    warns = tuple(kind_of(text) for text in outcome.watched.warnings)
    print("  layers:", *twonn, "\n  reasons =", reasons, "\n  warns =", warns)


def main(wanted: list[str]) -> None:
    for name, case in CASES.items():
        if not wanted or any(each in name for each in wanted):
            start = time.perf_counter()
            print(f"== {name}", flush=True)
            if not case.is_installed:
                print("  not installed")
                continue
            try:
                show(case)
            except Exception:
                traceback.print_exc(limit=3)
            print(f"  {time.perf_counter() - start:.1f} s", flush=True)


main(sys.argv[1:])
