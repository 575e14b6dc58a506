"""The deployment file: what one process writes and every other one reads."""

from __future__ import annotations

import re
import stat

import msgspec
import pytest

from market.deployment import Deployment, read_deployment, write_deployment
from market.errors import Corrupt
from market.exchange import ExchangeProfile

PATHS = (
    "control_path", "snapshot_folder", "segment_folder", "ring_folder", "store_folder",
    "store_socket", "database_path", "intent_folder", "api_key_path", "asset_folder", "log_folder",
)  # fmt: skip


def deployment(folder):
    return Deployment(
        folder=str(folder),
        bid_port=1,
        notice_port=2,
        control_port=3,
        base_url="http://127.0.0.1:2",
        notice_key_hex="00" * 32,
        user_salt_hex="11" * 16,
        exchanges=(ExchangeProfile(name="x", exchange_id=9, currency="EUR"),),
        rates_micros={"EUR": 1_080_000},
    )


def test_a_deployment_comes_back_as_it_was_written(tmp_path):
    path = write_deployment(deployment(tmp_path))
    assert path == tmp_path / "deployment.json"
    assert read_deployment(path) == deployment(tmp_path)


def test_a_deployment_is_readable_by_its_owner_only(tmp_path):
    """It holds the key that signs notices."""
    path = write_deployment(deployment(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_older_file_that_others_could_read_does_not_stay_so(tmp_path):
    path = tmp_path / "deployment.json"
    path.write_text("{}")
    path.chmod(0o644)
    write_deployment(deployment(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_person_can_read_it(tmp_path):
    text = write_deployment(deployment(tmp_path)).read_text()
    assert re.search(r'^  "notice_port": 2,$', text, re.MULTILINE)


def test_everything_durable_lies_below_the_run_folder_and_apart(tmp_path):
    run = deployment(tmp_path)
    paths = {getattr(run, name) for name in PATHS}
    assert len(paths) == len(PATHS)
    assert {path.parent for path in paths} == {tmp_path}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        (b"", "Input data was truncated"),
        (b"{", "Input data was truncated"),
        (b"\xff", "malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field"),
    ],
)
def test_a_deployment_that_cannot_be_read_is_corrupt_and_says_what_to_do(tmp_path, content, found):
    path = tmp_path / "deployment.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Corrupt) as refused:
        read_deployment(path)
    assert str(refused.value).startswith("deployment deployment.json: ")
    assert found in str(refused.value)
    assert str(refused.value).endswith("; start `lodestone serve` again")


def test_bytes_that_are_no_text_are_corrupt(tmp_path):
    path = tmp_path / "deployment.json"
    path.write_bytes(b'{"folder": "\xff"}')
    with pytest.raises(Corrupt):
        read_deployment(path)


def test_an_unknown_field_is_refused(tmp_path):
    path = write_deployment(deployment(tmp_path))
    document = msgspec.json.decode(path.read_bytes()) | {"bid_prot": 5}
    path.write_bytes(msgspec.json.encode(document))
    with pytest.raises(Corrupt, match="unknown field `bid_prot`"):
        read_deployment(path)
