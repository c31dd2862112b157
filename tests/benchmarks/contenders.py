"""One contender of the benchmark in a process of its own: rows in, seconds and results out.

Run by `bench.Worker` as ``python contenders.py NAME`` with the interpreter of the environment that
holds the library. Requests and answers are lines of JSON; rows come as the path of a .npy file.
Every contender is timed here, around the same kind of call, so no answer crosses a pipe within the
time. Only the standard library and numpy are imported before the name is known.
"""

import contextlib
import gc
import importlib.metadata
import json
import os
import sys
import time
import traceback
import warnings

import numpy as np

Calls = dict[str, object]


def lightning_id_calls(rows):
    """Return the calls of this package, and the bare product that it is measured against.

    Args:
        rows: (n, d) float32 or float16.

    Returns:
        ``twonn`` (error bar included), ``all`` (TwoNN, PCA 90 % and participation ratio from one
        geometry), ``ess`` (which alone is timed, after TwoNN on its geometry) and ``product``.
    """
    import torch

    from lightning_id.functional import (
        Geometry,
        ess_dimension,
        participation_ratio,
        pca_dimension,
        twonn_dimension,
    )

    x = torch.from_numpy(rows)

    def twonn():
        estimate = twonn_dimension(x)
        return {"id": estimate.value, "std_error": estimate.std_error}

    def everything():
        geometry = Geometry(x)
        estimate = twonn_dimension(geometry)
        return {
            "id": estimate.value,
            "std_error": estimate.std_error,
            "components": pca_dimension(geometry, 0.9).value,
            "participation": participation_ratio(geometry).value,
        }

    def ess():
        geometry = Geometry(x)
        twonn_dimension(geometry)
        start = time.perf_counter()
        estimate = ess_dimension(geometry)
        return {"ess": estimate.value, "seconds": time.perf_counter() - start}

    def product():
        return {"trace": float((x @ x.T).trace())}

    return {"twonn": twonn, "all": everything, "ess": ess, "product": product}


def product_calls(rows):
    """Return the bare product of half-precision rows kept in float32, and an independent TwoNN.

    Args:
        rows: (n, d); kept as float32.

    Returns:
        ``product``, and ``reference``: the fit from distances of a float64 Gram matrix in numpy.
    """
    import torch

    x = torch.from_numpy(rows.astype(np.float32))

    def product():
        return {"trace": float((x @ x.T).trace())}

    def reference():
        gram = np.zeros((len(x), len(x)))
        for start in range(0, x.shape[1], 4096):
            block = x[:, start : start + 4096].double().numpy()
            gram += block @ block.T
        norm2 = gram.diagonal()
        distance2 = norm2 + norm2[:, None] - 2 * gram
        np.fill_diagonal(distance2, np.inf)
        return {"id": linear_fit(np.sqrt(np.partition(distance2, (0, 1), axis=1)[:, :2]))}

    return {"product": product, "reference": reference}


def scikit_dimension_calls(rows):
    """Return TwoNN of scikit-dimension: linear fit, 10 % discarded, as by default.

    Args:
        rows: (n, d) float32.

    Returns:
        ``twonn``.
    """
    from skdim.id import TwoNN

    return {"twonn": lambda: {"id": float(TwoNN().fit(rows).dimension_)}}


def dadapy_calls(rows):
    """Return TwoNN of DADApy: linear fit, 10 % discarded, as by default.

    Two neighbours are asked for, instead of the default of 100, which is slower. The cast to
    float64 in the constructor is part of the price: there is no way around it.

    Args:
        rows: (n, d) float32.

    Returns:
        ``twonn``.
    """
    from dadapy import Data

    return {"twonn": lambda: {"id": float(Data(rows, maxk=2).compute_id_2NN()[0])}}


def faiss_calls(rows):
    """Return the search of faiss alone: the rows are in the index before the clock starts.

    Args:
        rows: (n, d) float32.

    Returns:
        ``search``, with the fit of its distances, which is made outside the time.
    """
    import faiss

    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)

    def search():
        distance2, _ = index.search(rows, 3)
        return lambda: {"id": linear_fit(np.sqrt(np.maximum(distance2[:, 1:3], 0)))}

    return {"search": search}


def sklearn_calls(rows):
    """Return PCA of scikit-learn, by the solver it chooses and by the covariance where d <= n.

    Args:
        rows: (n, d) float32.

    Returns:
        ``pca`` and perhaps ``pca_covariance``.
    """
    from sklearn.decomposition import PCA

    def fit(solver):
        spectrum = PCA(svd_solver=solver).fit(rows).explained_variance_.astype(np.float64)
        held = spectrum.cumsum() / spectrum.sum()
        return {
            "components": int(np.searchsorted(held, 0.9)) + 1,
            # Nearer to the edge than float32 tells, the count may differ by one.
            "margin": float(np.abs(held - 0.9).min()),
            "participation": float(spectrum.sum() ** 2 / np.square(spectrum).sum()),
        }

    calls = {"pca": lambda: fit("auto")}
    if rows.shape[1] <= rows.shape[0]:
        calls["pca_covariance"] = lambda: fit("covariance_eigh")
    return calls


def linear_fit(distances):
    """Return the dimension by the fit of Ansuini et al. (2019): F = i / N, 10 % discarded.

    Args:
        distances: (n, 2), to the two nearest neighbours.

    Returns:
        The slope.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mu = np.log(distances[:, 1] / distances[:, 0])
    log_mu = np.sort(log_mu[np.isfinite(log_mu) & (log_mu > 0)])
    kept = int(len(log_mu) * 0.9 + 1e-9)
    y = -np.log1p(-np.arange(1, kept + 1) / len(log_mu))
    return float(log_mu[:kept] @ y / (log_mu[:kept] @ log_mu[:kept]))


CONTENDERS = {  # name: (the calls, the distributions whose versions are reported)
    "lightning_id": (lightning_id_calls, ("torch",)),
    "product": (product_calls, ("torch",)),
    "scikit-dimension": (scikit_dimension_calls, ("scikit-dimension", "scikit-learn")),
    "DADApy": (dadapy_calls, ("dadapy", "scikit-learn", "numpy")),
    "faiss": (faiss_calls, ("faiss-cpu",)),
    "sklearn": (sklearn_calls, ("scikit-learn",)),
}


def resident():
    """Return resident memory now and at its peak, in bytes; NaN where /proc does not tell."""
    found = {}
    with contextlib.suppress(OSError), open("/proc/self/status") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                found[name] = int(value.split()[0]) * 1024
    return found.get("VmRSS", float("nan")), found.get("VmHWM", float("nan"))


def forget_peak():
    """Let the peak of resident memory start anew from what is resident now; False if it cannot."""
    # Not resource.getrusage: it cannot be reset, and a child inherits the peak of its parent.
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def threads():
    """Return how many threads each library of this process would use, by the library's name."""
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_info

        return {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()}
    return {}


class Contender:
    """The requests a worker answers.

    Args:
        name: Key of `CONTENDERS`.
    """

    def __init__(self, name):
        self.make, self.distributions = CONTENDERS[name]
        self.rows, self.calls = None, {}

    def hello(self):
        """Import the library and warm it up on a few rows.

        Returns:
            Versions and threads.
        """
        self.rows = np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32)
        self.calls = self.make(self.rows)
        for name in self.calls:
            self.run(name)
        return {
            "versions": {name: importlib.metadata.version(name) for name in self.distributions},
            "threads": threads(),
        }

    def load(self, path):
        """Read rows from a file into memory.

        Args:
            path: A .npy file.

        Returns:
            The calls there are for them.
        """
        self.rows = self.calls = None
        gc.collect()
        self.rows = np.load(path)
        self.calls = self.make(self.rows)
        return {"calls": sorted(self.calls)}

    def run(self, call):
        """Time one call.

        Args:
            call: Its name.

        Returns:
            Seconds, of a part where the call returns them, and results.
        """
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            results = self.calls[call]()
            seconds = time.perf_counter() - start
        finally:
            gc.enable()
        results = results() if callable(results) else results
        return {"seconds": results.pop("seconds", seconds), "results": results}

    def memory(self, call):
        """Measure the memory of one call.

        Args:
            call: Its name.

        Returns:
            Peak of resident memory, of the process so far and beyond what was resident before.
        """
        gc.collect()
        before, peak = resident()
        resettable = forget_peak()
        self.calls[call]()
        after = resident()[1]
        return {"peak": max(peak, after), "extra": after - before if resettable else float("nan")}


def main(name):
    """Answer requests from standard input until it ends."""
    # Libraries print; the answers have the pipe for themselves, all else goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    contender = Contender(name)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(contender, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
