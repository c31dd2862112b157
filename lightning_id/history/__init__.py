"""The history of a run: its records and tables of them."""

from lightning_id.history.records import (
    BEFORE_TRAINING,
    COLUMNS,
    METRIC_COLUMNS,
    METRICS_FILE,
    RECORDS_FILE,
    SPECTRA_FILE,
    History,
    Kind,
    Record,
    Validation,
    estimators_of,
    folder_of,
    has_value,
    in_order,
    main_estimator,
    validation_of,
)

__all__ = [
    "BEFORE_TRAINING",
    "COLUMNS",
    "METRICS_FILE",
    "METRIC_COLUMNS",
    "RECORDS_FILE",
    "SPECTRA_FILE",
    "History",
    "Kind",
    "Record",
    "Validation",
    "estimators_of",
    "folder_of",
    "has_value",
    "in_order",
    "main_estimator",
    "validation_of",
]
