"""YAML that people write, configurations and legends: read strictly, in little time and memory whatever it says.

PyYAML alone takes 1e-4 for a string, 010 for 8, and off, which is a setting, for false; of a key
that comes twice it takes the last without a word. Aliases let a page of text stand for more values than memory holds,
and brackets nest deeper than Python calls.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_LONGEST = 1 << 20
"""Characters of a document; 254 classes with all their labels take a fiftieth."""
_DEEPEST = 100
"""Brackets within brackets; a configuration has five. What Python's own limit is, others may have changed."""
_MOST_VALUES = 100_000
"""That aliases may make of a document's values."""


class DocumentError(ValueError):
    """A text that is no such document.

    Attributes:
        problem: what is wrong.
        line: where, counted from 1; ``None`` where that cannot be said.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line

    @property
    def place(self) -> str:
        """The line in messages, after what it is a line of; empty where there is none."""
        return f" at line {self.line}" if self.line else ""


def read_yaml(text: str) -> Any:
    """What a YAML document says; of tags only YAML's own have a meaning.

    Raises:
        DocumentError: it is no YAML, a key comes twice in a mapping, or it stands for too much.
    """
    if len(text) > _LONGEST:
        raise DocumentError(f"{len(text):,} characters, where {_LONGEST:,} are the most")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, loader)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except DocumentError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unexpected text"
        raise DocumentError(problem, mark.line + 1 if mark else None) from error
    except RecursionError as error:
        raise DocumentError("brackets within brackets without end") from error
    except (ValueError, OverflowError, TypeError, AttributeError, KeyError) as error:  # of PyYAML's own constructors
        raise DocumentError(f"a value that cannot be read ({str(error).splitlines()[0][:100]})") from error


def write_yaml(value: Any, **style: Any) -> str:
    """A document in YAML that :func:`read_yaml` reads back.

    Args:
        value: of mappings, lists, texts, numbers, booleans and nothing; keys stay in their order.
        style: PyYAML's settings, such as ``default_flow_style`` and ``width``.
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **style))


class _Loader(yaml.SafeLoader):
    """PyYAML's, which takes numbers and words as people mean them, and no endless brackets."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A value and all that is in it."""
        if self._depth > _DEEPEST:
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise DocumentError("brackets within brackets without end", line)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which puts into quotes what the loader would not take for a text."""


_BOOL, _FLOAT, _INT, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "merge"))

_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _INT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        _INT, re.compile(r"^[-+]?(?:[0-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
    )
    _kind.add_implicit_resolver(
        _FLOAT,
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)$"),
        list("-+0123456789."),
    )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A whole number; codes with zeros in front are in tens like all others, where PyYAML takes 010 for 8."""
    digits = node.value.replace("_", "")
    return int(digits) if digits.lstrip("-+").isdigit() else int(digits, 0)


_Loader.add_constructor(_INT, _construct_int)


def _check(root: yaml.Node, loader: _Loader) -> None:
    """Refuse a document in which a key comes twice, that contains itself, or that stands for too many values."""
    values: dict[int, int] = {}  # by node; 0 while it is being counted

    def count(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            if re.search("[\ud800-\udfff]", node.value):
                node.value = _whole_characters(node.value, node.start_mark.line + 1)
            return 1
        if id(node) in values:
            if not values[id(node)]:
                raise DocumentError("a value that contains itself", node.start_mark.line + 1)
            return values[id(node)]
        values[id(node)] = 0
        inner = node.value
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        total = 1 + sum(map(count, inner))
        if total > _MOST_VALUES:
            raise DocumentError(f"more than {_MOST_VALUES:,} values", node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            _refuse_twins(node, loader)
        values[id(node)] = total
        return total

    count(root)


def _whole_characters(text: str, line: int) -> str:
    """A text in which pairs of halves, as JSON escapes characters beyond 65,535, are characters.

    Raises:
        DocumentError: a half is left.
    """
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise DocumentError("half a character", line) from error


def _refuse_twins(node: yaml.MappingNode, loader: _Loader) -> None:
    seen = set[Any]()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node)
        if key in seen:
            what = f"label {key}" if isinstance(key, int) else f"the key {str(key)[:100]!r}"
            raise DocumentError(f"{what} is named twice", key_node.start_mark.line + 1)
        seen.add(key)
