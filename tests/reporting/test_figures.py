"""Images with patches marked."""

from io import BytesIO

import numpy as np
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image

from geohp.classes import LandCoverClass
from geohp.reporting.figures import AGNOSTIC, BOTH, SPECIFIC, draw_positives, draw_samples, legend_handles
from geohp.reporting.plots import as_png, draw_confusion, draw_similarity, new_figure


def test_names_are_no_formulas():
    """Between dollars matplotlib looks for one, and ends where it finds another."""
    names = [r"a $\foo$", "_b"]
    classes = [LandCoverClass(number, name, "#112233") for number, name in enumerate(names)]
    assert draw_samples([("", [np.zeros((8, 8, 3), np.float32)])], legend_handles(classes))
    assert draw_similarity(np.eye(2, dtype=np.float32), names)
    assert draw_confusion(np.eye(2, dtype=np.int64), np.zeros(2, np.int64), names, "title", np.array([1, 0]))


def test_letters_that_the_usual_font_lacks_are_looked_for_in_others():
    """Matplotlib brings other fonts; where more are installed, those with Chinese letters are found in the same way."""
    usual, other = (FontProperties(family=family) for family in ("DejaVu Sans", "STIXGeneral"))
    lacking = {*get_font(findfont(other)).get_charmap()} - {*get_font(findfont(usual)).get_charmap()}
    figure = new_figure(2, 2)
    title = figure.add_subplot().set_title(f"a {chr(max(lacking))}")
    assert as_png(figure)
    glyphs = [get_font(findfont(FontProperties(family=name))).get_charmap() for name in title.get_fontfamily()]
    assert title.get_fontfamily()[0] == "DejaVu Sans"
    assert max(lacking) in glyphs[-1]


def test_letters_that_no_font_has_are_boxes_and_fonts_stay(recwarn):
    figure = new_figure(2, 2)
    title = figure.add_subplot().set_title("a \U000f1234")
    family = title.get_fontfamily()
    assert as_png(figure)
    assert title.get_fontfamily() == family
    assert not recwarn.list


def test_positives_are_drawn_where_they_are():
    kinds = np.array([[0, 1, 2], [3, 0, 1]])
    image = np.random.default_rng(0).random((3, 64, 96), np.float32)
    png = draw_positives(image, kinds % 2 == 1, kinds > 1, (1, 1))
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"), float)
    side = pixels.shape[1] // 3
    shown = np.array([[pixels[(2 * r + 1) * side // 2, (2 * c + 1) * side // 2] for c in range(3)] for r in range(2)])
    for kind, colour in ((1, AGNOSTIC), (2, SPECIFIC), (3, BOTH)):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (abs(shown[kinds == kind] - wanted).max(1) < 80).all()
    assert (np.ptp(shown[kinds == 0], axis=1) < 16).all()  # grey
    assert (abs(pixels - [255, 221, 0]).max(2) < 40).sum() > 4 * side  # the frame
