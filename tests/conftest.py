"""What every test runs under."""

from __future__ import annotations

import numba
from hypothesis import settings

# The first example of a property compiles its kernels, which no deadline survives.
settings.register_profile("lodestone", deadline=None)
settings.load_profile("lodestone")


def pytest_configure(config):
    """Lets hashes wrap around where kernels run as plain Python (NUMBA_DISABLE_JIT=1).

    Compiled uint64 arithmetic is modulo 2^64, which keyed random numbers are made of; numpy's
    scalars do the same but warn, and a warning is an error here.
    """
    if numba.config.DISABLE_JIT:
        config.addinivalue_line(
            "filterwarnings", r"ignore:overflow encountered in scalar:RuntimeWarning:.*\bkernels[a-z_]*$"
        )
