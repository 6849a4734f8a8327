"""The reference of all keys says what the code does."""

import jsonschema
import pytest

from geohp.config.documents import read_yaml as read
from geohp.config.loading import packaged_configs, parse_config
from geohp.config.reference import config_reference, config_schema
from geohp.errors import ConfigError
from geohp.methods.settings import attribute_docstrings


def valid(document):
    return jsonschema.Draft202012Validator(config_schema()).is_valid(document)


def test_the_reference_loads_and_means_the_defaults():
    assert parse_config(read(config_reference())) == parse_config({"data": {"images": ["my_tiles"]}})


@pytest.mark.parametrize("data", ["potsdam", "cocostuff", "cityscapes", "voc", "torchgeo"])
@pytest.mark.parametrize("method", ["stego", "kmeans", "maskcontrast", "probes"])
def test_every_variant_loads(data, method):
    text = config_reference(data=data, method=method)
    config = parse_config(read(text))
    assert (config.data.source, config.method.name) == (data, method)
    assert config.method == type(config.method)()


def test_every_key_has_a_meaning():
    schema = config_schema()
    silent = [
        f"{name}.{key}"
        for name, section in [("", schema), *schema["$defs"].items()]
        for key, about in section["properties"].items()
        if not about.get("description") and "const" not in about and "$ref" not in about
        if "Rates" not in name and key not in {"data", "method"}
    ]
    assert silent == []


def test_limits_choices_and_what_auto_stands_for_are_told():
    lines = config_reference().splitlines()
    precision = lines.index("  precision: auto")
    assert lines[precision - 1].endswith("One of auto, 32, bf16, fp16.")
    assert lines[lines.index("  ema_momentum: 0.999") - 1].endswith("At least 0, below 1.")
    assert "  pool_size: auto" in lines
    assert "at most 4294967295" in lines[lines.index("  seed: 0") - 1]


@pytest.mark.parametrize("path", packaged_configs().values(), ids=lambda path: path.stem)
def test_packaged_configurations_satisfy_the_schema(path):
    assert valid(read(path.read_text(encoding="utf-8")))


def test_the_schema_refuses_what_loading_refuses():
    good = {"data": {"images": "tiles", "patch_px": "auto"}, "method": {"pool_size": "auto", "temperature": 0.2}}
    parse_config(good)
    assert valid(good)
    for bad in ({"train": {"epoch": 3}}, {"method": {"temperature": -1}}, {"data": {"images": "a", "split": "half"}}):
        with pytest.raises(ConfigError):
            parse_config({**good, **bad})
        assert not valid({**good, **bad})


class _Base:
    a: int = 1
    """Of the base."""
    b: int = 2
    """Stays."""


class _Derived(_Base):
    a: int = 3
    """Of the derived."""
    b: int = 4


def test_docstrings_of_attributes_are_inherited():
    assert attribute_docstrings(_Derived) == {"a": "Of the derived.", "b": "Stays."}
