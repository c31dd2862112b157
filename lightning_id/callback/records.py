"""Results of the layers of one sample set, compared with others and added to the history."""

from collections.abc import Iterable

from lightning_id.callback.comparisons import Comparisons, compare_layers
from lightning_id.callback.failures import FailurePolicy
from lightning_id.history import History, Validation
from lightning_id.recording.results import LayerResult


def add_results(
    results: Iterable[LayerResult],
    done: list[LayerResult],
    history: History,
    validation: Validation,
    data: str,
    reduce: str,
    comparisons: Comparisons | None,
    failures: FailurePolicy,
) -> None:
    """Add each result to the history and to ``done`` as soon as it is estimated."""
    n_records = len(history.records)
    for result in results:
        done.append(result)
        # Notes on the batches mean that other samples are measured at every validation.
        if comparisons is not None and not result.batch_notes:
            comparisons.compare(data, result)
        for fields in result.records():
            history.append(**validation._asdict(), data=data, reduce=reduce, **fields)
        for text in result.batch_notes:
            failures.report_once(text)
        if failures.on_error == "raise" and result.errors:
            name, error = next(iter(result.errors.items()))
            raise RuntimeError(f"{name} of layer {result.layer!r} failed: {error!r}") from error
    compare_layers(done, history.records[n_records:])
    spectra = {r.layer: r.spectrum for r in done if r.spectrum is not None}
    if spectra:
        history.keep_spectra(validation, spectra, data)
