"""Mutants of Python source: each one small mistake, as a replacement of a few characters.

Comparisons, arithmetic, logic, negations, conditions, constants and defaults, minima and maxima, slices, arguments
swapped or left out, statements removed. Left alone is what no behaviour hangs on: annotations, decorators, docstrings,
sentences and what errors and logs say, assertions for the type checker.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_PAIRS = (
    ("min", "max"), ("minimum", "maximum"), ("amin", "amax"), ("argmin", "argmax"), ("any", "all"), ("floor", "ceil"),
    ("zeros", "ones"), ("zeros_like", "ones_like"), ("new_zeros", "new_ones"), ("clamp_min", "clamp_max"),
)  # fmt: skip
_NAMES = dict(_PAIRS) | {b: a for a, b in _PAIRS}
_WORD = re.compile(r"[\w.:/-]+")
_LEFT_ALONE = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)
"""What is in these: no mistake in it is worth making."""
_TALK = {"logger", "_logger", "logging", "warnings"}


@dataclass(frozen=True)
class Mutant:
    """A mistake in a file.

    Attributes:
        path: of the file, relative to the root.
        function: qualified name of the innermost function or class it is in; empty at module level.
        before, after: the lines it touches, blanks collapsed.
        lines: first and last line that have to be executed for it to matter.
        start, end: bytes of the source that are replaced.
        replacement: by what.
    """

    path: str
    function: str
    before: str
    after: str
    lines: tuple[int, int]
    start: int
    end: int
    replacement: str

    @property
    def name(self) -> str:
        """What it is; stays the same when other lines of the file change."""
        return f"{self.path} {self.function}: {self.before}  =>  {self.after}"

    @property
    def order(self) -> str:
        """Its place in a random order that other mutants, and changes elsewhere, do not disturb."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    def applied(self, source: bytes) -> bytes:
        """The source with it."""
        return source[: self.start] + self.replacement.encode() + source[self.end :]


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All mutants of a file, each once."""
    collector = _Collector(path, source)
    collector.visit(ast.parse(source))
    return list({mutant.name: mutant for mutant in collector.mutants}.values())


class _Collector(ast.NodeVisitor):
    """Goes through a file and notes every replacement."""

    def __init__(self, path: str, source: bytes) -> None:
        self.mutants: list[Mutant] = []
        self._path, self._source = path, source
        lines = source.splitlines(keepends=True)
        self._offsets = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
        self._names: list[str] = []
        self._lines: list[tuple[int, int] | int] = [1]  # of what is being gone through: a first line, or a whole body

    def visit(self, node: ast.AST) -> None:
        in_function = isinstance(node, ast.stmt) and isinstance(self._lines[-1], int)
        if isinstance(node, ast.stmt) and in_function:
            self._lines.append(node.lineno)
        if isinstance(node, (ast.expr, ast.stmt)):
            for replacement in _replacements(node):
                self._note(node, replacement)
        for condition in _conditions(node):
            self._note(condition, f"(not ({ast.unparse(condition)}))")
        if not isinstance(node, _LEFT_ALONE):
            super().visit(node)
        if in_function:
            self._lines.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._names.append(node.name)
        body = (node.body[0].lineno, node.end_lineno or node.lineno)
        self._lines.append(body)  # defaults matter where the body is run
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        self._lines.pop()
        self._lines.append(node.lineno)
        self._statements(node.body)
        self._lines.pop()
        self._names.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        self._lines.append((node.lineno, node.end_lineno or node.lineno))  # any method's run will do for a field
        self._statements(node.body)
        self._lines.pop()
        self._names.pop()

    def visit_Module(self, node: ast.Module) -> None:
        self._lines.append((1, len(self._offsets)))
        self._statements(node.body)
        self._lines.pop()

    def _statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not text and not (len(self._lines) == 2 and _is_alias(statement)):
                self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if _is_cast(node):
            self.visit(node.args[1])
        elif _called(node) not in ("TypeVar", "NewType") and not _is_talk(node):
            self.generic_visit(node)

    def _note(self, node: ast.expr | ast.stmt, replacement: str) -> None:
        first, last = node.lineno, node.end_lineno or node.lineno
        start = self._offsets[first - 1] + node.col_offset
        end = self._offsets[last - 1] + (node.end_col_offset or 0)
        head, tail = self._offsets[first - 1], self._offsets[last]
        before = self._source[head:tail]
        after = self._source[head:start] + replacement.encode() + self._source[end:tail]
        place = self._lines[-1]
        lines = (place, last) if isinstance(place, int) else place
        texts = (" ".join(text.decode().split()) for text in (before, after))
        self.mutants.append(Mutant(self._path, ".".join(self._names), *texts, lines, start, end, replacement))


def _replacements(node: ast.expr | ast.stmt) -> Iterator[str]:
    """What could stand in a node's place."""
    match node:
        case (
            ast.Raise()
            | ast.AugAssign()
            | ast.Expr(value=ast.Call())
            | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
        ):
            if not (isinstance(node, ast.Expr) and _is_talk(node.value)):
                yield "pass"
            if isinstance(node, ast.AugAssign) and (other := _ARITHMETIC.get(type(node.op))):
                yield ast.unparse(_with(node, op=other()))
        case ast.Continue():
            yield "break"
        case ast.Break():
            yield "continue"
        case ast.Compare():
            for i, operator in enumerate(node.ops):
                for other_comparison in _COMPARISONS[type(operator)]:
                    yield _text(_with(node, ops=[*node.ops[:i], other_comparison(), *node.ops[i + 1 :]]))
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            yield _text(_with(node, op=_ARITHMETIC[type(node.op)]()))
        case ast.BoolOp():
            yield _text(_with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield _text(node.operand)
        case ast.Constant():
            yield from _constants(node.value)
        case ast.Attribute(attr=name) if name in _NAMES:
            yield ast.unparse(_with(node, attr=_NAMES[name]))
        case ast.Slice():
            for bound in ("lower", "upper"):
                if getattr(node, bound) is not None:
                    yield ast.unparse(_with(node, **{bound: None}))
        case ast.Call() if not _is_talk(node) and not _is_cast(node):
            yield from _calls(node)


def _conditions(node: ast.AST) -> list[ast.expr]:
    """The conditions of a node that are negated; comparisons have mutants of their own."""
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            conditions = [test]
        case ast.comprehension(ifs=ifs):
            conditions = ifs
        case _:
            return []
    return [
        c for c in conditions if not isinstance(c, (ast.Compare, ast.UnaryOp)) and "TYPE_CHECKING" not in ast.unparse(c)
    ]


def _calls(node: ast.Call) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and (other := _NAMES.get(node.func.id)):
        yield ast.unparse(_with(node, func=ast.Name(other)))
    first, second = map(ast.dump, node.args[:2]) if len(node.args) > 1 else ("", "")
    if first != second and not any(isinstance(value, ast.Starred) for value in node.args[:2]):
        yield ast.unparse(_with(node, args=[node.args[1], node.args[0], *node.args[2:]]))
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield ast.unparse(_with(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]]))


def _constants(value: object) -> Iterator[str]:
    match value:
        case bool():
            yield repr(not value)
        case int():
            yield f"({value + 1})"
        case float():
            yield f"({value * 2 or 1.0!r})"
        case str() if _WORD.fullmatch(value):
            yield repr(value + "_")


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _text(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def _called_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _called(node: ast.Call) -> str:
    return _called_name(node.func)


def _is_talk(node: ast.AST) -> bool:
    """Whether a call writes a log."""
    return isinstance(node, ast.Call) and _called_name(getattr(node.func, "value", node)) in _TALK


def _is_cast(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "cast"


def _is_alias(statement: ast.stmt) -> bool:
    """Whether a statement names a type."""
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, (ast.Subscript, ast.BinOp))
        and (isinstance(statement.value, ast.Subscript) or isinstance(statement.value.op, ast.BitOr))
    )
