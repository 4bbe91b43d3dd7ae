"""Reading the config: defaults, then a YAML file, then `section.key=value` from the command line."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from signs_dist.config import Config, Section, flatten, section_of
from signs_dist.config_messages import explain_error, format_value, is_dict, suggest_key
from signs_dist.errors import UserError

DEFAULT_ORIGIN = "default"


class _Loader(yaml.SafeLoader):
    """SafeLoader whose numbers are those of YAML 1.2: `1e-4` is a float, `1:30` and `010` are not odd integers."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] not in ("float", "int", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


@dataclasses.dataclass(frozen=True)
class LoadedConfig:
    """A config, and where each value came from: dotted key → `default`, `file:line` or the command-line argument."""

    config: Config
    origins: dict[str, str]

    def explain(self) -> str:
        """Every value with its origin, a line each, sections in the schema's order."""
        rows = [
            (key, format_value(value), self.origins.get(key, DEFAULT_ORIGIN)) for key, value in flatten(self.config)
        ]
        key_width = max(len(key) for key, _, _ in rows)
        value_width = min(44, max(len(value) for _, value, _ in rows))
        return "\n".join(f"{key:<{key_width}} = {value:<{value_width}}  # {origin}" for key, value, origin in rows)


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a config: defaults < `path` (YAML) < `overrides` (each `section.key=value`, the value in YAML).

    Raises:
        UserError: a file that cannot be read, an unknown key, a wrong type or an impossible combination. The message
            names file and line or the argument, what is legal and the nearest name.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        _read_file(path, values, origins)
    for override in overrides:
        _apply_override(override, values, origins)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        lines = dict.fromkeys(explain_error(dict(item), origins) for item in error.errors())
        raise UserError("\n".join(lines)) from None
    return LoadedConfig(config, origins)


def dump_config(config: Config) -> str:
    """The whole config as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_file(path: Path, values: dict[str, Any], origins: dict[str, str]) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        nearest = _nearest_file(path)
        hint = f" Did you mean {nearest}?" if nearest else ""
        raise UserError(f"--config {path}: no such file.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} cannot be read: {error}") from None
    try:
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}: not valid YAML: {problem}.") from None
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}:1: a config is a mapping such as `train: {{epochs: 10}}`, not a list or a value.")
    _read_mapping(node, Config, "", path, values, origins)


def _read_mapping(
    node: yaml.MappingNode,
    schema: type[Section],
    prefix: str,
    path: Path,
    values: dict[str, Any],
    origins: dict[str, str],
) -> None:
    constructor = _Loader("")
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = str(getattr(key_node, "value", "")), key_node.start_mark.line + 1
        where, dotted = f"{path}:{line}", f"{prefix}{key}"
        if key in seen:
            raise UserError(f"{where}: {dotted} stands here again; it is set in line {seen[key]} already. Keep one.")
        seen[key] = line
        field = _field_of(schema, key, dotted, where)
        section = section_of(field.annotation)
        origins[dotted] = where
        if section is not None and isinstance(value_node, yaml.MappingNode):
            _read_mapping(value_node, section, f"{dotted}.", path, values.setdefault(key, {}), origins)
        elif section is not None and _is_null(value_node):
            continue  # `data:` with everything below it commented out
        else:
            try:
                values[key] = constructor.construct_object(value_node, deep=True)
            except yaml.YAMLError as error:
                raise UserError(f"{where}: {dotted}: {getattr(error, 'problem', None) or error}.") from None


def _apply_override(override: str, values: dict[str, Any], origins: dict[str, str]) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise UserError(f"{override}: an override is written section.key=value, such as optim.lr=0.05.")
    *parents, key = dotted.split(".")
    schema: type[Section] = Config
    target = values
    for depth, name in enumerate(parents):
        field = _field_of(schema, name, ".".join(parents[: depth + 1]), override)
        section = section_of(field.annotation)
        if section is None and is_dict(field.annotation):
            target = _into_dict(target, [*parents[depth:], key])
            break
        if section is None:
            raise UserError(f"{override}: {'.'.join(parents[: depth + 1])} is a value and has no keys below it.")
        schema, target = section, target.setdefault(name, {})
    else:
        field = _field_of(schema, key, dotted, override)
        if section_of(field.annotation) is not None:
            example = next(iter(section_of(field.annotation).model_fields))  # type: ignore[union-attr]
            raise UserError(f"{override}: {dotted} is a section. Set one of its keys, such as {dotted}.{example}=….")
    try:
        target[key] = yaml.load(text, _Loader)  # _Loader is a SafeLoader
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{override}: the value is not valid YAML: {problem}. Quote it if it is text.") from None
    origins[dotted] = override


def _into_dict(target: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The dictionary that holds the last of `names` below `target`, such as model.args for model.args.channels."""
    for name in names[:-1]:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"{'.'.join(names)}: {name} holds {inner!r}, which has no keys below it.")
        target = inner
    return target


def _field_of(schema: type[Section], name: str, dotted: str, where: str) -> Any:
    """The schema's field `name`, or a UserError with the legal names and the nearest."""
    fields = schema.model_fields
    if name in fields:
        return fields[name]
    raise UserError(f"{where}: unknown key {dotted}.{suggest_key(name, dotted, schema)}")


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _nearest_file(path: Path) -> Path | None:
    folder = path.parent if path.parent.is_dir() else Path("configs")
    if not folder.is_dir():
        return None
    near = difflib.get_close_matches(path.name, [file.name for file in sorted(folder.glob("*.y*ml"))], n=1)
    return folder / near[0] if near else None
