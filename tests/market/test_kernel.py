"""The compile decorator: one set of flags, and plain Python when it is switched off."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import pytest

from market.kernels import mix, scale_down

is_compiled = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT=1: nothing is compiled"
)


@is_compiled
def test_a_kernel_is_compiled_without_python_objects_and_without_reassociation():
    options = mix.targetoptions
    assert options["nopython"]
    assert options["nogil"]
    assert options["error_model"] == "numpy"
    assert not options["boundscheck"]
    assert not options["fastmath"]


@is_compiled
def test_a_kernel_is_kept_on_disk_for_the_next_process():
    assert mix.stats.cache_path is not None


@is_compiled
def test_a_division_by_zero_inside_a_kernel_raises_nothing():
    assert isinstance(scale_down(1, 0), int)


@pytest.mark.parametrize(("switch", "is_function"), [("0", "False"), ("1", "True")])
def test_a_kernel_is_plain_python_when_compilation_is_switched_off(switch, is_function):
    asked = subprocess.run(
        [
            sys.executable,
            "-c",
            "import inspect; from market.kernels import mix; print(inspect.isfunction(mix))",
        ],
        env=os.environ | {"NUMBA_DISABLE_JIT": switch},
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.strip() == is_function
