"""Commands and Python of all pages: every command is understood, every name is there and takes what it is given."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer

import geohp
from geohp.cli.app import app
from geohp.notebook.accessor import ArrayAccessor

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", ROOT / "benchmarks" / "RESULTS.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
COMMANDS = typer.main.get_command(app).commands
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, languages):
    return [block for language, block in _FENCED.findall(text_of(page)) if language in languages]


def command_lines(page):
    """The words of each call of geohp, in blocks with or without a language and in indented ones."""
    indented = re.findall(r"(?:^    .*\n)+", _FENCED.sub("", text_of(page)), re.MULTILINE)
    for block in [*blocks(page, ("", "sh", "bash", "console")), *indented]:
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            for call in re.split(r" && | \| |; ", line):
                if re.match(r"(\S*/)?geohp ", call.strip()):
                    words = shlex.split(call, comments=True)[1:]
                    yield words[: words.index(">")] if ">" in words else words


CALLS = [pytest.param(words, id=f"{page.name}: {shlex.join(words)}") for page in PAGES for words in command_lines(page)]


def test_there_are_calls_in_many_pages():
    assert len(CALLS) > 70
    assert len({case.id.split(":")[0] for case in CALLS}) > 12


@pytest.mark.parametrize("words", CALLS)
def test_every_command_is_understood(words):
    if words[0].startswith("-"):
        return  # --help, --install-completion
    COMMANDS[words[0]].make_context(words[0], words[1:], resilient_parsing="--help" in words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_names_what_there_is_and_gives_arguments_that_are_taken(page):
    for block in blocks(page, ("python", "py")):
        names = {"geohp": geohp}
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "geohp":
                module = importlib.import_module(node.module)
                names |= {entry.asname or entry.name: getattr(module, entry.name) for entry in node.names}

        def value(node, names=names):
            if isinstance(node, ast.Name):
                return names.get(node.id)
            if not isinstance(node, ast.Attribute):
                return None
            if node.attr == "geohp":  # of an array
                return ArrayAccessor
            owner = value(node.value)
            return None if owner is None else getattr(owner, node.attr)

        for node in ast.walk(tree):
            called = value(node.func) if isinstance(node, ast.Call) else None
            if called is not None:
                taken = inspect.signature(called).parameters
                assert not {word.arg for word in node.keywords} - set(taken), ast.unparse(node)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_whole(page):
    """Rows behind an empty line are no rows of a table any more, but text with bars in it."""
    lines = _FENCED.sub("", text_of(page)).splitlines()
    tables = [n for n, line in enumerate(lines) if line.startswith("|") and not lines[n - 1].startswith("|")]
    assert [lines[n] for n in tables if not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", lines[n + 1])] == []
