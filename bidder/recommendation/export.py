"""ONNX export of the network: the exchange format, and an oracle for the kernels.

The exported graph is the unsplit model, written out node by node from the formula in ``network``:
int64 rows in, uncalibrated logits out, every sum in float32 by whichever engine runs it.
Calibration and sigmoid stay outside, because a float32 sigmoid saturates and the calibrator needs
the logit.

Row ids must pass ``network.check_rows`` first: onnxruntime takes -1 for the last row.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bidder.recommendation.calibration import F64, calibrated
from bidder.recommendation.evaluation import logits_of_rows, probabilities_of_rows
from bidder.recommendation.network import HEADS, Weights, check_rows, write_whole
from market.creative import AD_FIELDS
from market.errors import Corrupt
from market.events import FEATURE_COUNT
from market.features import AD_ROWS, CONTEXT_ROWS

if TYPE_CHECKING:
    from pathlib import Path

OPSET = 18
IR_VERSION = 8
"""The ONNX file format that came with opset 18: every runtime that knows the opset reads it."""

TIE = 1e-5
"""Logits closer than this are a tie: float32 sums of the 18 fields do not tell them apart."""


class Parity(NamedTuple):
    """How far onnxruntime and the kernels are apart on the same rows.

    Attributes:
        logit_difference_max: greatest |difference| of uncalibrated logits.
        probability_difference_max: greatest |difference| of calibrated probabilities.
        is_same_order: per head, both put the rows in the same order, except rows whose logits are
            within TIE of one another.
    """

    logit_difference_max: float
    probability_difference_max: float
    is_same_order: bool


def export_onnx(weights: Weights, path: Path) -> str:
    """Writes the unsplit model to ``path`` as one self-contained file; returns its sha256.

    Inputs ``features`` int64 [N, F] and ``ad_features`` int64 [N, A], output ``logits`` float32
    [N, 2], for any N. The model's version is the version of the weights; equal weights give equal
    bytes.
    """
    width = weights.context_vectors.shape[1] // len(HEADS)
    constants = {
        **{
            name: getattr(weights, name)
            for name in ("context_vectors", "context_bias", "ad_vectors", "ad_bias", "bias")
        },
        "fields": np.array([1], np.int64),
        "columns": np.array([2], np.int64),
        "by_head": np.array([-1, len(HEADS), width], np.int64),
    }
    nodes = [
        *_sum_over_fields("context_vectors", "features", "context_vector"),
        *_sum_over_fields("context_bias", "features", "context_linear"),
        *_sum_over_fields("ad_vectors", "ad_features", "ad_vector"),
        *_sum_over_fields("ad_bias", "ad_features", "ad_linear"),
        helper.make_node("Mul", ["context_vector", "ad_vector"], ["products"]),
        helper.make_node("Reshape", ["products", "by_head"], ["products_by_head"]),
        helper.make_node("ReduceSum", ["products_by_head", "columns"], ["pairs"], keepdims=0),
        helper.make_node("Add", ["context_linear", "ad_linear"], ["linear"]),
        helper.make_node("Add", ["linear", "bias"], ["level"]),
        helper.make_node("Add", ["level", "pairs"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "response",
        [
            helper.make_tensor_value_info("features", TensorProto.INT64, ["N", FEATURE_COUNT]),
            helper.make_tensor_value_info("ad_features", TensorProto.INT64, ["N", len(AD_FIELDS)]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(HEADS)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph,
        producer_name="lodestone",
        model_version=weights.version,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    body = model.SerializeToString(deterministic=True)
    write_whole(path, body)
    return hashlib.sha256(body).hexdigest()


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Returns a session of the model in ``path`` that keeps to one thread and never spins.

    Raises:
        Corrupt: there is no such file, or it is no model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Corrupt(f"ONNX model {path.name}: {error}; export it again") from error


def logits_by_onnx(
    session: onnxruntime.InferenceSession,
    features: npt.NDArray[np.integer],
    ad_features: npt.NDArray[np.integer],
) -> F64:
    """Returns [N, 2] uncalibrated logits of features [N, F] with ad_features [N, A].

    Raises:
        BadInput: a row is out of range.
    """
    check_rows(features, CONTEXT_ROWS, "features")
    check_rows(ad_features, AD_ROWS, "ad_features")
    inputs = {
        "features": features.astype(np.int64),
        "ad_features": ad_features.astype(np.int64),
    }
    (logits,) = cast("list[npt.NDArray[np.float32]]", session.run(["logits"], inputs))
    return logits.astype(np.float64)


def parity(
    weights: Weights,
    path: Path,
    features: npt.NDArray[np.integer],
    ad_features: npt.NDArray[np.integer],
) -> Parity:
    """Returns how far the ONNX model in ``path`` is from the kernels on the given rows.

    Ask this of trained weights: the difference grows with the size of the logits.

    Raises:
        BadInput: a row is out of range.
        Corrupt: ``path`` holds no model.
    """
    by_onnx = logits_by_onnx(open_session(path), features, ad_features)
    by_kernel = logits_of_rows(weights, features, ad_features)
    probabilities = np.stack(
        [calibrated(by_onnx[:, head], weights.calibration[head]) for head in range(len(HEADS))], 1
    )
    return Parity(
        logit_difference_max=float(np.abs(by_onnx - by_kernel).max(initial=0.0)),
        probability_difference_max=float(
            np.abs(probabilities - probabilities_of_rows(weights, features, ad_features)).max(
                initial=0.0
            )
        ),
        is_same_order=all(
            _is_same_order(by_onnx[:, head], by_kernel[:, head]) for head in range(len(HEADS))
        ),
    )


def _sum_over_fields(table: str, rows: str, out: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gather", [table, rows], [f"{out}_by_field"], axis=0),
        helper.make_node("ReduceSum", [f"{out}_by_field", "fields"], [out], keepdims=0),
    ]


def _is_same_order(one: F64, other: F64) -> bool:
    # walking up the other's order, this one may fall below its greatest value so far by a tie only
    ranked = one[np.argsort(other, kind="stable")]
    return bool((np.maximum.accumulate(ranked) - ranked <= TIE).all())
