"""Legend files: what is written is read back, and what cannot be meant is refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geohp.classes import LandCoverClass, default_classes, one_spelling
from geohp.errors import ConfigError, OutputError
from geohp.legend.file import Legend, coloured, spell_out

LONG = """
classes:
  - {id: 0, name: water, colour: "#0077bb", labels: [0, 3]}
  - {id: 4, name: forest}
"""

letters = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff")
texts = st.text(letters, min_size=1, max_size=8).map(one_spelling).filter(str.strip)


@st.composite
def legends(draw):
    ids = draw(st.lists(st.integers(0, 254), min_size=1, max_size=6, unique=True))
    names = draw(st.lists(texts, min_size=len(ids), max_size=len(ids), unique=True))
    colours = [f"#{draw(st.integers(0, 0xFFFFFF)):06x}" for _ in ids]
    more = draw(st.dictionaries(st.integers(-9, 70000), st.sampled_from(ids), max_size=8))
    own = draw(st.lists(st.integers(-9, 300), min_size=len(ids), max_size=len(ids), unique=True))
    classes = tuple(LandCoverClass(*one) for one in zip(ids, names, colours, strict=True))
    model = draw(st.none() | st.integers(0, 16**64 - 1).map("{:064x}".format))
    return Legend(classes, {**more, **dict(zip(own, ids, strict=True))}, model_sha256=model)


def write(tmp_path, text):
    path = tmp_path / "legend.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@given(legend=legends())
def test_what_is_written_is_read_back(legend, tmp_path_factory):
    path = tmp_path_factory.mktemp("legends") / "legend.yaml"
    assert legend.write(path) == path
    assert Legend.read(path) == legend
    assert [one.name for one in path.parent.iterdir()] == ["legend.yaml"]


def test_in_full(tmp_path):
    legend = Legend.read(write(tmp_path, LONG))
    assert legend.labels == {0: 0, 3: 0, 4: 4}
    assert legend.classes == (LandCoverClass(0, "water", "#0077bb"), LandCoverClass(4, "forest", ""))
    assert [entry.colour for entry in legend.all_classes(())] == ["#0077bb", "#88ccee"]


def test_in_short(tmp_path):
    legend = Legend.read(write(tmp_path, "{5: water, 3: forest, 2: water}"))
    assert legend.labels == {2: 0, 3: 1, 5: 0}
    assert [(one.id, one.name) for one in legend.classes] == [(0, "water"), (1, "forest")]
    assert legend == Legend.named({5: "water", 3: "forest", 2: "water"})


def test_a_colour_left_out_is_none_that_is_given(tmp_path):
    first = default_classes(1)[0].colour
    text = f"classes: [{{id: 0, name: a}}, {{id: 1, name: b, colour: '{first.upper()}'}}]"
    colours = [one.colour for one in Legend.read(write(tmp_path, text)).all_classes(())]
    assert colours == [default_classes(2)[1].colour, first.upper()]


def test_a_colour_left_out_is_the_maps():
    known = [LandCoverClass(number, f"class {number}", colour) for number, colour in enumerate(("#111111", "#222222"))]
    named = Legend.named({0: "water", 1: "land"})
    assert [entry.colour for entry in named.all_classes(known)] == ["#111111", "#222222"]
    # Where the first label's is another's, that of the next.
    classes = (LandCoverClass(0, "water", ""), LandCoverClass(1, "land", "#111111"))
    legend = Legend(classes, {0: 0, 1: 0, 2: 1})
    assert [entry.colour for entry in legend.all_classes(known)] == ["#222222", "#111111"]
    assert len({entry.colour for entry in Legend(classes, {0: 0, 2: 1}).all_classes(known)}) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("classes: [{id: 0, name: a, labels: [1]}, {id: 1, name: b}]", "label 1 is named twice"),
        ("{0: a, 0: b}", "label 0 is named twice"),
        ("{0: a}\n{1: b}", "line 2"),
        ("classes: [{id: 0, name: a}, {id: 0, name: b, labels: [7]}]", "two classes have the number 0"),
        ("classes: [{id: 0, name: a}, {id: 1, name: a}]", "classes 0 and 1 are both named 'a'"),
        ("classes: [{id: 0, name: a, colour: red}]", "colour 'red'; write it as #rrggbb"),
        ("classes:\n- id: 0\n  name: a\n  colour: #0077bb", r"classes\[0\].colour is empty.*quotes"),
        ("classes: [{id: 0, name: a, colour: #0077bb}]", "quotes"),
        ("classes: [{id: 255, name: a}]", "outside 0 to 254"),
        ("classes: [{id: -1, name: a}]", "outside 0 to 254"),
        ("classes: [{id: '0', name: a}]", r"classes\[0\].id is \"0\": it should be a valid integer"),
        ("classes: [{id: true, name: a}]", r"classes\[0\].id is true"),
        ("classes: [{id: 0, name: a, color: '#000000'}]", "unknown key.*did you mean 'colour'"),
        ("classes: [{id: 0}]", r"'classes\[0\].name' is missing"),
        ("classes: [{id: 0, name: false}]", "is false, but must be a text"),
        ("classes: [{id: 0, name: ' '}]", "empty name"),
        ('classes: [{id: 0, name: "a\\nb"}]', "line break"),
        ("classes: [{id: 0, name: a, labels: []}]", r"labels is empty"),
        ("classes: [a]", "must be a class such as"),
        ("classes: []", "classes is empty"),
        ("classes: 3", "classes is 3"),
        ("model: 12\nclasses: [{id: 0, name: a}]", 'model is 12, but must be a text'),
        ("model: abc\nclasses: [{id: 0, name: a}]", "its model is \"abc\", no SHA-256"),
        ("{0: 7}", "label 0 is named 7; write the name in quotes"),
        ("{0: a, forest: 2}", "unknown key 'forest'"),
        ("", "names no classes"),
        ("- 0", "names no classes"),
        ("!!python/object/apply:os.system [ls]", "not a valid legend at line 1"),
        ("[" * 4000, "not a valid legend"),
        ("{0: 2020-99-99}", "quotes"),
    ],
)  # fmt: skip
def test_refused_in_a_sentence(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        Legend.read(path)
    assert str(path) in str(caught.value)


def test_unreadable_files(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xff")
    for name in ("none.yaml", "bytes.yaml", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            Legend.read(tmp_path / name)


def test_existing_files_are_kept(tmp_path):
    path = write(tmp_path, "{0: mine}")
    with pytest.raises(OutputError, match="exists already"):
        Legend.named({0: "theirs"}).write(path)
    assert path.read_text() == "{0: mine}"
    Legend.named({0: "theirs"}).write(path, overwrite=True)
    assert Legend.read(path).classes[0].name == "theirs"


def test_labels_that_the_map_does_not_have():
    legend = Legend.named({0: "water", 9: "forest"}, "legend.yaml")
    legend.check([0, 4, 9], "labels.tif")
    with pytest.raises(ConfigError, match=r"legend.yaml names label 9, but labels.tif has labels 0 to 5; remove"):
        legend.check(range(6), "labels.tif")
    with pytest.raises(ConfigError, match=r"label 0 \(and 1 more\), but labels.tif has labels 2 and 7; "):
        legend.check([2, 7], "labels.tif")


@given(legend=legends(), known=st.none() | st.lists(st.integers(-3, 300), unique=True, max_size=20))
def test_every_label_has_one_number(legend, known):
    declared = None if known is None else [LandCoverClass(i, f"class {i}", "#123456") for i in known]
    found = legend.lookup(declared)
    ids = {one.id for one in legend.classes}
    assert {label: found[label] for label in legend.labels} == dict(legend.labels)
    others = {label: number for label, number in found.items() if label not in legend.labels}
    assert len(set(others.values())) == len(others)  # merged with no other
    assert not set(others.values()) & ids
    assert all(0 <= number <= 254 for number in found.values())
    # Whoever can keep the number does.
    assert all(others[i] == i for i in known or range(255) if 0 <= i <= 254 and i not in ids and i in others)
    missing = {*(known or ()), *range(255)} - found.keys()
    assert not missing or len(ids | set(others.values())) == 255


def test_homeless_labels_take_free_numbers():
    legend = Legend.named({0: "water", 3: "water", 2: "forest"})
    declared = default_classes(6)
    found = legend.lookup(declared)
    assert [found[label] for label in range(6)] == [0, 2, 1, 0, 4, 5]
    assert legend.lookup(None) == found
    names = [(one.id, one.name) for one in legend.all_classes(declared)]
    assert names == [(0, "water"), (1, "forest"), (2, "class 1"), (4, "class 4"), (5, "class 5")]
    assert len({one.colour for one in legend.all_classes(declared)}) == 5


def test_labels_that_the_map_calls_like_a_class_are_of_it():
    """Names of one spelling are one class, whoever has given them."""
    declared = [
        LandCoverClass(0, "vegetation", "#00aa00"), LandCoverClass(1, "open ground", "#aaaa00"),
        LandCoverClass(2, "class 2", "#0000aa"), LandCoverClass(3, "class 3", "#aa0000"),
    ]  # fmt: skip
    legend = Legend.named({3: "vegetation", 2: "forest"})
    assert [legend.lookup(declared)[label] for label in range(4)] == [0, 2, 1, 0]
    names = [(one.id, one.name) for one in legend.all_classes(declared)]
    assert names == [(0, "vegetation"), (1, "forest"), (2, "open ground")]
    # But not where the legend calls that label something else.
    renamed = Legend.named({3: "vegetation", 0: "lawn"})
    assert [one.name for one in renamed.all_classes(declared)][:2] == ["vegetation", "lawn"]
    assert renamed.lookup(declared)[0] == 1


def test_names_that_differ_by_blanks_are_one_wherever_they_come_from(tmp_path):
    assert [one.name for one in Legend.named({0: "water", 1: "water "}).classes] == ["water"]
    full = "classes: [{id: 0, name: 'water '}, {id: 1, name: water}]"
    with pytest.raises(ConfigError, match="0 and 1 are both named 'water'"):
        Legend.read(write(tmp_path, full))


def test_numbers_may_be_numpy_s(tmp_path):
    for legend in (Legend.of({np.int64(3): "water"}), Legend.named({np.uint8(3): "water"})):
        assert Legend.read(legend.write(tmp_path / "legend.yaml", overwrite=True)) == legend
        assert legend.labels == {3: 0}


def test_the_last_numbers_are_given_away_too():
    names = {300 + number: f"n{number}" for number in range(253)}
    found = Legend.named(names).lookup([LandCoverClass(label, f"class {label}", "#123456") for label in (0, 1, 2)])
    assert (found[0], found[1]) == (253, 254)
    assert 2 not in found


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "none"),
        ([4], "4"),
        ([4, 5], "4 and 5"),
        ([4, 5, 6], "4 to 6"),
        ([4, 5, 7], "4, 5 and 7"),
        (range(0, 24, 2), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 22"),
        (range(0, 26, 2), "0, 2, 4, 6, 8, 10, ..., 16, 18, 20, 22 and 24"),
    ],
)
def test_labels_in_words(labels, words):
    assert spell_out(list(labels)) == words


@pytest.mark.parametrize("character", ["\x07", "\n", "\x85", "\u2028", "\u2029", "\ud800"])
def test_characters_that_names_cannot_have(character):
    with pytest.raises(ConfigError, match="class 0 has a line break or control character"):
        Legend.named({0: f"a{character}b"})


def test_the_ends_of_what_a_number_may_be():
    assert Legend((LandCoverClass(254, "a", ""),), {7: 254}).labels == {7: 254}
    with pytest.raises(ConfigError, match="label 3 belongs to class 9, which there is not; add that class"):
        Legend((LandCoverClass(0, "a", ""),), {7: 0, 3: 9})
    with pytest.raises(ConfigError, match=r"class 1 \(b\) has no labels"):
        Legend((LandCoverClass(0, "a", ""), LandCoverClass(1, "b", "")), {7: 0})
    with pytest.raises(ConfigError, match="no SHA-256 of 64 figures"):
        Legend((LandCoverClass(0, "a", ""),), {0: 0}, model_sha256="A" * 64)


def test_the_palette_colours_what_has_no_colour():
    palette = [entry.colour for entry in default_classes(255)]
    entries = [(0, "a", None), (7, "b", ""), (300, "c", None), (1, "d", palette[0].upper())]
    colours = [entry.colour for entry in coloured(entries)]
    assert colours == [palette[1], palette[7], "#000000", palette[0].upper()]
    assert [entry.id for entry in coloured(entries)] == [0, 7, 300, 1]


def test_a_legend_is_of_one_models_labels(caplog):
    legend = Legend((LandCoverClass(0, "a", ""),), {0: 0}, "legend.yaml", model_sha256="ab" * 32)
    legend.check_model("ab" * 32, "labels.tif")
    assert not caplog.text
    legend.check_model(None, "labels.tif")
    assert "labels.tif does not say which model made it: legend.yaml may be about other labels" in caplog.text
    with pytest.raises(ConfigError, match=r"legend.yaml names the labels of another model \(abababababab...\)"):
        legend.check_model("cd" * 32, "labels.tif")
    caplog.clear()
    Legend.named({0: "a"}).check_model("cd" * 32, "labels.tif")
    Legend.named({0: "a"}).check_model(None, "labels.tif")
    assert not caplog.text


def test_a_file_is_read_by_people(tmp_path):
    legend = Legend(
        (LandCoverClass(1, "wäter: [deep]", "#0077bb"), LandCoverClass(0, "no", "")),
        {5: 1, 3: 1, 0: 0},
        model_sha256="ab" * 32,
    )
    legend.write(tmp_path / "legend.yaml")
    assert (tmp_path / "legend.yaml").read_text(encoding="utf-8").splitlines() == [
        f"model: {'ab' * 32}",
        "classes:",
        "  - {id: 0, name: 'no', labels: [0]}",
        "  - {id: 1, name: 'wäter: [deep]', colour: '#0077bb', labels: [3, 5]}",
    ]


def test_names_by_hand_of_one_spelling_are_one_class(tmp_path):
    """Of an accent there are two ways to write it, which nobody sees, no more than a blank at the end."""
    legend = Legend.read(write(tmp_path, '{0: "for\\u00eat", 1: "fore\\u0302t", 2: "for\\u00eat "}'))
    assert [entry.name for entry in legend.classes] == ["for\u00eat"]
    assert legend.labels == {0: 0, 1: 0, 2: 0}


def test_a_mapping_is_a_legend_as_it_would_be_in_a_file(tmp_path):
    for document in (
        {0: "water", 3: "water", 2: "forest"},
        {"classes": [{"id": 4, "name": "water", "labels": [0, 3]}]},
    ):
        path = tmp_path / "legend.yaml"
        path.write_text(yaml.safe_dump(document))
        written, legend = Legend.read(path), Legend.of(document)
        assert (legend.classes, legend.labels) == (written.classes, written.labels)
    with pytest.raises(ConfigError, match="the legend: label 2 is named 5; write the name in quotes"):
        Legend.of({2: 5})
