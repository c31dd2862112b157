"""The estimators again, written from their formulas: float64, direct differences, no cleverness."""

import math

import numpy as np

from lightning_id.functional import Geometry, get_estimator


def distinct_rows(x):
    """Return the rows of x as float64, equal ones once, in order of first appearance."""
    x = x.double().numpy() + 0.0
    _, first = np.unique(x, axis=0, return_index=True)
    return x[np.sort(first)]


def sorted_distances(rows):
    """Return the distances of every row to all the others, ascending, and whose they are."""
    distances = np.empty((len(rows), len(rows)))
    for i, row in enumerate(rows):
        difference = rows - row
        distances[i] = np.sqrt((difference * difference).sum(1))
        distances[i, i] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(distances, order, axis=1), order


def log_ratios(x, n1=1, n2=2, resolution=0.0):
    distances, _ = sorted_distances(distinct_rows(x))
    near, far = distances[:, n1 - 1], distances[:, n2 - 1]
    some = far > near
    log_mu = np.log(far[some] / near[some])
    return np.sort(log_mu[log_mu > resolution])


def twonn_linear(x, discard_fraction=0.1, resolution=0.0):
    log_mu = log_ratios(x, resolution=resolution)
    n = len(log_mu)
    r = min(math.floor(n * (1 - discard_fraction) + 1e-9), n - 1)
    y = [-math.log(1 - i / n) for i in range(1, r + 1)]
    return sum(log_mu[:r] * y) / sum(log_mu[:r] ** 2)


def twonn_mle(x, discard_fraction=0.1):
    log_mu = log_ratios(x)
    n = len(log_mu)
    r = math.floor(n * (1 - discard_fraction) + 1e-9)
    return (r - 1) / (log_mu[:r].sum() + (n - r) * log_mu[r - 1])


def eigenvalues(x, standardize=False):
    rows = x.double().numpy()
    centred = rows - rows.mean(0)
    if standardize:
        varies = rows.max(0) > rows.min(0)
        centred = np.where(varies, centred / np.where(varies, rows.std(0, ddof=1), 1), 0)
    return np.linalg.svd(centred, compute_uv=False) ** 2 / (len(rows) - 1)


def pca_count(x, share=0.9, standardize=False):
    values = eigenvalues(x, standardize)
    return int(np.argmax(values.cumsum() >= share * values.sum())) + 1


def estimated(name, x):
    """Return the estimate of the estimator of a name, which is not naive."""
    return get_estimator(name)(Geometry(x))


def assert_agrees(estimate, value, rel=1e-4):
    assert estimate.reason is None
    assert math.isfinite(estimate.value)
    assert abs(estimate.value - value) <= rel * abs(value), (estimate.value, value)


def assert_no_number(estimate, reason):
    assert math.isnan(estimate.value)
    assert math.isnan(estimate.std_error)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    assert estimate.reason is not None
    assert reason in estimate.reason, estimate.reason


def gride(x, n1, n2, resolution=0.0):
    """Maximise the likelihood of the density as it is printed, over a grid that closes in."""
    log_mu = log_ratios(x, n1, n2, resolution)
    if n2 == n1 + 1:
        return (len(log_mu) - 1) / (n1 * log_mu.sum())
    low, high = 1e-2, 1e3
    for _ in range(60):
        grid = np.geomspace(low, high, 9)
        best = int(np.argmax([gride_log_likelihood(log_mu, d, n1, n2) for d in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 8)]
    return (low + high) / 2


def gride_log_likelihood(log_mu, d, n1, n2):
    log_power = np.log(np.expm1(np.minimum(d * log_mu, 500)))
    log_power = np.where(d * log_mu > 500, d * log_mu, log_power)
    return (math.log(d) + (n2 - n1 - 1) * log_power - ((n2 - 1) * d + 1) * log_mu).sum()


def levina_bickel(x, k, average):
    distances, _ = sorted_distances(distinct_rows(x))
    sums = np.array([sum(math.log(row[k - 1] / row[j]) for j in range(k - 1)) for row in distances])
    sums = sums[sums > 0]
    if average == "mackay-ghahramani":
        return 1 / np.mean(sums / (k - 1))
    return np.mean((k - 1 if average == "levina-bickel" else k - 2) / sums)


def twonn_influence(log_mu, discard_fraction=0.1):
    """Return the linear fit, and the centred influence of every ratio on it."""
    n = len(log_mu)
    r = min(math.floor(n * (1 - discard_fraction) + 1e-9), n - 1)
    ordered = sorted(log_mu)
    fitted = ordered[:r]
    y = [-math.log(1 - i / n) for i in range(1, r + 1)]
    b = sum(each**2 for each in fitted) / n
    d = sum(each * at for each, at in zip(fitted, y, strict=True)) / (n * b)
    squares = [min(each, fitted[-1]) ** 2 for each in log_mu]
    return d, [-d / (2 * b) * (square - sum(squares) / n) for square in squares]


def mle_influence(log_mu):
    """Return (N - 1) / S, and the centred influence of every ratio on it."""
    mean = sum(log_mu) / len(log_mu)
    value = (len(log_mu) - 1) / sum(log_mu)
    return value, [-(value**2) * (each - mean) for each in log_mu]


def paired_change(x, y, influence=twonn_influence, n2=2):
    """Return the difference of two states and its error, pair by pair of samples."""
    shares, near = [], np.eye(len(x), dtype=bool)
    values = []
    for rows in (x.double().numpy() + 0.0, y.double().numpy() + 0.0):
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        distances, order = sorted_distances(rows[first])
        used = distances[:, 1] > distances[:, 0]
        value, mine = influence(np.log(distances[used, 1] / distances[used, 0]).tolist())
        values.append(value)
        shares.append(np.zeros(len(rows)))
        shares[-1][first[used]] = np.array(mine) / used.sum()
        for i, sample in enumerate(first):
            near[sample, first[order[i, :n2]]] = near[first[order[i, :n2]], sample] = True
    difference = shares[1] - shares[0]
    variance = sum(
        difference[i] * difference[j] for i in range(len(x)) for j in np.flatnonzero(near[i])
    )
    return values[1] - values[0], math.sqrt(variance)


def ess(x, k, anchors):
    """Return the mean over patches of the dimension whose expected sine is theirs."""
    rows = distinct_rows(x)
    _, order = sorted_distances(rows)
    return np.mean([inverse_sine(patch_skewness(rows[[a, *order[a, :k]]])) for a in anchors])


def patch_skewness(patch):
    """Return the areas of the parallelograms of all pairs, by determinants, over the products."""
    patch = patch - patch.mean(0)
    areas, products = 0.0, 0.0
    for i, a in enumerate(patch):
        for b in patch[:i]:
            areas += math.sqrt(max(np.linalg.det([[a @ a, a @ b], [a @ b, b @ b]]), 0))
            products += math.sqrt((a @ a) * (b @ b))
    return areas / products


def expected_sine(dimension):
    """Return the mean sine of the angle to a fixed axis, by quadrature."""
    angles = (np.arange(200_000) + 0.5) * math.pi / 200_000
    log_density = (dimension - 2) * np.log(np.sin(angles))
    density = np.exp(log_density - log_density.max())
    return float((np.sin(angles) * density).sum() / density.sum())


def inverse_sine(sine):
    low, high = 1.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        half = middle / 2
        s = math.exp(2 * math.lgamma(half) - math.lgamma(half + 0.5) - math.lgamma(half - 0.5))
        low, high = (middle, high) if s < sine else (low, middle)
    return low
