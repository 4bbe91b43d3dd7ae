"""What is said about a wrong config: where it was set, what was given, what is legal, the nearest name."""

from __future__ import annotations

import difflib
import re
import types
import typing
from typing import Any

import yaml

from signs_dist.config import Config, Section, flatten, section_of

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
    "dtype": "train.precision",
    "amp": "train.precision",
    "ema_decay": "ema.decay",
}
"""What other tools call things, so that a newcomer's guess finds ours."""


def format_value(value: Any) -> str:
    """A value as it can be typed after `section.key=`."""
    if isinstance(value, tuple):
        value = list(value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def suggest_key(name: str, dotted: str, schema: type[Section]) -> str:
    """The end of a message on the unknown key `name` of a section: the nearest key and all legal ones."""
    every = [key for key, _ in flatten(Config())]
    sections = [key for key in Config.model_fields if section_of(Config.model_fields[key].annotation)]
    near = difflib.get_close_matches(name, list(schema.model_fields), n=1)
    prefix = dotted[: -len(name)]
    if near:
        nearest = prefix + near[0]
    else:
        known = {key.rsplit(".", 1)[-1]: key for key in reversed(every)} | OTHER_NAMES
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        nearest = known[close[0]] if close else next(iter(difflib.get_close_matches(dotted, every + sections, n=1)), "")
    legal = ", ".join(schema.model_fields)
    hint = f" Did you mean {nearest}?" if nearest else ""
    return f"{hint} Legal{f' in {prefix[:-1]}' if prefix else ''}: {legal}."


def is_dict(annotation: Any) -> bool:
    """Whether a field holds free key-value pairs."""
    return annotation is dict or typing.get_origin(annotation) is dict


def explain_error(item: dict[str, Any], origins: dict[str, str]) -> str:
    """One line for one of pydantic's errors: where it was set, what was given, what is legal."""
    names = [str(part) for part in item["loc"]]
    dotted, field = _locate(names)
    origin = origins.get(dotted) or next((origins[key] for key in origins if key.startswith(f"{dotted}.")), "")
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        mentioned = [
            origins[key] for key in re.findall(r"\b[a-z_]+\.[a-z_]+(?:\.[a-z_]+)?\b", message) if key in origins
        ]
        where = mentioned[0] if mentioned else origin
        return f"{where}: {message}" if where else message
    given = item.get("input")
    legal = _describe(field) if field is not None else message
    near = difflib.get_close_matches(str(given), _choices(field.annotation), n=1) if field is not None else []
    hint = f" Did you mean {near[0]}?" if near and near[0] != given else ""
    where = origin or dotted
    return f"{where}: {dotted}: {format_value(given)} is not legal. It takes {legal}.{hint}"


def _locate(names: list[str]) -> tuple[str, Any]:
    """The dotted key and field for pydantic's location, whose tail may name branches of a union."""
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
    """The literal values an annotation admits, as text."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return [choice for part in typing.get_args(annotation) if not isinstance(part, str) for choice in _choices(part)]


def _describe(field: Any) -> str:
    """What a field takes, in words: `a whole number, at least 1`."""
    words = _describe_type(field.annotation, list(field.metadata))
    return words or "another type"


def _describe_type(annotation: Any, metadata: list[Any]) -> str:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return _describe_type(inner, [*metadata, *more])
    if origin is typing.Literal:
        return "one of " + ", ".join(str(value) for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        parts = [_describe_type(part, metadata) for part in typing.get_args(annotation)]
        return " or ".join(part.removeprefix("one of ") for part in parts)
    if origin is tuple:
        arguments = typing.get_args(annotation)
        if Ellipsis in arguments:
            return "a list"
        return f"a list of {len(arguments)}, each {_describe_type(arguments[0], [])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    words = names.get(annotation, "a mapping" if is_dict(annotation) else str(annotation))
    bounds = _describe_bounds(metadata) if annotation in (int, float) else ""
    return f"{words}{bounds}"


def _describe_bounds(metadata: list[Any]) -> str:
    phrases = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds: dict[str, str] = {}
    for item in metadata:
        for constraint in getattr(item, "metadata", [item]):
            for attribute, phrase in phrases.items():
                limit = getattr(constraint, attribute, None)
                if limit is not None:
                    bounds[attribute] = f"{phrase} {limit:g}" if limit < 1e9 else f"{phrase} {limit}"
    return f", {' and '.join(bounds.values())}" if bounds else ""
