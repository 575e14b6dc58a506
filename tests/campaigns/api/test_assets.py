from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image

from creatives.assets import AssetStore


@pytest.fixture
def image(deployment):
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 10, 10)).save(file, "PNG")
    AssetStore(deployment.asset_folder).put(file.getvalue(), "image/png")
    return file.getvalue()


def test_an_image_is_public_and_never_changes(plane, image):
    name = hashlib.sha256(image).hexdigest()
    response = plane.anyone.get(f"/assets/{name}")
    assert (response.status_code, response.content) == (200, image)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["etag"] == f'"{name}"'
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "0" * 64,
        "A" * 64,
        "0" * 63,
        "api_key",
        "..%2fapi_key",
        "%2e%2e/api_key",
        "../api_key",
        "%00",
        "",
    ],
)
def test_any_other_name_is_not_found(plane, name):
    response = plane.anyone.get(f"/assets/{name}")
    assert response.status_code == 404
    assert plane.first_key not in response.text


def test_a_damaged_image_is_not_served(plane, image, deployment):
    name = hashlib.sha256(image).hexdigest()
    (deployment.asset_folder / name[:2] / name).write_bytes(image[:-1])
    assert plane.anyone.get(f"/assets/{name}").status_code == 500
