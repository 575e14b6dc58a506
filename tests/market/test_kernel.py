"""The compile decorator: one set of flags, and plain Python when it is switched off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from market import kernel as kernel_module


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


def test_machine_code_is_kept_apart_by_the_text_of_all_that_is_compiled_into_it(
    tmp_path, monkeypatch
):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kernel_module, "_ROOT", tmp_path)
    room = tmp_path / "room"
    room.mkdir()
    (room / "kernels.py").write_text("from room.words import LIMIT\n")
    (room / "words.py").write_text("LIMIT = 1\nif True:\n    from room.elsewhere import X\n")
    (room / "elsewhere.py").write_text("X = 1\n")

    def folder_of(name):
        kernel_module._imports.cache_clear()
        kernel_module._cache_folder.cache_clear()
        return kernel_module._cache_folder(room / name)

    first = folder_of("kernels.py")
    (room / "elsewhere.py").write_text("X = 2\n")
    assert folder_of("kernels.py") == first
    (room / "words.py").write_text("LIMIT = 2\n")
    second = folder_of("kernels.py")
    assert second != first
    assert second is not None
    assert second.is_dir()
