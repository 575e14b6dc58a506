"""Secrets, salts, the user table and the audit log."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import traceback
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ledger.privacy.audit import BEGINNING, AuditLog
from ledger.privacy.salts import Salts, read_salts, write_salts
from ledger.privacy.sealed import read_sealed, seal, unseal, write_sealed
from ledger.privacy.secret import Secret, read_secret
from ledger.privacy.users import Link, UserTable
from market.chance import user_key
from market.errors import BadInput, Corrupt

if TYPE_CHECKING:
    from pathlib import Path

KEY = Secret(bytes(range(32)))
OTHER = Secret(bytes(32))
HEX = bytes(range(32)).hex()


# Secrets.


def test_a_key_comes_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(HEX + "\n")
    path.chmod(0o600)
    assert read_secret("audit_key", {"LODESTONE_AUDIT_KEY": HEX}) == KEY
    assert read_secret("audit_key", {"LODESTONE_AUDIT_KEY_FILE": str(path)}) == KEY


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "exactly one of"),
        ({"LODESTONE_K": HEX, "LODESTONE_K_FILE": "x"}, "exactly one of"),
        ({"LODESTONE_K": "canary-not-hex"}, "must be 64 hex digits"),
        ({"LODESTONE_K": HEX[:-2]}, "31 bytes"),
        ({"LODESTONE_K_FILE": "/nowhere/at/all"}, "file all cannot be read"),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(environment, said) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        read_secret("k", environment)
    told = "".join(traceback.format_exception(caught.value))
    assert "canary" not in told.replace("canary-not-hex'}", "")
    assert HEX[:20] not in str(caught.value)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(HEX)
    path.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        read_secret("k", {"LODESTONE_K_FILE": str(path)})


def test_a_secret_shows_itself_nowhere() -> None:
    for text in (repr(KEY), str(KEY), f"{KEY}", repr([KEY]), repr({"k": KEY})):
        assert "Secret(***)" in text
        assert HEX[:8] not in text
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(KEY)
    assert KEY.derive("a") != KEY.derive("b") != KEY
    assert KEY.derive("a") == Secret(bytes(range(32))).derive("a")


# Sealing.


def test_only_the_same_key_and_name_open_what_was_sealed(tmp_path: Path) -> None:
    sealed = seal(KEY, "a", b"body")
    assert unseal(KEY, "a", sealed) == b"body"
    assert sealed != seal(KEY, "a", b"body")
    flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
    for key, name, body in (
        (OTHER, "a", sealed), (KEY, "b", sealed), (KEY, "a", flipped), (KEY, "a", sealed[:-1]),
        (KEY, "a", b""), (KEY, "a", sealed[:5]),
    ):  # fmt: skip
        with pytest.raises(Corrupt, match="cannot be opened"):
            unseal(key, name, body)
    write_sealed(tmp_path / "x", KEY, "n", b"1")
    write_sealed(tmp_path / "x", KEY, "n", b"2")
    assert read_sealed(tmp_path / "x", KEY, "n") == b"2"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# Salts.


def test_a_user_is_found_under_every_salt_that_is_kept_and_no_other(tmp_path: Path) -> None:
    first, second, third, fourth = (bytes([n]) * 16 for n in range(4))
    salts = Salts(first).rotated(second, 1_000, 500).rotated(third, 1_200, 500)
    assert salts.user_keys("u") == tuple(user_key(salt, "u") for salt in (third, first, second))
    path = tmp_path / "salts"
    write_salts(path, KEY, salts)
    assert read_salts(path, KEY, third) == salts
    assert third.hex() not in repr(salts)
    later = salts.rotated(fourth, 1_600, 500)
    assert later.user_keys("u") == tuple(user_key(salt, "u") for salt in (fourth, second, third))
    write_salts(path, KEY, later)
    assert first not in [old.salt for old in read_salts(path, KEY, fourth).old]
    with pytest.raises(Corrupt, match="user salts"):
        read_salts(path, OTHER, fourth)
    with pytest.raises(BadInput, match="used before"):
        salts.rotated(second, 2_000, 500)
    assert read_salts(tmp_path / "none", KEY, first) == Salts(first)


# The user table.


def test_users_are_kept_found_joined_and_erased(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    table = UserTable(path, KEY)
    links = [Link(n, n // 2, 10 + n, "form 3") for n in range(1, 8)]
    table.put(links)
    table.put([Link(7, 99, 1_000, "form 4")])
    assert table.find(3) == links[2]
    assert table.find(7) == Link(7, 99, 1_000, "form 4")
    assert table.find(8) is None
    persons = table.identity().persons(np.array([2, 3, 4, 5, 9], np.uint64)).tolist()
    assert persons == [2, 2, 4, 4, 9]
    assert table.erase([2, 3, 77]) == 2
    assert table.find(2) is None
    table.close()
    again = UserTable(path, KEY)
    assert sorted(link.user_key for link in again.links()) == [1, 4, 5, 6, 7]
    again.close()


def test_the_file_tells_nothing_of_who_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    table = UserTable(path, KEY)
    link = Link(0x1122334455667788, 0x99AABBCCDDEEFF00, 123_456_789, "canary-consent-string")
    table.put([link])
    first = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    table.erase([link.user_key])
    table.close()
    body = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for value in (link.user_key, link.person_code):
        for order in ("big", "little"):
            assert value.to_bytes(8, order) not in first
    assert b"canary" not in first
    # Overwritten, not only let go: nothing of the sealed row is left either.
    name = table._name(link.user_key)
    assert name in first
    assert name not in body
    assert path.stat().st_mode & 0o077 == 0


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    table = UserTable(tmp_path / "users", KEY)
    table.put([Link(1, 2, 3, "form")])
    table.close()
    other = UserTable(tmp_path / "users", OTHER)
    assert other.find(1) is None
    with pytest.raises(Corrupt):
        list(other.links())
    other.close()


def test_nobody_is_joined_without_consent() -> None:
    for arguments in ((0, 1, 1, "form"), (1, 1, 1, " "), (1, -1, 1, "form"), (2**64, 1, 1, "f")):
        with pytest.raises(BadInput, match="user link"):
            Link(*arguments)


# The audit log.


def filled(path: Path, count: int = 5) -> AuditLog:
    log = AuditLog(path, KEY)
    for n in range(count):
        log.append(1_000 + n, "operator", "query", f"number {n}", log.subject_of("ann"))
    return log


def test_a_chain_that_nobody_touched_holds(tmp_path: Path) -> None:
    log = filled(tmp_path / "audit.log")
    entries = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4, 5]
    assert log.verify() == (5, entries[-1]["digest"])
    assert log.verify(head=entries[2]["digest"]).entries == 5
    assert "ann" not in (tmp_path / "audit.log").read_text()
    assert AuditLog(tmp_path / "none", KEY).verify() == (0, BEGINNING)


def test_every_changed_removed_added_or_moved_entry_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    head = json.loads(lines[-1])["digest"]
    broken = [lines[:at] + lines[at + 1 :] for at in range(4)]
    broken += [[*lines[:2], lines[1], *lines[2:]], [lines[1], lines[0], *lines[2:]]]
    for number, line in enumerate(lines):
        for at in range(0, len(line) - 1, 7):
            changed = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
            broken.append([*lines[:number], changed, *lines[number + 1 :]])
    for each in broken:
        path.write_bytes(b"".join(each))
        with pytest.raises(Corrupt, match="audit log"):
            log.verify()
    path.write_bytes(b"".join(lines[:-1]))
    assert log.verify().entries == 4
    with pytest.raises(Corrupt, match="end was removed"):
        log.verify(head)
    with pytest.raises(Corrupt, match="key is another"):
        AuditLog(path, OTHER).verify()
    with pytest.raises(Corrupt, match="key is another"):
        AuditLog(path, OTHER).append(1, "x", "y", "z")


def test_an_entry_that_a_crash_cut_never_happened(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = filled(path, 3)
    whole = path.read_bytes()
    for cut in (1, 40, 200):
        path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:cut])
        log.append(9, "operator", "export", "after the crash")
        assert log.verify().entries == 4
        path.write_bytes(whole)


def _append_many(path, name):
    log = AuditLog(path, KEY)
    for n in range(50):
        log.append(n, name, "query", str(n))


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(path, f"p{n}")) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert AuditLog(path, KEY).verify().entries == 150
