"""The recommendation network's numbers: what training writes, publishing splits, serving reads.

Two heads, pctr (click given impression) and pcvr (conversion given click). Each is a factorisation
machine that keeps only the pairs of a user or context field with an ad field, plus linear terms:

    logit_h = b_h + sum_f context_bias[f, h] + sum_a ad_bias[a, h]
            + < sum_f context_vectors[f, h], sum_a ad_vectors[a, h] >
    p_h     = sigmoid(slope_h * logit_h + intercept_h)

So a pair costs one dot product: everything of the ad is summed once per creative when a snapshot is
published (``creative_tables``), everything of the context once per request (``kernels``). The split
is exact, not an approximation.

This file does not train (``training``) and does not score (``kernels``).

Source: Rendle, "Factorization machines", ICDM 2010, equation 1, restricted to the pairs between the
two sides; Platt, "Probabilistic outputs for support vector machines", 1999.

Dimension names: V = CONTEXT_ROWS, W = AD_ROWS, E = width of one head, C = creatives, A = ad fields.
Columns [0, E) of a vector table belong to pctr, [E, 2E) to pcvr.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bidder.recommendation.card import Card, Scores
from market.errors import BadInput, Corrupt
from market.features import AD_ROWS, CONTEXT_ROWS

EMBEDDING_WIDTH = 8
"""E of the artefact that ships."""

HEADS = ("pctr", "pcvr")
"""Order of heads in every table."""

SHIPPED_ARTEFACT = Path(__file__).parent / "artefacts" / "response.npz"
"""The artefact that comes with the package; its card and its ONNX file lie beside it."""


class Weights(NamedTuple):
    """A trained network. All tables are float32: no figure of theirs is worth half precision.

    Attributes:
        context_vectors: [V, 2E] float32.
        context_bias: [V, 2] float32.
        ad_vectors: [W, 2E] float32.
        ad_bias: [W, 2] float32.
        bias: [2] float32, b of each head: the logit of its base rate in the training rows.
        calibration: [2, 2] float64, (slope, intercept) of each head.
        version: 32-bit hash of all of the above, so equal numbers have equal versions.
    """

    context_vectors: npt.NDArray[np.float32]
    context_bias: npt.NDArray[np.float32]
    ad_vectors: npt.NDArray[np.float32]
    ad_bias: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    calibration: npt.NDArray[np.float64]
    version: int


def weights_of(
    context_vectors: npt.NDArray[np.float32],
    context_bias: npt.NDArray[np.float32],
    ad_vectors: npt.NDArray[np.float32],
    ad_bias: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    calibration: npt.NDArray[np.float64],
) -> Weights:
    """Returns the tables as ``Weights`` with the version that their content has.

    Raises:
        BadInput: a table has the wrong shape or holds a number that is not finite.
    """
    weights = Weights(context_vectors, context_bias, ad_vectors, ad_bias, bias, calibration, 0)
    problem = _problem_of(weights)
    if problem:
        raise BadInput(f"recommendation weights: {problem}")
    return weights._replace(version=_version_of(weights))


def check_rows(rows: npt.NDArray[np.integer], row_count: int, name: str) -> None:
    """Passes if every id in ``rows`` is one of a table with ``row_count`` rows.

    The one check of row ids. A kernel never checks: -1 would read the last row and ``row_count``
    foreign memory, while ONNX takes -1 for the last row. So whoever takes ids from outside calls
    this once before kernels or sessions.

    Args:
        rows: of any shape and integer type.
        row_count: V or W.
        name: of the array, for the message.

    Raises:
        BadInput: an id is below 0 or not below ``row_count``.
    """
    if not rows.size:
        return
    least, most = int(rows.min()), int(rows.max())
    if least < 0 or most >= row_count:
        wrong = least if least < 0 else most
        raise BadInput(f"{name}: holds row {wrong}; rows must be in [0, {row_count})")


def creative_tables(
    weights: Weights, ad_feature_rows: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns what a snapshot holds of each creative: (ad_vectors [C, 2E], ad_bias [C, 2]).

    ``ad_bias`` has the heads' own bias inside. Fields are added one after the other in float64 and
    rounded once, so a creative's numbers do not depend on which others are published with it.

    Args:
        weights: the network.
        ad_feature_rows: [C, A] rows of the ad table (``market.features.ad_features``).

    Raises:
        BadInput: a row is out of range.
    """
    check_rows(ad_feature_rows, weights.ad_vectors.shape[0], "ad_feature_rows")
    creative_count = ad_feature_rows.shape[0]
    vectors = np.zeros((creative_count, weights.ad_vectors.shape[1]), np.float64)
    bias = np.tile(weights.bias.astype(np.float64), (creative_count, 1))
    for field in range(ad_feature_rows.shape[1]):
        rows = ad_feature_rows[:, field]
        vectors += weights.ad_vectors[rows]
        bias += weights.ad_bias[rows]
    return vectors.astype(np.float32), bias.astype(np.float32)


def write_artefact(
    path: Path,
    weights: Weights,
    *,
    command: str,
    seed: int,
    data: str,
    row_count: int,
    scores: Scores,
    onnx_sha256: str = "",
) -> Card:
    """Writes ``weights`` to ``path`` (.npz) and their card beside it (.json); returns the card.

    Equal weights give equal bytes. Each file is written whole and then renamed; the card goes last,
    so that a card never speaks of a file that is not there.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **_tables_of(weights))
    body = buffer.getvalue()
    card = Card(
        command=command,
        seed=seed,
        data=data,
        row_count=row_count,
        scores=scores,
        version=weights.version,
        sha256=hashlib.sha256(body).hexdigest(),
        onnx_sha256=onnx_sha256,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, body)
    text = msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"
    write_whole(path.with_suffix(".json"), text)
    return card


def read_artefact(path: Path = SHIPPED_ARTEFACT) -> Weights:
    """Returns the network in ``path``, checked against its card.

    Raises:
        Corrupt: the file or its card is missing, its hash is not the card's, a table has the wrong
            shape or type, or holds a number that is not finite.
    """
    card = read_card(path)
    try:
        body = path.read_bytes()
    except OSError as error:
        raise Corrupt(f"recommendation artefact {path.name}: {error}; {_CURE}") from error
    found = hashlib.sha256(body).hexdigest()
    if found != card.sha256:
        raise Corrupt(
            f"recommendation artefact {path.name}: sha256 is {found}, its card says "
            f"{card.sha256}; {_CURE}"
        )
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            tables = [np.ascontiguousarray(file[name]) for name in Weights._fields[:-1]]
    except (OSError, ValueError, KeyError) as error:
        raise Corrupt(f"recommendation artefact {path.name}: {error}; {_CURE}") from error
    weights = Weights(*tables, version=card.version)
    problem = _problem_of(weights)
    if not problem and _version_of(weights) != card.version:
        problem = f"version is {_version_of(weights)}, its card says {card.version}"
    if problem:
        raise Corrupt(f"recommendation artefact {path.name}: {problem}; {_CURE}")
    for table in tables:
        table.flags.writeable = False
    return weights


def read_card(path: Path = SHIPPED_ARTEFACT) -> Card:
    """Returns the card of the artefact in ``path``.

    Raises:
        Corrupt: it is missing or not a card.
    """
    try:
        return msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError) as error:
        raise Corrupt(f"card of recommendation artefact {path.name}: {error}; {_CURE}") from error


def write_whole(path: Path, body: bytes) -> None:
    """Writes ``body`` so that a reader sees all of it or none (temporary file, then rename)."""
    temporary = path.with_suffix(f"{path.suffix}.tmp{os.getpid()}")
    temporary.write_bytes(body)
    temporary.rename(path)


_CURE = "restore the file from the package or train it again"


def _tables_of(weights: Weights) -> dict[str, npt.NDArray[np.generic]]:
    return {name: getattr(weights, name) for name in Weights._fields[:-1]}


def _version_of(weights: Weights) -> int:
    digest = hashlib.blake2b(digest_size=4)
    for name, table in _tables_of(weights).items():
        digest.update(f"{name} {table.dtype.str} {table.shape}".encode())
        digest.update(np.ascontiguousarray(table).tobytes())
    # 0 means "no model" in an event
    return int.from_bytes(digest.digest(), "little") or 1


def _problem_of(weights: Weights) -> str:
    width = weights.context_vectors.shape[-1]
    if width % len(HEADS):
        return f"context_vectors: {width} columns; it must be two heads of equal width"
    expected: dict[str, tuple[tuple[int, ...], type[np.floating]]] = {
        "context_vectors": ((CONTEXT_ROWS, width), np.float32),
        "context_bias": ((CONTEXT_ROWS, 2), np.float32),
        "ad_vectors": ((AD_ROWS, width), np.float32),
        "ad_bias": ((AD_ROWS, 2), np.float32),
        "bias": ((2,), np.float32),
        "calibration": ((2, 2), np.float64),
    }
    for name, table in _tables_of(weights).items():
        shape, dtype = expected[name]
        if table.shape != shape or table.dtype != dtype:
            return (
                f"{name}: shape {table.shape} of {table.dtype}; it must be {shape} of "
                f"{np.dtype(dtype)}"
            )
        if not np.isfinite(table).all():
            return f"{name}: holds a number that is not finite"
    return ""
