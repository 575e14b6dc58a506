"""An Arrow table as a block of ClickHouse's native protocol, without a Python object per value.

clickhouse-driver sends a numpy column after two copies and a search for nulls, and an array column
as a list of Python lists, which is most of what an insert of events would cost. Both lie in Arrow
as they go over the wire, little-endian and one after the other, so here they are handed to the
socket as they are. Connection, protocol, questions and errors stay the driver's.

Source: ClickHouse, "Native protocol: client packets, Data" and "Native format".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from clickhouse_driver import Client
from clickhouse_driver.block import BlockInfo
from clickhouse_driver.defines import (
    DBMS_MIN_REVISION_WITH_BLOCK_INFO,
    DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION,
    DBMS_MIN_REVISION_WITH_TEMPORARY_TABLES,
)
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint8

from market.errors import BadInput

if TYPE_CHECKING:
    from ledger.analytics import ArrowTable

_NUMBERS: Final = {
    "UInt8": "<u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8",
    "Int8": "<i1", "Int16": "<i2", "Int32": "<i4", "Int64": "<i8",
    "Float32": "<f4", "Float64": "<f8",
    # Days since 1970: an Int32 in Arrow.
    "Date": "<u2",
}  # fmt: skip


class ColumnClient(Client):
    """A driver's client whose inserts are Arrow tables."""

    def insert(self, statement: str, rows: ArrowTable, settings: dict[str, int]) -> None:
        """Runs an INSERT statement that ends in VALUES, and returns when the server took ``rows``.

        Args:
            statement: names the columns of ``rows``, in their order.
            rows: a ``pyarrow.Table`` without nulls; numbers, dates, text, and lists of numbers.
            settings: of this statement.

        Raises:
            BadInput: a column cannot be what the server's is.
            clickhouse_driver.errors.Error, OSError, EOFError: as the driver's ``execute``.
        """
        # One row or none: the driver does nothing at all where its data is empty.
        if rows.num_rows:
            self.execute(statement, [rows], columnar=True, settings=settings)

    def send_data(
        self,
        sample_block: Any,  # noqa: ANN401 - the driver has no types
        data: Any,  # noqa: ANN401
        types_check: bool = False,
        columnar: bool = False,
    ) -> int:
        """Sends what ``insert`` was given as one block, and the empty block that ends the data."""
        del types_check, columnar
        (rows,) = data
        types = [kind for _, kind in sample_block.columns_with_types]
        # All of it before the first byte is sent: half a block would lose the connection.
        columns = [
            (name, kind, column_bytes(column.combine_chunks(), kind))
            for name, kind, column in zip(rows.column_names, types, rows.columns, strict=True)
        ]
        self._send_block(rows.num_rows, columns)
        self.receive_profile_events()
        self._send_block(0, [])
        self.receive_profile_events()
        return rows.num_rows

    def _send_block(self, row_count: int, columns: list[tuple[str, str, list[Any]]]) -> None:
        connection: Any = self.connection
        revision = connection.server_info.used_revision
        write_varint(ClientPacketTypes.DATA, connection.fout)
        if revision >= DBMS_MIN_REVISION_WITH_TEMPORARY_TABLES:
            write_binary_str("", connection.fout)
        # Another one than the connection's where the connection compresses.
        out = connection.block_out.fout
        if revision >= DBMS_MIN_REVISION_WITH_BLOCK_INFO:
            BlockInfo().write(out)
        write_varint(len(columns), out)
        write_varint(row_count, out)
        for name, kind, parts in columns:
            write_binary_str(name, out)
            write_binary_str(kind, out)
            if revision >= DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION:
                write_binary_uint8(0, out)
            for part in parts:
                out.write(part)
        connection.block_out.finalize()


def column_bytes(column: Any, kind: str) -> list[Any]:  # noqa: ANN401 - pyarrow has no types
    """Returns an Arrow array as the bytes of a column, in one or more parts.

    Args:
        column: a ``pyarrow.Array``.
        kind: the server's type: a number, Date, String, or an Array of numbers.

    Raises:
        BadInput: the column has nulls, or values or a type that the server's has not.
    """
    if column.null_count:
        raise BadInput(f"column for {kind}: it has nulls, and no column of the store may")
    if kind == "String":
        return [b"".join(_text(value) for value in column.to_pylist())]
    if kind.startswith("Array("):
        # The end of each list, counted in elements from the first list's beginning.
        ends = np.asarray(column.offsets)
        ends = (ends[1:] - ends[0]).astype("<u8")
        return [ends.tobytes(), *column_bytes(column.flatten(), kind[len("Array(") : -1])]
    return [_number_bytes(column, kind)]


def _number_bytes(column: Any, kind: str) -> bytes:  # noqa: ANN401
    dtype = _NUMBERS.get(kind)
    if dtype is None:
        raise BadInput(f"column for {kind}: the store's tables have {', '.join(_NUMBERS)}")
    values = np.asarray(column.view("int32") if kind == "Date" else column)
    wanted = values.astype(dtype, copy=False)
    if wanted.dtype != values.dtype and not np.array_equal(wanted, values):
        raise BadInput(f"column for {kind}: it has values of {values.dtype} that are none")
    return wanted.tobytes()


def _text(value: str) -> bytes:
    data = value.encode()
    length = len(data)
    head = bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + data
