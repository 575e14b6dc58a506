import hashlib
import io
import os
import struct
import threading
import zlib

import pytest
from PIL import Image

from creatives.assets import Asset, AssetStore
from market.errors import BadInput, Corrupt


def image(size: tuple[int, int] = (30, 20), kind: str = "PNG", colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def stored_files(store_folder) -> list:
    return [path for path in store_folder.rglob("*") if path.is_file()]


def test_what_was_put_can_be_got_under_its_hash(tmp_path):
    store = AssetStore(tmp_path / "assets")
    data = image()
    asset = store.put(data, "image/png")
    assert asset == Asset(hashlib.sha256(data).hexdigest(), "image/png", 30, 20, len(data))
    assert store.get(asset.sha256) == data
    assert store.asset(asset.sha256) == asset


@pytest.mark.parametrize(
    ("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_every_media_type_is_described_from_the_file_alone(tmp_path, kind, media_type):
    asset = AssetStore(tmp_path).put(image(kind=kind), media_type)
    assert AssetStore(tmp_path).asset(asset.sha256) == asset


def test_putting_the_same_bytes_again_stores_one_file(tmp_path):
    store = AssetStore(tmp_path)
    assert store.put(image(), "image/png") == store.put(image(), "image/png")
    assert len(stored_files(tmp_path)) == 1


def test_many_threads_putting_the_same_bytes_leave_one_whole_file(tmp_path):
    store = AssetStore(tmp_path)
    data = image((200, 200))
    threads = [threading.Thread(target=store.put, args=(data, "image/png")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in stored_files(tmp_path)] == [data]


def test_a_damaged_file_is_noticed_and_named(tmp_path):
    store = AssetStore(tmp_path)
    asset = store.put(image(), "image/png")
    (path,) = stored_files(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[-20] ^= 1
    path.write_bytes(bytes(damaged))
    for read in (store.get, store.asset):
        with pytest.raises(Corrupt, match=str(path)):
            read(asset.sha256)


def test_putting_the_bytes_again_mends_a_damaged_file(tmp_path):
    store = AssetStore(tmp_path)
    asset = store.put(image(), "image/png")
    (path,) = stored_files(tmp_path)
    path.write_bytes(b"")
    store.put(image(), "image/png")
    assert store.get(asset.sha256) == image()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    store = AssetStore(tmp_path)

    def full_disk(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store.put(image(), "image/png")
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "a" * 65]
)
def test_a_name_that_is_no_hash_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="64 hex digits"):
        AssetStore(tmp_path).get(name)


def test_a_hash_that_is_not_stored_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is not stored"):
        AssetStore(tmp_path).get("0" * 64)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"", "image/png"),
        (b"<svg onload=alert(1)>", "image/png"),
        (image()[:-30], "image/png"),
        (image(kind="JPEG")[:300], "image/jpeg"),
        (image(), "image/jpeg"),
        (image(), "image/svg+xml"),
        (image(), "text/html"),
    ],
)
def test_bytes_that_are_not_a_whole_image_of_their_type_are_refused(tmp_path, data, media_type):
    with pytest.raises(BadInput):
        AssetStore(tmp_path).put(data, media_type)
    assert stored_files(tmp_path) == []


def claimed(width: int, height: int) -> bytes:
    """A small PNG that claims to be large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [5_000, 12_000, 60_000])
def test_a_small_file_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, side):
    with pytest.raises(BadInput, match="at most"):
        AssetStore(tmp_path).put(claimed(side, side), "image/png")


def test_a_file_with_too_many_bytes_is_refused(tmp_path):
    data = image((64, 64))
    with pytest.raises(BadInput, match=f"has {len(data)} bytes; it must have at most 50"):
        AssetStore(tmp_path, byte_count_max=50).put(data, "image/png")


def test_an_assets_url_joins_base_and_hash(tmp_path):
    store = AssetStore(tmp_path, base_url="https://cdn.example/creatives/")
    asset = store.put(image(), "image/png")
    assert store.url(asset) == f"https://cdn.example/creatives/{asset.sha256}"
    assert AssetStore(tmp_path).url(asset) == f"/assets/{asset.sha256}"


@pytest.mark.parametrize("base", ["assets", "//cdn.example", "javascript:x", '/a"b', "", "/../{{x"])
def test_a_base_url_that_is_neither_absolute_nor_a_path_is_refused(tmp_path, base):
    with pytest.raises(BadInput):
        AssetStore(tmp_path, base_url=base)
