"""Benches: ``python -m bench``. Ratios against a named baseline of the same run, never in tests."""

import os

# numpy's matrix products would spread over all cores and wait for each other there: a baseline runs
# on one core, as what it is held against. It must be said before numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
