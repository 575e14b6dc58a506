"""The compile decorator: one set of flags, and plain Python when it is switched off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def asked(expression, switch):
    """What a process prints for an expression over two kernels; the switch is read at import."""
    program = f"import inspect\nfrom market.kernels import mix, scale_down\nprint({expression})"
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_DISABLE_JIT": switch},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_a_kernel_is_compiled_without_python_objects_checks_and_reassociation():
    names = ("nopython", "nogil", "error_model", "boundscheck", "fastmath")
    found = asked(f"[mix.targetoptions.get(name) for name in {names}]", "0")
    assert found == "[True, True, 'numpy', False, False]"


def test_a_kernel_is_kept_on_disk_for_the_next_process():
    assert asked("mix.stats.cache_path", "0") != "None"


def test_a_division_by_zero_inside_a_kernel_raises_nothing():
    assert asked("scale_down(1, 0)", "0").lstrip("-").isdigit()


@pytest.mark.parametrize(("switch", "is_function"), [("0", "False"), ("1", "True")])
def test_a_kernel_is_plain_python_when_compilation_is_switched_off(switch, is_function):
    assert asked("inspect.isfunction(mix)", switch) == is_function
