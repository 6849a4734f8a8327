"""YAML of people: strict, and harmless whatever it says."""

import datetime
import json
import sys
import time
import tracemalloc

import pytest

from geohp.config.documents import DocumentError, read_yaml, write_yaml


def bomb(merge=False):
    """Nine aliases of nine aliases of nine aliases, and so on."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]" if not merge else "a: &a {k: 1}"]
    for i in range(12):
        inner = ",".join([f"*{chr(97 + i)}"] * 9)
        lines.append(f"{chr(98 + i)}: &{chr(98 + i)} " + (f"{{<<: [{inner}], j{i}: 1}}" if merge else f"[{inner}]"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (bomb(), "more than 100,000 values"),
        (bomb(merge=True), "more than 100,000 values"),
        ("data: &a {more: *a}", "contains itself"),
        ("a: " + "[" * 10_000 + "]" * 10_000, "brackets within brackets"),
        ("x" * (1 << 20) + "y", "characters"),
        ("a: 2024-99-99", "a value that cannot be read"),
        (f"a: {'9' * 5000}", "a value that cannot be read"),
        ('a: "\\ud800"', "half a character"),
        ("{a: {b: 1, b: 2}}", "'b' is named twice"),
        ("{0: a, 0x0: b}", "label 0 is named twice"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
    ],
)
def test_hostile_documents_are_refused_at_once(text, problem):
    tracemalloc.start()
    start = time.thread_time()
    with pytest.raises(DocumentError) as caught:
        read_yaml(text)
    seconds = time.thread_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problem in caught.value.problem
    assert seconds < 20
    assert peak < 100 << 20


def test_brackets_end_where_python_would_go_on():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(30_000)
    try:
        with pytest.raises(DocumentError, match="brackets within brackets") as caught:
            read_yaml("a:\n  " + "[" * 3000 + "]" * 3000)
    finally:
        sys.setrecursionlimit(limit)
    assert caught.value.line == 2
    deep = read_yaml("a: " + "[" * 90 + "]" * 90)["a"]
    for _ in range(89):
        (deep,) = deep
    assert deep == []


def test_what_merges_and_aliases_mean_stays():
    text = "base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\nagain: {<<: [*b, {z: 4}]}\nlist: [*b, *b]"
    document = read_yaml(text)
    assert document["own"] == {"x": 1, "y": 3}
    assert document["again"] == {"x": 1, "y": 2, "z": 4}
    assert document["list"] == [document["base"]] * 2


@pytest.mark.parametrize(
    "value",
    ["010", "08", "1:30", "1e4", "1e-4", "no", "off", "yes", "null", "0x1", "2024-01-31", "", " ", "a: b", "*a"],
)
def test_texts_are_written_so_that_they_are_read_as_texts(value):
    assert read_yaml(write_yaml({"a": value, value: "b"})) == {"a": value, value: "b"}


def test_values_keep_their_types():
    value = {"a": [1, 2.5, float("inf"), True, None], "b": {"c": datetime.date(2024, 1, 31)}}
    assert read_yaml(write_yaml(value)) == value
    assert read_yaml("") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("08", 8), ("-007", -7), ("1_000", 1000), ("0x1F", 31), ("0b101", 5), ("0", 0), ("1:30", "1:30")],
)
def test_whole_numbers_are_what_people_mean(text, value):
    """Codes of classes have zeros in front, and are not counted in eights."""
    assert read_yaml(f"{{a: {text}}}" if ":" not in text else f"a: {text}") == {"a": value}


def test_what_json_escapes_in_two_halves_is_a_character():
    folder = ["/data/\U0001f5fa \U00020bb7/a.tif"]
    assert read_yaml(json.dumps(folder)) == folder
    assert read_yaml('{"\\ud83d\\uddfa": 1}') == {"\U0001f5fa": 1}
