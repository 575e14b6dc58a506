"""Our top-level names are ours, and compiled code lives where it is looked for."""

from __future__ import annotations

import ast
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import market

ROOT = Path(market.__file__).parents[1]
ROOMS = ("market", "ledger", "bidder", "simulator", "creatives", "policies", "campaigns")
NAMES = (*ROOMS, "lodestone")
OTHER_NAMES = ("tests", "bench")
CLAIMS = packages_distributions()
OUR_COMPILERS = {"kernel", "bare_kernel"}
COMPILERS = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil", "generated_jit"}
DECORATOR_FILE = Path("market/kernel.py")


def sources():
    """Every source file of the rooms and benches, relative to the root."""
    files = [ROOT / "lodestone.py"]
    for room in (*ROOMS, "bench"):
        files += (ROOT / room).rglob("*.py")
    return sorted(path.relative_to(ROOT) for path in files if path.exists())


def compiled(tree):
    """Names of the functions and calls in ``tree`` that compile something."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [node.name for each in node.decorator_list if is_compiler(each)]
        elif isinstance(node, ast.Call) and is_compiler(node.func):
            found.append(ast.unparse(node))
    return found


def is_compiler(node):
    if isinstance(node, ast.Call):
        return is_compiler(node.func)
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
    return name in OUR_COMPILERS or name in COMPILERS


@pytest.mark.parametrize("name", NAMES)
def test_no_other_distribution_claims_a_name_of_ours(name):
    """Installed in place we are in no such list; installed from a wheel we alone are."""
    assert set(CLAIMS.get(name, ["lodestone"])) == {"lodestone"}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_no_distribution_claims_the_names_that_are_not_installed(name):
    assert name not in CLAIMS


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_ours_is_found_where_market_is(name):
    spec = PathFinder.find_spec(name)
    assert spec is not None, f"{name} cannot be imported"
    origin = Path(spec.origin)
    assert origin in (ROOT / name / "__init__.py", ROOT / f"{name}.py")


def test_compiled_functions_live_in_files_named_kernels():
    """One place to look in, one decorator that owns the flags (``market/kernel.py``)."""
    astray = {
        str(path): names
        for path in sources()
        if not path.name.startswith("kernels") and path != DECORATOR_FILE
        if (names := compiled(ast.parse((ROOT / path).read_text())))
    }
    assert astray == {}


def test_kernels_are_compiled_by_the_one_decorator():
    direct = {
        str(path): names
        for path in sources()
        if path.name == "kernels.py"
        if (
            names := {
                node.attr
                for node in ast.walk(ast.parse((ROOT / path).read_text()))
                if isinstance(node, ast.Attribute) and node.attr in COMPILERS
            }
        )
    }
    assert direct == {}


def test_every_kernels_file_is_looked_at():
    kernels = [path for path in sources() if path.name == "kernels.py"]
    assert Path("market/kernels.py") in kernels
    assert Path("market/auction/kernels.py") in kernels
    for path in kernels:
        assert compiled(ast.parse((ROOT / path).read_text())), f"{path} compiles nothing"


@pytest.mark.parametrize(
    "source",
    [
        "@kernel\ndef f(): ...",
        "@market.kernel.kernel\ndef f(): ...",
        "@bare_kernel\ndef f(): ...",
        "@njit\ndef f(): ...",
        "@numba.njit(cache=True)\ndef f(): ...",
        "class A:\n    @numba.vectorize([])\n    def f(self): ...",
        "g = kernel(f)",
        "def outer():\n    return numba.jit(nopython=True)(f)",
    ],
)
def test_every_way_to_compile_is_seen(source):
    assert compiled(ast.parse(source))


@pytest.mark.parametrize("source", ["@cached\ndef f(): ...", "kernels(1)", "kernel = 1"])
def test_what_does_not_compile_is_not_taken_for_it(source):
    assert not compiled(ast.parse(source))
