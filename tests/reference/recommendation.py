"""The response model, slow and obvious: the formula of Rendle 2010, one number at a time.

Written from the definition (restricted to pairs of a context with an ad field, unsplit), not from
the kernels: every pair of fields has its own inner product, and sums are exact.
"""

import math


def logit(head, features, ad_features, weights):
    """b + sum of linear terms + sum over pairs (f, a) of <v_f, v_a>, for head 0 or 1."""
    width = weights.context_vectors.shape[1] // 2
    columns = range(head * width, (head + 1) * width)
    terms = [float(weights.bias[head])]
    terms += [float(weights.context_bias[row, head]) for row in features]
    terms += [float(weights.ad_bias[row, head]) for row in ad_features]
    for context_row in features:
        for ad_row in ad_features:
            for k in columns:
                terms.append(
                    float(weights.context_vectors[context_row, k])
                    * float(weights.ad_vectors[ad_row, k])
                )
    return math.fsum(terms)


def probability(head, features, ad_features, weights):
    """Platt 1999: 1 / (1 + exp(-(slope * logit + intercept)))."""
    slope, intercept = (float(x) for x in weights.calibration[head])
    z = slope * logit(head, features, ad_features, weights) + intercept
    if z < -700.0:
        return 0.0
    return 1.0 / (1.0 + math.exp(-z))
