"""Checkpoints: what a replay of the log up to some frame comes to, so that older frames may go.

``12345.checkpoint`` in the log's folder stands for frames 1 to 12345. It is made from the log alone
(``ledger.log_retention``), so a recorder that starts from it and replays the rest is the one that
replayed everything. A checkpoint is whole or it is not taken.

File: magic 8, format version u16, CRC-32 u32 of the body, body: msgpack, compressed.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from ledger.budget import LedgerState
from ledger.disk import read_whole, write_whole
from ledger.event_log import EVENT_LOG
from ledger.folder import CHECKPOINT_SUFFIX
from ledger.frame import disk_errors_of
from ledger.lease import Allotment
from ledger.segment import recover
from ledger.view import ActivityView
from market.errors import Corrupt

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.disk import Disk
    from ledger.frame import Frame
    from ledger.record import Recorder
    from ledger.segment import Recovery

_HEAD: Final = struct.Struct("<8sHI")
_MAGIC: Final = b"LODECKPT"
_VERSION: Final = 1
_NAME: Final = re.compile(rf"(\d+){re.escape(CHECKPOINT_SUFFIX)}")


class RecorderState(msgspec.Struct, frozen=True):
    """What a replay of the log up to ``sequence`` comes to.

    Attributes:
        behaviours: by exchange id: late, disputed and reordered notices.
        adjustments: ids (hi, lo) of the adjustments that are booked.
        log_id: as ``ledger.lease.BudgetsAllotted``; "" where budgets are this machine's alone.
        allotments: its shares of the budgets.
    """

    sequence: int
    ledger: LedgerState
    line_items: tuple[ActivityView, ...]
    creatives: tuple[ActivityView, ...]
    behaviours: dict[int, tuple[int, int, int]]
    adjustments: list[tuple[int, int]]
    lost_frames: int
    log_id: str = ""
    allotments: tuple[Allotment, ...] = ()


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(RecorderState)


def write_checkpoint(folder: Path, disk: Disk, state: RecorderState) -> Path:
    """Writes a checkpoint; returns its path once it is on disk.

    Raises:
        NotReady: the disk refuses.
    """
    path = folder / f"{state.sequence}{CHECKPOINT_SUFFIX}"
    body = zlib.compress(_encoder.encode(state), 1)
    with disk_errors_of(path, "writing the checkpoint"):
        write_whole(disk, path, _HEAD.pack(_MAGIC, _VERSION, zlib.crc32(body)) + body)
    return path


def read_checkpoint(folder: Path, disk: Disk) -> RecorderState | None:
    """Returns the newest checkpoint; None where there is none.

    Raises:
        Corrupt: it is damaged, or of another build. Older segments may be gone, so that it cannot
            be left out: an operator restores it, or deletes it where the log begins at its start.
        NotReady: the disk refuses.
    """
    sequences = checkpoint_sequences(folder, disk)
    if not sequences:
        return None
    path = folder / f"{sequences[-1]}{CHECKPOINT_SUFFIX}"
    with disk_errors_of(path, "reading the checkpoint"):
        content = read_whole(disk, path)
    cure = "restore it from a copy; or delete it, if the log still has its first segment"
    if len(content) < _HEAD.size:
        raise Corrupt(f"{path}: {len(content)} bytes are no checkpoint; {cure}")
    magic, version, check = _HEAD.unpack_from(content)
    body = content[_HEAD.size :]
    if magic != _MAGIC or check != zlib.crc32(body):
        raise Corrupt(f"{path}: the checkpoint is damaged; {cure}")
    if version != _VERSION:
        raise Corrupt(f"{path}: format version {version}, this build reads {_VERSION}; {cure}")
    try:
        state = _decoder.decode(zlib.decompress(body))
    except (zlib.error, msgspec.MsgspecError) as error:
        raise Corrupt(f"{path}: the checkpoint cannot be read: {error}; {cure}") from error
    if state.sequence != sequences[-1]:
        raise Corrupt(f"{path}: it stands for frames up to {state.sequence}; {cure}")
    return state


def checkpoint_sequences(folder: Path, disk: Disk) -> list[int]:
    """Returns up to which frames there are checkpoints, in order."""
    with disk_errors_of(folder, "listing the checkpoints"):
        names = disk.list_names(folder)
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def rebuild(core: Recorder, folder: Path, disk: Disk) -> Recovery:
    """Gives a new core what the log says: the newest checkpoint, and every frame after it.

    Raises:
        Corrupt: log or checkpoint are damaged; no byte was changed.
        NotReady: a writer has the log open, or the disk refuses.
    """
    state = read_checkpoint(folder, disk)
    if state is not None:
        core.restore(state)
    start = core.sequence

    def take(frame: Frame) -> None:
        if frame.sequence > start:
            core.replay(frame)

    return recover(folder, disk, EVENT_LOG, oldest_sequence=start + 1, replay=take)
