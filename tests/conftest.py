"""What every test runs under."""

from __future__ import annotations

import signal
from typing import NamedTuple

import numba
import pytest
from hypothesis import settings

# The first example of a property compiles its kernels, which no deadline survives.
settings.register_profile("lodestone", deadline=None)
settings.load_profile("lodestone")


FUZZ_CASES = 60_000
"""Mutated bodies of an ordinary run."""


class Fuzz(NamedTuple):
    """What the fuzz tests run: how many cases, and of which seed (``S``, or ``S:N``: one case)."""

    count: int
    seed: str | None


def pytest_addoption(parser):
    group = parser.getgroup("lodestone")
    group.addoption("--fuzz-cases", type=int, default=FUZZ_CASES, help="mutated bodies to send")
    group.addoption("--fuzz-seed", default=None, help="seed S of the cases, or S:N for one of them")


@pytest.fixture(scope="session")
def fuzz(request):
    option = request.config.getoption
    return Fuzz(option("--fuzz-cases"), option("--fuzz-seed"))


def pytest_configure(config):
    """Gives child processes an interrupt that they can get, and lets kernels' hashes wrap around.

    A shell ignores SIGINT in what it starts in the background, and so would all our children: the
    tests that interrupt one would wait for ever.

    Where kernels run as plain Python (NUMBA_DISABLE_JIT=1), numpy's scalars warn when they wrap,
    and a warning is an error here; compiled uint64 arithmetic is modulo 2^64, which keyed random
    numbers are made of.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if numba.config.DISABLE_JIT:
        config.addinivalue_line(
            "filterwarnings",
            r"ignore:overflow encountered in scalar:RuntimeWarning:.*\bkernels[a-z_]*$",
        )
