"""Scoring kernels: the context side once per request, then one dot product per creative.

Arithmetic: tables are float32; every sum, product and exponential is float64, in the order of
fields and columns. No sum is reassociated (fastmath is off) and rows never meet one another, so a
block of one row gives bit for bit what a block of 4,096 gives, on any number of threads.

Row ids are trusted: ``network.check_rows`` must have passed. The kernels for one request and one
pair allocate nothing; their scratch arrays belong to one caller and are never shared by threads.

Dimension names: F = context fields, V = context rows, E = width of one head, C = creatives,
N = pairs of a request and a creative. Columns [0, E) belong to pctr, [E, 2E) to pcvr.
"""

from __future__ import annotations

import numpy as np

from market.kernel import kernel


@kernel
def context_side(
    features: np.ndarray,
    context_vectors: np.ndarray,
    context_bias: np.ndarray,
    vector_out: np.ndarray,
    bias_out: np.ndarray,
) -> None:
    """Fills vector_out[2E] and bias_out[2] (both float64) with the sums over a request's fields.

    Shapes: features[F] uint32 rows, context_vectors[V, 2E] and context_bias[V, 2] float32.
    Source: Rendle 2010, equation 1: the factors of one side may be summed before the product.
    """
    for k in range(vector_out.shape[0]):
        vector_out[k] = 0.0
    bias_out[0] = 0.0
    bias_out[1] = 0.0
    for field in range(features.shape[0]):
        row = np.uint64(features[field])
        for k in range(vector_out.shape[0]):
            vector_out[k] += np.float64(context_vectors[row, k])
        bias_out[0] += np.float64(context_bias[row, 0])
        bias_out[1] += np.float64(context_bias[row, 1])


@kernel
def sigmoid(logit: float) -> float:
    """Returns 1 / (1 + exp(-logit)) in float64, without overflow at either end."""
    if logit >= 0.0:
        return 1.0 / (1.0 + np.exp(-logit))
    odds = np.exp(logit)
    return odds / (1.0 + odds)


@kernel
def pair_logits(
    vector: np.ndarray,
    bias: np.ndarray,
    creative_row: int,
    ad_vectors: np.ndarray,
    ad_bias: np.ndarray,
) -> tuple[float, float]:
    """Returns the uncalibrated logits (pctr, pcvr) of one request with one creative.

    Shapes: vector[2E] and bias[2] from ``context_side``; ad_vectors[C, 2E], ad_bias[C, 2] float32
    from ``network.creative_tables``.
    """
    row = np.uint64(creative_row)
    width = ad_vectors.shape[1] // 2
    click = 0.0
    conversion = 0.0
    for k in range(width):
        click += vector[k] * np.float64(ad_vectors[row, k])
        conversion += vector[width + k] * np.float64(ad_vectors[row, width + k])
    return (
        click + (bias[0] + np.float64(ad_bias[row, 0])),
        conversion + (bias[1] + np.float64(ad_bias[row, 1])),
    )


@kernel
def pair_probabilities(
    vector: np.ndarray,
    bias: np.ndarray,
    creative_row: int,
    ad_vectors: np.ndarray,
    ad_bias: np.ndarray,
    calibration: np.ndarray,
) -> tuple[float, float]:
    """Returns calibrated (pctr, pcvr) of one request with one creative, each in [0, 1].

    Shapes: as ``pair_logits``; calibration[2, 2] float64, (slope, intercept) of each head.
    pcvr is given a click: an impression converts with probability pctr * pcvr.
    Source: Platt 1999, p = sigmoid(slope * logit + intercept).
    """
    click, conversion = pair_logits(vector, bias, creative_row, ad_vectors, ad_bias)
    return (
        sigmoid(calibration[0, 0] * click + calibration[0, 1]),
        sigmoid(calibration[1, 0] * conversion + calibration[1, 1]),
    )


@kernel
def block_logits(
    features: np.ndarray,
    creative_rows: np.ndarray,
    context_vectors: np.ndarray,
    context_bias: np.ndarray,
    ad_vectors: np.ndarray,
    ad_bias: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fills out[N, 2] float64 with the uncalibrated logits of N pairs.

    Shapes: features[N, F] uint32, creative_rows[N] integer, tables as above.
    """
    vector = np.empty(context_vectors.shape[1], np.float64)
    bias = np.empty(2, np.float64)
    for n in range(features.shape[0]):
        context_side(features[n], context_vectors, context_bias, vector, bias)
        out[n, 0], out[n, 1] = pair_logits(vector, bias, creative_rows[n], ad_vectors, ad_bias)


@kernel
def block_probabilities(
    features: np.ndarray,
    creative_rows: np.ndarray,
    context_vectors: np.ndarray,
    context_bias: np.ndarray,
    ad_vectors: np.ndarray,
    ad_bias: np.ndarray,
    calibration: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fills out[N, 2] float64 with calibrated (pctr, pcvr) of N pairs (``pair_probabilities``)."""
    vector = np.empty(context_vectors.shape[1], np.float64)
    bias = np.empty(2, np.float64)
    for n in range(features.shape[0]):
        context_side(features[n], context_vectors, context_bias, vector, bias)
        out[n, 0], out[n, 1] = pair_probabilities(
            vector, bias, creative_rows[n], ad_vectors, ad_bias, calibration
        )
