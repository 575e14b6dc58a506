import numpy as np
import pytest
from PIL import Image

from creatives.brief import Category
from creatives.geometry import Box
from creatives.palette import PaletteKind, palette_of
from creatives.picture import paint_gradient, paint_pill, product_picture
from creatives.silhouettes import SILHOUETTES

PALETTE = palette_of("#1f6f54", PaletteKind.BRAND)


def test_there_is_a_silhouette_for_every_category():
    assert set(SILHOUETTES) == set(Category)


@pytest.mark.parametrize("category", Category)
@pytest.mark.parametrize("size", [(400, 300), (60, 36), (130, 220)])
def test_a_product_fills_its_box_and_touches_no_edge(category, size):
    width, height = size
    alpha = product_picture(width, height, category, PALETTE).getchannel("A")
    solid = alpha.point(lambda level: 255 if level > 100 else 0).getbbox()
    assert solid is not None
    left, top, right, bottom = solid
    assert left > 0
    assert top > 0
    assert right < width
    assert bottom < height
    assert (right - left) > 0.8 * width or (bottom - top) > 0.75 * height


def test_a_gradient_runs_from_corner_to_corner():
    canvas = Image.new("RGB", (90, 60), (1, 2, 3))
    paint_gradient(canvas, Box(10, 10, 70, 50), (0, 100, 200), (250, 0, 50))
    pixels = np.asarray(canvas).astype(int)
    assert tuple(pixels[10, 10]) == (0, 100, 200)
    assert tuple(pixels[49, 69]) == (250, 0, 50)
    assert tuple(pixels[9, 9]) == (1, 2, 3)
    assert tuple(pixels[50, 70]) == (1, 2, 3)
    assert (np.diff(pixels[10:50, 10:70, 0], axis=0) >= 0).all()
    assert (np.diff(pixels[10:50, 10:70, 0], axis=1) >= 0).all()


def test_a_pills_edges_are_smooth_and_its_corners_empty():
    canvas = Image.new("L", (80, 40)).convert("RGB")
    paint_pill(canvas, Box(10, 10, 70, 30), (255, 255, 255))
    levels = np.asarray(canvas)[:, :, 0]
    assert levels[10, 10] == 0
    assert levels[20, 40] == 255
    assert len(np.unique(levels)) > 5
    assert levels[:10].max() == 0
    assert levels[30:].max() == 0
