"""The checkpoint of a long run: finished steps, a line each, beside the report.

Its first line names what the steps belong to (the bytes of the log, the settings, the text of this
package); a checkpoint of anything else is not used. A last line that was cut is done again.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from simulator.calibration.fidelity import Step

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHUNK_BYTES = 1 << 20


class _Head(msgspec.Struct, frozen=True):
    key: str


def key_of(files: Iterable[Path], settings: str) -> str:
    """Returns the name of a run: a hash of its log, its settings and this package's text."""
    digest = blake2b(settings.encode(), digest_size=16)
    own = sorted(Path(__file__).parent.glob("*.py"))
    for path in (*own, *sorted(files)):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while part := file.read(_CHUNK_BYTES):
                digest.update(part)
    return digest.hexdigest()


class Checkpoint:
    """The finished steps of one run, on disk after each."""

    def __init__(self, path: Path, key: str) -> None:
        """Reads what an interrupted run of the same key left, and starts anew otherwise."""
        self._path = path
        self.steps = _steps(path, key)
        lines = [msgspec.json.encode(_Head(key)), *(msgspec.json.encode(s) for s in self.steps)]
        path.write_bytes(b"".join(line + b"\n" for line in lines))

    def add(self, step: Step) -> None:
        """Keeps a step."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(step) + b"\n")

    def remove(self) -> None:
        """Forgets the run: it is done."""
        self._path.unlink()


def _steps(path: Path, key: str) -> tuple[Step, ...]:
    if not path.exists():
        return ()
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        if not lines or msgspec.json.decode(lines[0], type=_Head).key != key:
            return ()
        return tuple(msgspec.json.decode(line, type=Step) for line in lines[1:])
    except msgspec.MsgspecError:
        # Not a checkpoint of ours: nothing of it is used.
        return ()
