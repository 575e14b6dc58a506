"""Keeps finished files under the hash of their bytes.

A name says exactly what is inside: equal files are stored once, a stored file never changes, and a
damaged one is noticed when it is read. What this does not do: it never deletes (a creative that
once served must stay explainable), and it knows nothing of campaigns.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from pathlib import Path

import msgspec
from PIL import Image, UnidentifiedImageError

from creatives.brief import checked_url
from market.errors import BadInput, Corrupt

BYTE_COUNT_MAX = 5120 * 1024
"""Bytes of one image. Source: Google Ads API, MARKETING_IMAGE, at most 5120 KB."""

PIXEL_COUNT_MAX = 4096 * 4096
"""Pixels of one image; a small file can claim many more and exhaust the memory of a decoder."""

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Media types that are kept, and Pillow's name of each."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Asset(msgspec.Struct, frozen=True):
    """What is known of a stored file.

    Attributes:
        sha256: 64 hex digits over its bytes; its name.
        media_type: ``image/jpeg``, ``image/png`` or ``image/webp``.
        width: pixels across.
        height: pixels down.
        byte_count: size of the file.
    """

    sha256: str
    media_type: str
    width: int
    height: int
    byte_count: int


class AssetStore:
    """Files in a folder, by hash: ``<folder>/<first two digits>/<sha256>``."""

    def __init__(
        self,
        folder: Path,
        base_url: str = "/assets",
        byte_count_max: int = BYTE_COUNT_MAX,
        pixel_count_max: int = PIXEL_COUNT_MAX,
    ) -> None:
        """Opens a store, creating its folder.

        Args:
            folder: where files lie.
            base_url: where a browser finds them: an absolute http(s) URL, which every real supply
                needs, or a path (``/assets``), which works on pages of the same host only.
            byte_count_max: larger files are refused.
            pixel_count_max: images with more pixels are refused.

        Raises:
            BadInput: ``base_url`` is neither.
        """
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", base_url):
            checked_url("base_url", base_url)
        self._folder = Path(folder)
        self._base_url = base_url.rstrip("/")
        self._byte_count_max = byte_count_max
        self._pixel_count_max = pixel_count_max
        self._folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes, media_type: str) -> Asset:
        """Stores an image and returns what is known of it; storing it again changes nothing.

        The file appears whole or not at all, and is on the disk when this returns.

        Raises:
            BadInput: the media type is unknown, the bytes are no such image, or it is too large.
        """
        asset = self._described(data, media_type)
        path = self._path(asset.sha256)
        if path.exists() and _is_intact(path, asset.sha256):
            return asset
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        for folder in (path.parent, self._folder):
            _sync_folder(folder)
        return asset

    def get(self, sha256: str) -> bytes:
        """The bytes of a stored file, checked against their hash.

        Raises:
            BadInput: the name is not 64 hex digits in lower case, or no file has it.
            Corrupt: the file no longer has the bytes it was stored with.
        """
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            msg = f"asset {sha256!r} is not stored; put it first"
            raise BadInput(msg, "/sha256") from error
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            msg = (
                f"asset file {path} holds bytes with sha256 {found}; restore it, or render it again"
            )
            raise Corrupt(msg)
        return data

    def asset(self, sha256: str) -> Asset:
        """What is known of a stored file, read from the file itself.

        Raises:
            BadInput: as :meth:`get`.
            Corrupt: as :meth:`get`.
        """
        data = self.get(sha256)
        with Image.open(io.BytesIO(data)) as image:
            media_type = next(key for key, name in _FORMATS.items() if name == image.format)
            return Asset(sha256, media_type, image.width, image.height, len(data))

    def url(self, asset: Asset) -> str:
        """Where a browser finds an asset."""
        return f"{self._base_url}/{asset.sha256}"

    def _described(self, data: bytes, media_type: str) -> Asset:
        if media_type not in _FORMATS:
            msg = f"media_type is {media_type!r}; it must be one of {sorted(_FORMATS)}"
            raise BadInput(msg, "/media_type")
        if len(data) > self._byte_count_max:
            msg = f"image has {len(data)} bytes; it must have at most {self._byte_count_max}"
            raise BadInput(msg)
        try:
            with Image.open(io.BytesIO(data), formats=[_FORMATS[media_type]]) as image:
                width, height = image.size
                if width * height > self._pixel_count_max:
                    msg = (
                        f"image is {width}x{height}, {width * height} pixels; "
                        f"it must have at most {self._pixel_count_max}"
                    )
                    raise BadInput(msg)
                image.load()
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            msg = (
                f"image is too large ({error}); it must have at most {self._pixel_count_max} pixels"
            )
            raise BadInput(msg) from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            msg = f"image of {len(data)} bytes is not a whole {media_type} ({error})"
            raise BadInput(msg) from error
        return Asset(hashlib.sha256(data).hexdigest(), media_type, width, height, len(data))

    def _path(self, sha256: str) -> Path:
        if _SHA256.fullmatch(sha256) is None:
            msg = f"asset name is {sha256!r}; it must be 64 hex digits in lower case"
            raise BadInput(msg, "/sha256")
        return self._folder / sha256[:2] / sha256


def _is_intact(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _sync_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` survive a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
