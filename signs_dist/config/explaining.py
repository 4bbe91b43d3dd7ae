"""Explaining a config: every setting with its value, where the value came from, and what the setting does."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from signs_dist.config.section import Section, section_of, summary_of
from signs_dist.config.yaml_text import format_value

DEFAULT_ORIGIN = "default"
LINE_WIDTH = 100
MAX_VALUE_WIDTH = 44
"""The largest width of the column of values, in characters. A longer value moves its origin to the right."""


def explain_settings(config: Section, origins: Mapping[str, str]) -> str:
    """Every setting as `key = value  # origin`, with its docstring indented below it, sections in the schema's order.

    An origin that does not fit into LINE_WIDTH columns, such as the path of a file, is on a line of its own.

    Args:
        config: the values.
        origins: dotted key → `file:line` or the command-line argument. A key that is missing has its default value.
    """
    rows = list(_rows(config))
    key_width = max(len(key) for key, _, _ in rows)
    value_width = min(MAX_VALUE_WIDTH, max(len(value) for _, value, _ in rows))
    lines = []
    section = ""
    for key, value, text in rows:
        if key.rpartition(".")[0] != section:
            section = key.rpartition(".")[0]
            lines += ["", *textwrap.wrap(f"{section}: {summary_of(_section_at(type(config), section))}", LINE_WIDTH)]
        origin = origin_of(key, origins)
        row = f"{key:<{key_width}} = {value:<{value_width}}  # {origin}"
        lines += [row] if len(row) <= LINE_WIDTH else [f"{key:<{key_width}} = {value}", f"    # {origin}"]
        lines += textwrap.wrap(text, LINE_WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _rows(config: Section, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted key, value as it is typed, docstring) of every setting."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            yield from _rows(value, f"{prefix}{name}.")
        else:
            yield prefix + name, format_value(value), docstring_of(field)


def docstring_of(field: Any) -> str:
    """The docstring below a setting in the schema, on one line."""
    return " ".join((field.description or "").split())


def _section_at(schema: type[Section], dotted: str) -> type[Section]:
    for name in dotted.split("."):
        found = section_of(schema.model_fields[name].annotation)
        assert found is not None
        schema = found
    return schema


def origin_of(dotted: str, origins: Mapping[str, str]) -> str:
    """Where a value came from. The entries of a mapping such as model.args can come from several places."""
    found: list[Any] = [place for key, place in origins.items() if key == dotted or key.startswith(f"{dotted}.")]
    return ", ".join(dict.fromkeys(found)) or DEFAULT_ORIGIN
