"""The one compile decorator: every numba kernel of the house is compiled with the same flags.

Why these flags:

* ``cache``: the first process compiles, every later one starts from machine code on disk.
* ``nogil``: the twin runs independent days on threads; kernels touch no Python object.
* ``error_model="numpy"``: a division by zero gives inf or nan as in numpy instead of raising in the
  middle of a loop, which would also block vectorisation. Inputs are checked at the edge.
* ``boundscheck=False``: indices are checked once per request at the edge, not per element here.
* ``fastmath`` stays off, so that money and bids do not depend on how LLVM reassociates a sum, and
  a block of one opportunity gives bit for bit what a block of 4,096 gives.

``NUMBA_DISABLE_JIT=1`` turns every kernel back into plain Python, for coverage and debugging.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numba
from numba.core import config

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parents[1]
_IMPORT = re.compile(r"^(?:from|import) +([a-z_.]+)", re.MULTILINE)
"""At the left margin only: what is imported for type checkers is indented, and is not compiled."""


@functools.cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Returns the files of the house that the module in ``path`` imports when it runs."""
    names = _IMPORT.findall(path.read_text(encoding="utf-8"))
    places = [_ROOT / name.replace(".", "/") for name in names]
    files = [place.with_suffix(".py") for place in places]
    return tuple(file for file in files if file.exists())


@functools.cache
def _cache_folder(path: Path) -> Path | None:
    """Returns where the compiled kernels of the module in ``path`` lie.

    numba looks only at a kernel's own file when it decides whether its machine code is current, but
    kernels and constants of other files are compiled into it; so the folder is named by the text of
    the module and of everything of ours that it imports, directly or not: an edit of any of it
    starts a new folder, an edit elsewhere leaves it alone. None (numba's own place, beside the
    source) where the home folder cannot be written.
    """
    seen: set[Path] = set()
    pending = [path]
    while pending:
        file = pending.pop()
        if file not in seen:
            seen.add(file)
            pending.extend(_imports(file))
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(seen):
        digest.update(file.read_bytes())
    folder = Path.home() / ".cache" / "lodestone" / f"kernels-{digest.hexdigest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def _choose_cache(function: Callable[..., Any]) -> None:
    """Tells numba where to keep the next compiled function: it looks when it decorates one."""
    source = sys.modules[function.__module__].__file__
    folder = _cache_folder(Path(source).resolve()) if source else None
    # The attribute is made at import from numba's own settings, so no stub knows it.
    config.CACHE_DIR = str(folder or os.environ.get("NUMBA_CACHE_DIR", ""))  # pyright: ignore[reportAttributeAccessIssue]


F = TypeVar("F", bound="Callable[..., Any]")
R = TypeVar("R")


def kernel(function: F) -> F:
    """Returns ``function`` compiled to machine code at its first call, with the flags above."""
    _choose_cache(function)
    compiled = numba.njit(
        cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath=False
    )(function)
    return cast("F", compiled)


def bare_kernel(function: F) -> F:
    """As ``kernel``, for functions that allocate nothing: compiled without reference counting.

    A kernel that is handed a tuple of arrays counts references at every access to one of them, an
    atomic instruction each; without, a decision takes half the time. What such a kernel calls is
    compiled with its own flags.
    """
    _choose_cache(function)
    compiled = numba.njit(  # pyright: ignore[reportCallIssue] the stubs leave out _nrt
        cache=True, nogil=True, error_model="numpy", boundscheck=False, fastmath=False, _nrt=False
    )(function)
    return cast("F", compiled)


def compiled_for(function: F, *arguments: object) -> F:
    """Returns a callable of ``function``'s machine code for the types of exactly these arguments.

    A kernel looks at the types of all its arguments at every call, tuples of arrays element by
    element: some microseconds. This looks once. What is returned checks nothing: a caller must only
    ever pass arguments of the very same types (dtype, dimensions, contiguity), or it reads foreign
    memory. The kernel is called once with the arguments, so pass such that it changes nothing.
    """
    function(*arguments)
    overloads = getattr(function, "overloads", None)
    if overloads is None:  # NUMBA_DISABLE_JIT=1
        return function
    signature = tuple(numba.typeof(argument) for argument in arguments)
    return cast("F", overloads[signature].entry_point)


class SameTypes(Generic[R]):
    """A kernel whose types are looked at in its first call only; see ``compiled_for``.

    For kernels that change what they are given, so that no call can be made beforehand.
    """

    def __init__(self, function: Callable[..., R]) -> None:
        """Takes the kernel; every call must pass arguments of the very same types."""
        self._function = function
        self._entry: Callable[..., R] | None = None

    def __call__(self, *arguments: object) -> R:
        """Calls the kernel."""
        if self._entry is not None:
            return self._entry(*arguments)
        result = self._function(*arguments)
        overloads = getattr(self._function, "overloads", None)
        if overloads is None:  # NUMBA_DISABLE_JIT=1
            self._entry = self._function
        else:
            signature = tuple(numba.typeof(argument) for argument in arguments)
            self._entry = overloads[signature].entry_point
        return result
