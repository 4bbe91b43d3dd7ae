"""YAML as configs use it: the types of unquoted values, the constructs that are refused, and the line of each error.

PyYAML parses. It follows YAML 1.1, in which an unquoted 4:00:00 is a number; here it gets the rules of YAML 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from signs_dist.errors import UserError

PLAIN_TAGS = ("str", "int", "float", "bool", "null", "seq", "map")
MAX_DEPTH = 32
MAX_VALUES = 10_000
"""The most values that a file may hold with its aliases written out: a small file could otherwise fill the memory."""


def _plain_scalars(base: Any) -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    """The implicit resolvers of a PyYAML class, with numbers and truth values as in YAML 1.2, and null.

    So `1e-4` is a number, and `010`, `1:30`, `1_000`, `2024-01-01`, `yes` and `<<` are text (YAML 1.2.2, section
    10.3.2, without its octal and hexadecimal integers).
    """
    kept = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    ours = {
        "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
        "float": (
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
            "-+.0123456789",
        ),
        "int": (r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    }
    for name, (pattern, firsts) in ours.items():
        for first in firsts:
            kept.setdefault(first, []).append((f"tag:yaml.org,2002:{name}", re.compile(pattern)))
    return kept


PLAIN_SCALARS = _plain_scalars(yaml.SafeLoader)
"""What an unquoted word means. Reading and writing share it, so what is written is read back unchanged."""


class PlainLoader(yaml.SafeLoader):
    """SafeLoader that follows `PLAIN_SCALARS`."""

    yaml_implicit_resolvers = PLAIN_SCALARS


class ConfigDumper(yaml.SafeDumper):
    """SafeDumper that quotes text which `PlainLoader` would read as something else, such as '1e-4'."""

    yaml_implicit_resolvers = PLAIN_SCALARS

    def ignore_aliases(self, data: Any) -> bool:
        """Write a value that occurs twice in full both times, without anchors."""
        return True


class _Loader(PlainLoader):
    """PlainLoader that refuses merge keys, keys that are given twice, at every depth, and too many values."""

    _num_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As in SafeLoader. Counts, so that a file of too many values is refused before it is read to its end."""
        self._num_nodes += 1
        if self._num_nodes > MAX_VALUES:
            raise yaml.composer.ComposerError(problem=f"too large; {MAX_VALUES:,} values are legal")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            try:
                read_key(key_node, seen)
            except UserError as error:
                raise yaml.constructor.ConstructorError(problem=str(error).rstrip(".")) from None
        return super().construct_mapping(node, deep=deep)


def format_value(value: Any) -> str:
    """A value as it can be typed after `section.key=`."""
    text: str = yaml.dump(value, Dumper=ConfigDumper, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def format_mapping(values: dict[str, Any]) -> str:
    """A mapping as a YAML file, its keys in their order. `read_tree` and `construct` give equal values back."""
    return yaml.dump(_lists_for_tuples(values), Dumper=ConfigDumper, sort_keys=False, allow_unicode=True)


def _lists_for_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists_for_tuples(inner) for key, inner in value.items()}
    return [_lists_for_tuples(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_tree(text: str, name: str) -> yaml.Node | None:
    """The YAML tree of a text, whose nodes know their lines; None for an empty text.

    Args:
        text: a whole file, or the value of one setting.
        name: what messages begin with, such as the file's path.

    Raises:
        UserError: the text is not YAML, or nested too deeply, or too large with its aliases written out.
    """
    try:
        node = yaml.compose(text, _Loader)
        if node is not None:
            _measure(node, {}, 1)
    except RecursionError:
        raise UserError(f"{name}: nested too deeply; {MAX_DEPTH} levels are legal.") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problem = f"the character #x{ord(text[error.position]):04x} is not allowed"
        raise UserError(f"{name}:{line}: not valid YAML: {problem}. Delete it.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}.") from None
    return node


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """(values, levels) of a tree with its aliases written out.

    Raises:
        ComposerError: there are too many, or the tree contains itself.
    """
    if depth > MAX_DEPTH:
        raise yaml.composer.ComposerError(problem=f"nested too deeply; {MAX_DEPTH} levels are legal")
    if id(node) not in known:
        measures = [_measure(part, known, depth + 1) for part in _children(node)]
        values, levels = 1 + sum(size for size, _ in measures), 1 + max((levels for _, levels in measures), default=0)
        if values > MAX_VALUES or levels > MAX_DEPTH:
            limits = f"{MAX_VALUES:,} values in {MAX_DEPTH} levels are legal"
            raise yaml.composer.ComposerError(problem=f"too large with its aliases written out; {limits}")
        known[id(node)] = values, levels
    return known[id(node)]


def construct(node: yaml.Node, where: str) -> Any:
    """The plain value of a tree: text, numbers, true, false, null, lists and mappings of these.

    Args:
        node: the tree.
        where: what messages begin with, such as file, line and key.

    Raises:
        UserError: a tag, a merge key, a key that is given twice, or a number that Python refuses.
    """
    foreign = next((part.tag for part in _walk(node) if part.tag.rsplit(":", 1)[-1] not in PLAIN_TAGS), None)
    if foreign is not None:
        raise UserError(f"{where}: the tag {foreign} is not read. A config holds plain values. Delete the tag.")
    try:
        return _Loader("").construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}.") from None
    except ValueError as error:  # `!!int x`, or a number of thousands of digits
        problem = "a number of too many digits" if "digits" in str(error) else str(error)
        raise UserError(f"{where}: {problem}.") from None


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _walk(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    for part in _children(node):
        yield from _walk(part)


def read_key(node: yaml.Node, seen: dict[str, int]) -> str:
    """The text of a mapping's key, which is added to `seen` (key → line).

    Raises:
        UserError: the key is a list or a mapping, is a merge key, or is given twice.
    """
    if not isinstance(node, yaml.ScalarNode):
        raise UserError("a key must be a word, not a list or a mapping.")
    key = str(node.value)
    if key == "<<":
        raise UserError("<<: merge keys are not read. Write the settings in full.")
    if key in seen:
        raise UserError(f"{key} is given twice; line {seen[key]} sets it already. Keep one.")
    seen[key] = line_of(node)
    return key


def line_of(node: yaml.Node) -> int:
    """The line on which a node begins, counted from 1."""
    return int(node.start_mark.line) + 1


def is_null(node: yaml.Node) -> bool:
    """Whether a node is `null`, `~` or nothing."""
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def kept_part(node: yaml.Node, text: str) -> str | None:
    """What YAML keeps of an unquoted text, or None where it keeps all of it.

    `photos #1` is read as `photos`: what follows the # is a comment.
    """
    is_plain = isinstance(node, yaml.ScalarNode) and not node.style and not text.lstrip().startswith(("!", "&"))
    return str(node.value) if is_plain and node.value != text.strip() else None
