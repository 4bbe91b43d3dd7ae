"""Messages about a wrong config: where the value was set, what was given, what is legal, the nearest name."""

from __future__ import annotations

import difflib
import re
import shlex
import types
import typing
from collections.abc import Iterable
from typing import Any

from signs_dist.config.dotted_names import DOTTED_PATTERN
from signs_dist.config.section import Section, flatten, section_of
from signs_dist.config.settings import Config
from signs_dist.config.yaml_text import format_value

OTHER_NAMES = {
    "learning_rate": "optim.lr",
    "lr": "optim.lr",
    "batch_size": "train.global_batch",
    "batch": "train.global_batch",
    "num_epochs": "train.epochs",
    "optimizer": "optim.name",
    "scheduler": "schedule.name",
    "arch": "model.name",
    "dropout": "model.args",
    "workers": "data.num_workers",
    "data_dir": "data.root",
    "val_split": "data.split",
    "dtype": "train.precision",
    "amp": "train.precision",
    "ema_decay": "ema.decay",
}
"""Names that other tools use for a setting → the setting, for suggestions."""
LONGEST_SHOWN = 120
"""Characters of a given value that a message shows at most."""
_OWN = "your own as package.module:make"


def shortened(text: str) -> str:
    """Text for a message; the middle of a long text is replaced by its length."""
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]} … {text[-half:]} ({len(text):,} characters)"


def suggest_key(name: str, dotted: str, schema: type[Section], below: str = "") -> str:
    """The end of the message about an unknown key `name` of a section: the nearest key and all legal keys.

    Args:
        name: the unknown key, the last part of `dotted`.
        dotted: the key with the sections above it.
        schema: the section that does not have it.
        below: what was given below it, such as the `epochs` of `trian.epochs`, or empty.
    """
    every = [key for key, _ in flatten(Config())]
    if name in every:
        section, _, key = name.rpartition(".")
        return f" In a file, write {key} on its own line below `{section}:`."
    sections = [key for key in Config.model_fields if section_of(Config.model_fields[key].annotation)]
    near = _nearest(name, schema.model_fields)
    prefix = dotted[: -len(name)]
    nearest = _nearest(f"{dotted}.{below}", every, 0.75) if below else ""
    if not nearest and near:
        nearest = prefix + near
    elif not nearest:
        nearest = find_setting(name) or _nearest(dotted, every + sections)
    legal = ", ".join(schema.model_fields)
    hint = f" Did you mean {nearest}?" if nearest else ""
    return f"{hint} Legal{f' in {prefix[:-1]}' if prefix else ''}: {legal}."


def find_setting(word: str, *, cutoff: float = 0.75) -> str:
    """The setting that a word such as `epochs`, `batch-size` or `optim.rl` probably means; "" if there is none."""
    word = word.replace("-", "_")
    every = [key for key, _ in flatten(Config())]
    known = {key.rsplit(".", 1)[-1]: key for key in reversed(every)} | OTHER_NAMES | {key: key for key in every}
    near = _nearest(word, known, cutoff)
    return known[near] if near else ""


def _nearest(word: str, legal: Iterable[str], cutoff: float = 0.6) -> str:
    return next(iter(difflib.get_close_matches(word, list(legal), n=1, cutoff=cutoff)), "")


def explain_malformed(word: str) -> str:
    """The end of the message about a word of the command line that is no `section.key=value`."""
    if word.endswith((".yaml", ".yml")) and "=" not in word:
        return f"a config file is given with its flag: --config {shlex.quote(word)}"
    key, sign, value = re.match(r"([^=:]*)([=:]?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    near = find_setting(key.strip(), cutoff=0.9)
    if not near or not all(key.split(".")):
        return "a setting is written section.key=value, such as optim.lr=0.05."
    value = value.strip() or "…"
    return f"a setting is one word with an equals sign and without blanks: {near}={shlex.quote(value) if sign else '…'}"


def is_dict(annotation: Any) -> bool:
    """Whether a field holds a mapping with any keys."""
    return annotation is dict or typing.get_origin(annotation) is dict


def explain_error(item: dict[str, Any], origins: dict[str, str]) -> str:
    """One line for one of pydantic's errors: where the value was set, what was given, what is legal."""
    names = [str(part) for part in item["loc"]]
    dotted, field = _locate(names)
    origin = origins.get(dotted) or next((origins[key] for key in origins if key.startswith(f"{dotted}.")), "")
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        mentioned = [
            origins[key] for key in re.findall(r"\b[a-z_]+\.[a-z_]+(?:\.[a-z_]+)?\b", message) if key in origins
        ]
        where = mentioned[0] if mentioned else origin
        return f"{where}: {message}" if where and not message.startswith(where) else message
    given = item.get("input")
    legal = describe_field(field) if field is not None else message
    near = difflib.get_close_matches(str(given), _choices(field.annotation), n=1) if field is not None else []
    hint = f" Did you mean {near[0]}?" if near and near[0] != given else ""
    where = origin or dotted
    if not hint and "text" in legal and isinstance(given, bool | int | float):
        hint = (
            f""" For text, quote the value; on the command line, quote it twice: "{dotted}='{format_value(given)}'"."""
        )
    entry = next((f" entry {part + 1}:" for part in item["loc"] if isinstance(part, int)), "")
    if (size := re.match(r"a list of (\d+)", legal)) and isinstance(given, int | float) and not entry:
        hint = f" For all {size[1]}: {dotted}=[{', '.join([format_value(given)] * int(size[1]))}]"
    named = where if where.startswith((f"{dotted}=", f"{dotted}.")) or where == dotted else f"{where}: {dotted}"
    return f"{named}:{entry} {shortened(format_value(given))} is not legal. It takes {legal}.{hint}"


def _locate(names: list[str]) -> tuple[str, Any]:
    """The dotted key and the field of pydantic's location, whose last parts may be branches of a union, not keys."""
    schema: type[Section] = Config
    found: list[str] = []
    field: Any = None
    for name in names:
        if name not in schema.model_fields:
            break
        field = schema.model_fields[name]
        found.append(name)
        section = section_of(field.annotation)
        if section is None:
            break
        schema = section
    if field is not None and section_of(field.annotation) is not None:
        field = None
    return ".".join(found), field


def _choices(annotation: Any) -> list[str]:
    """The literal values that an annotation allows, as text."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return [choice for part in typing.get_args(annotation) if not isinstance(part, str) for choice in _choices(part)]


def describe_setting(dotted: str) -> str:
    """What the setting of a dotted key takes, in words. Entries of a mapping take any value."""
    found, field = _locate(dotted.split("."))
    if field is None or found != dotted:
        return "any value; null means none, and '' empty text"
    return describe_field(field)


def describe_field(field: Any) -> str:
    """What a field takes, in words, such as `a whole number, at least 1`."""
    return _describe_type(field.annotation, list(field.metadata))


def _describe_type(annotation: Any, metadata: list[Any]) -> str:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return _describe_type(inner, [*metadata, *more])
    if origin is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        parts = [_describe_type(part, metadata) for part in typing.get_args(annotation)]
        if _OWN in parts and parts[0].startswith("one of "):
            return f"{parts[0]}, or {_OWN}"
        joint = ", or " if any(", at least" in part or ", above" in part for part in parts) else " or "
        return joint.join(part.removeprefix("one of ") for part in parts)
    if origin is tuple:
        arguments = typing.get_args(annotation)
        if Ellipsis in arguments:
            return f"a list, each {_describe_type(arguments[0], [])}"
        return f"a list of {len(arguments)}, each {_describe_type(arguments[0], [])}"
    if is_dict(annotation):
        return "a mapping such as {name: value}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    words = names.get(annotation, str(annotation))
    if annotation is str and any(getattr(part, "min_length", 0) for part in _constraints(metadata)):
        words = "text that is not empty"
    if annotation is str and any(getattr(part, "pattern", None) == DOTTED_PATTERN for part in _constraints(metadata)):
        words = _OWN
    bounds = _describe_bounds(metadata) if annotation in (int, float) else ""
    return f"{words}{bounds}"


def _describe_bounds(metadata: list[Any]) -> str:
    phrases = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds: dict[str, str] = {}
    for constraint in _constraints(metadata):
        for attribute, phrase in phrases.items():
            limit = getattr(constraint, attribute, None)
            if limit is not None:
                bounds[attribute] = f"{phrase} {limit}" if isinstance(limit, int) else f"{phrase} {limit:g}"
    return f", {' and '.join(bounds.values())}" if bounds else ""


def _constraints(metadata: list[Any]) -> list[Any]:
    """The single constraints in the metadata of Annotated; pydantic groups some of them."""
    return [constraint for item in metadata for constraint in getattr(item, "metadata", [item])]
