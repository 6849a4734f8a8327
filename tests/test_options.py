"""Options declared once: what takes an object is called with plain keywords."""

import inspect

import pytest

from geohp.errors import ConfigError, VectorError
from geohp.options import FitOptions, PolygonOptions, WindowOptions, keywords


@keywords(WindowOptions)
def label(scene: str, options: WindowOptions) -> tuple[str, WindowOptions]:
    """Label a scene."""
    return scene, options


def test_keywords_become_the_object():
    assert label("a.tif", overlap=0.5, tta=True) == ("a.tif", WindowOptions(overlap=0.5, tta=True))
    assert label(scene="a.tif") == ("a.tif", WindowOptions())


def test_the_signature_shows_every_option_and_its_default():
    parameters = inspect.signature(label).parameters
    assert list(parameters) == ["scene", "overlap", "window_px", "pixel_size_m", "tta", "refine"]
    assert parameters["overlap"].default == 0.25
    assert label.__doc__ == "Label a scene."


def test_an_unknown_keyword_is_a_mistake_of_the_call():
    with pytest.raises(
        TypeError, match=r"\(\) got an unexpected keyword argument 'overlapp'; did you mean 'overlap'\?"
    ):
        label("a.tif", overlapp=0.5)
    for wrong, meant in (("window", "window_px"), ("n_tta", "tta")):
        with pytest.raises(TypeError, match=f"label.*{wrong!r}; did you mean {meant!r}"):
            label("a.tif", **{wrong: 1})
    with pytest.raises(TypeError, match=r"argument 'colour'$"):
        label("a.tif", colour=1)
    with pytest.raises(TypeError, match="scene"):
        label(overlap=0.5)


@pytest.mark.parametrize(
    "option", [{"classes": n} for n in (0, -1, 255, 300, 2.5, "3")] + [{"seed": -1}, {"seed": 2**32}]
)
def test_numbers_of_classes_that_no_map_holds_and_seeds_that_are_none_are_refused(option):
    with pytest.raises(ConfigError, match=f"{next(iter(option))}=.*give a whole number from"):
        FitOptions(**option).check_fit()
    FitOptions(classes=254, seed=2**32 - 1).check_fit()


@pytest.mark.parametrize("shape", [{"min_area_m2": -1}, {"simplify_m": float("nan")}, {"smooth": 6}])
def test_an_impossible_shape_is_refused_before_any_work(shape):
    with pytest.raises(VectorError, match=next(iter(shape))):
        PolygonOptions(**shape)
