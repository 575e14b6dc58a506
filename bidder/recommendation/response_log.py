"""Response logs as files: one .npz with the fields of ``market.protocols.ResponseLog``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bidder.recommendation.network import check_rows
from market.creative import AD_FIELDS
from market.errors import BadInput
from market.events import FEATURE_COUNT
from market.features import AD_ROWS, CONTEXT_ROWS
from market.protocols import ResponseLog

if TYPE_CHECKING:
    from pathlib import Path

_DTYPES: dict[str, type[np.generic]] = {
    "features": np.uint32,
    "ad_features": np.uint32,
    "clicked": np.uint8,
    "converted": np.uint8,
    "ts_ms": np.int64,
    "weight": np.float32,
}


def check_log(log: ResponseLog) -> ResponseLog:
    """Returns ``log`` unchanged if every rule of ``ResponseLog`` holds.

    Raises:
        BadInput: shapes or types are wrong, a row id is out of range, a label is not 0 or 1, a
            conversion has no click, time runs backwards, or a weight is negative or not finite.
    """
    count = log.ts_ms.shape[0]
    shapes = {"features": (count, FEATURE_COUNT), "ad_features": (count, len(AD_FIELDS))}
    for name, array in zip(ResponseLog._fields, log, strict=True):
        shape, dtype = shapes.get(name, (count,)), np.dtype(_DTYPES[name])
        if array.shape != shape or array.dtype != dtype:
            raise BadInput(
                f"response log {name}: shape {array.shape} of {array.dtype}; it must be {shape} of "
                f"{dtype}"
            )
    check_rows(log.features, CONTEXT_ROWS, "response log features")
    check_rows(log.ad_features, AD_ROWS, "response log ad_features")
    if count and int(log.clicked.max()) > 1:
        raise BadInput(f"response log clicked: holds {log.clicked.max()}; it must be 0 or 1")
    if (log.converted > log.clicked).any():
        row = int(np.argmax(log.converted > log.clicked))
        raise BadInput(
            f"response log converted: row {row} is {log.converted[row]} and clicked "
            f"{log.clicked[row]}; only a click converts, and once"
        )
    if (np.diff(log.ts_ms) < 0).any():
        row = int(np.argmax(np.diff(log.ts_ms) < 0)) + 1
        raise BadInput(f"response log ts_ms: row {row} is earlier than the row before it")
    if not np.isfinite(log.weight).all() or (log.weight < 0).any():
        raise BadInput("response log weight: every weight must be finite and >= 0")
    return log


def read_log(path: Path) -> ResponseLog:
    """Returns the log in ``path``, checked.

    Raises:
        BadInput: there is no such file, it is no .npz with the fields of a ``ResponseLog``, or
            ``check_log`` refuses it.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            log = ResponseLog(*(file[name] for name in ResponseLog._fields))
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"response log {path}: {error}") from error
    return check_log(log)


def write_log(path: Path, log: ResponseLog) -> None:
    """Writes ``log`` to ``path`` (.npz), compressed."""
    np.savez_compressed(path, allow_pickle=False, **log._asdict())
