"""The code as the site shows it: roles in docstrings become links, options objects the keywords that callers write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe
from site_reference import documented

_ROLE = re.compile(r":\w+:`(~?)(?:[^<`]*<)?([\w.]+)>?`")


class SiteView(griffe.Extension):
    """Rewrites what griffe has loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            owner = obj if obj.is_class else obj.parent
            obj.docstring.value = link_roles(obj.docstring.value, owner.path if owner is not None else "")

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Write out the options of functions that ``geohp.options.keywords`` decorates."""
        for function in _functions(pkg):
            for decorator in function.decorators:
                if decorator.callable_path == "geohp.options.keywords":
                    options = pkg.modules_collection[decorator.value.arguments[0].canonical_path]
                    subjects = list(function.parameters)[:-1]
                    function.parameters = griffe.Parameters(*subjects, *_fields(options))


def _functions(container: griffe.Module | griffe.Class) -> Iterator[griffe.Function]:
    """All functions in a module and in what it holds."""
    for member in container.members.values():
        if member.is_alias:
            continue
        if member.is_function:
            yield member
        elif member.is_module or member.is_class:
            yield from _functions(member)


def _fields(options: griffe.Class) -> list[griffe.Parameter]:
    """The parameters of an options object; those that may go without their name first."""
    fields = [parameter for parameter in options.parameters if parameter.name != "self"]
    for field in fields:
        if "kw_only=False" in str(options.all_members[field.name].value):
            field.kind = griffe.ParameterKind.positional_or_keyword
    return sorted(fields, key=lambda field: field.kind is griffe.ParameterKind.keyword_only)


def link_roles(text: str, owner: str = "") -> str:
    """A docstring in Markdown.

    Args:
        text: with roles such as ``:class:`~geohp.options.FitOptions```, and code between double backticks.
        owner: dotted name of the class or module that short names belong to.
    """
    names = documented()

    def link(match: re.Match[str]) -> str:
        name = match[2]
        target = names.get(name) or names.get(f"{owner}.{name}") or names.get(f"{owner.rpartition('.')[0]}.{name}")
        shown = f"`{name.rpartition('.')[2]}`"
        return f"[{shown}][{target}]" if target else shown

    return _ROLE.sub(link, text).replace("``", "`")
