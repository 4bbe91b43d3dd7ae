"""Reading the config: defaults, then a YAML file, then `section.key=value` from the command line."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from signs_dist.config.explaining import explain_settings
from signs_dist.config.file_text import is_lost_pipe, read_config_text
from signs_dist.config.messages import (
    describe_setting,
    explain_error,
    explain_malformed,
    is_dict,
    shortened,
    suggest_key,
)
from signs_dist.config.section import Section, flatten, section_of
from signs_dist.config.settings import AS_SAVED, Config
from signs_dist.config.unread import left_by_overrides
from signs_dist.config.yaml_text import (
    construct,
    format_mapping,
    format_value,
    is_null,
    kept_part,
    line_of,
    read_key,
    read_tree,
)
from signs_dist.errors import UserError, in_python_words, require_kind


@dataclasses.dataclass(frozen=True)
class LoadedConfig:
    """A config, and where each value came from: dotted key → `file:line` or the command-line argument."""

    config: Config
    origins: dict[str, str]

    def explain(self) -> str:
        """Every setting with its value, its origin and its docstring, as `--explain` prints them."""
        return explain_settings(self.config, self.origins)


@in_python_words()
def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a config: defaults < `path` (YAML) < `overrides` (each `section.key=value`, the value in YAML).

    Args:
        path: a YAML file; None: defaults only.
        overrides: settings that override the file.

    Raises:
        UserError: a file that cannot be read, an unknown key, a wrong type or an impossible combination. The message
            names file and line or the argument, what is legal and the nearest name.

    Example:
        >>> import signs_dist as sd
        >>> config = sd.load_config("configs/signs.yaml", ["optim.lr=0.05"])
        >>> config.optim.lr, config.model.name
        (0.05, 'signs_fast')
    """
    example = 'load_config("configs/signs.yaml", ["optim.lr=0.05"])'
    require_kind("path", path, (str, Path, type(None)), example)
    require_kind("overrides", overrides, (list, tuple), example)
    for override in overrides:
        require_kind("override", override, str, example)
    return read_config(path, overrides).config


def load_saved_config(path: Path) -> Config:
    """Read the config.yaml of a run, as `load_config` does. Settings that nothing reads are no mistake: an earlier
    release may have let them pass, and the run is trained.

    Raises:
        UserError: as `load_config`.
    """
    return read_config(path, is_saved=True).config


def read_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), *, is_saved: bool = False
) -> LoadedConfig:
    """Read a config as `load_config` does, with the origin of each setting; `is_saved`: as `load_saved_config`."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if path is not None:
        path = Path(path)
        node = _read_file(path, "--config")
        if node is not None:
            _read_section(node, Config, "", path, values, origins)
    of_file = dict(origins)
    for override in overrides:
        _apply_override(override, values, origins)
    if is_saved:
        return LoadedConfig(_validated(values, origins, AS_SAVED), origins)
    if overrides and of_file:
        typed = {name for name, origin in origins.items() if of_file.get(name) != origin}
        for name in left_by_overrides(_validated(values, origins, AS_SAVED), typed):
            _delete(name, values, origins)
    return LoadedConfig(_validated(values, origins, None), origins)


def _validated(values: dict[str, Any], origins: dict[str, str], context: dict[str, bool] | None) -> Config:
    try:
        return Config.model_validate(values, context=context)
    except ValidationError as error:
        lines = dict.fromkeys(explain_error(dict(item), origins) for item in error.errors())
        raise UserError("\n".join(lines)) from None


def _delete(dotted: str, values: dict[str, Any], origins: dict[str, str]) -> None:
    """Let a setting have its default."""
    *parents, key = dotted.split(".")
    for name in parents:
        values = values[name]
    del values[key]
    for name in [name for name in origins if name == dotted or name.startswith(f"{dotted}.")]:
        del origins[name]


ARITHMETIC = "arithmetic"
"""The name by which --accept-change accepts, in exact mode, a machine that computes other bits."""
SUSPECTS = "suspects"
"""The name by which --accept-change accepts states that were saved before faulty hardware was found."""


def accepted_names(texts: Sequence[str]) -> frozenset[str]:
    """The names in the values of `--accept-change`. Each value is a list of names with commas between them.

    Raises:
        UserError: a name is neither a setting nor a section.
    """
    names = frozenset(name.strip() for text in texts for name in text.split(",") if name.strip())
    known = {name for name, _ in flatten(Config())}
    known |= {name.split(".")[0] for name in known} | {ARITHMETIC, SUSPECTS}
    for name in sorted(names - known):
        raise UserError(
            f"--accept-change {name}: no such setting. Give a setting such as train.epochs, or data, {ARITHMETIC} or "
            f"{SUSPECTS}."
        )
    return names


def dump_config(config: Config) -> str:
    """All settings as YAML that `load_config` reads back to an equal value."""
    return format_mapping(config.model_dump())


def read_flat(path: Path, flag: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a YAML file without sections, and where each is set (`file:line`).

    Args:
        path: the file.
        flag: the command's flag that named the file, for messages.

    Raises:
        UserError: the file does not exist, is not YAML, holds no mapping, or gives a key twice.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    node = _read_file(path, flag)
    seen: dict[str, int] = {}
    for key_node, value_node in node.value if node is not None else ():
        key = _read_key(key_node, seen, "", path)
        origins[key] = f"{path}:{line_of(key_node)}"
        values[key] = construct(value_node, f"{origins[key]}: {key}")
    return values, origins


Place = tuple[str, ...]
"""The keys that lead to a value of a file of mappings in mappings, such as ("space", "optim.lr")."""


def read_nested(path: Path, flag: str) -> tuple[dict[str, Any], dict[Place, str]]:
    """The values of a YAML file whose keys may hold dots, and where each key is (`file:line`), at every depth.

    Args:
        path: the file.
        flag: the command's flag that named the file, for messages.

    Raises:
        UserError: as `read_flat`.
    """
    origins: dict[Place, str] = {}
    node = _read_file(path, flag)
    return (_read_mapping(node, path, (), origins) if node is not None else {}), origins


def _read_mapping(node: yaml.MappingNode, path: Path, place: Place, origins: dict[Place, str]) -> dict[str, Any]:
    """The values of a mapping; `origins` gets the places of its keys and of all keys below them."""
    values: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key = _read_key(key_node, seen, "", path)
        inner = (*place, key)
        origins[inner] = f"{path}:{line_of(key_node)}"
        if isinstance(value_node, yaml.MappingNode):
            values[key] = _read_mapping(value_node, path, inner, origins)
        else:
            values[key] = construct(value_node, f"{origins[inner]}: {key}")
    return values


def _read_file(path: Path, flag: str) -> yaml.MappingNode | None:
    """The mapping that a file holds; None for an empty file. Raises `UserError`."""
    try:
        text = read_config_text(path)
    except FileNotFoundError:
        if is_lost_pipe(path):
            raise UserError(
                f"{flag} {path} is a pipe of the shell, which the processes of a launcher do not get. Write it to a "
                f"file, and name the file."
            ) from None
        nearest = _nearest_file(path)
        hint = f" Did you mean {nearest}?" if nearest else ""
        raise UserError(f"{flag} {path}: no such file.{hint}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text ({error.reason}). Save the file as UTF-8.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{flag} {path} cannot be read: {reason}. Give a YAML file.") from None
    node = read_tree(text, str(path))
    if node is None or is_null(node):
        return None
    if not isinstance(node, yaml.MappingNode):
        wanted = "a config is a mapping such as `train: {epochs: 10}`"
        if flag == "--file":
            wanted = "a sweep is a mapping such as `space: {optim.lr: [0.1, 0.03]}`"
        elif flag != "--config":
            wanted = "settings are a mapping such as `partition: gpu`"
        raise UserError(f"{path}:1: {wanted}, not a list or a value.")
    return node


def _read_section(
    node: yaml.MappingNode,
    schema: type[Section],
    prefix: str,
    path: Path,
    values: dict[str, Any],
    origins: dict[str, str],
) -> None:
    """Add the settings below a section's node to `values`, and where each is set to `origins`."""
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        where = f"{path}:{line_of(key_node)}"
        key = _read_key(key_node, seen, prefix, path)
        dotted = f"{prefix}{key}"
        section = section_of(_field_of(schema, key, dotted, where).annotation)
        if section is None:
            origins[dotted] = where
            values[key] = construct(value_node, f"{where}: {dotted}")
        elif isinstance(value_node, yaml.MappingNode):
            _read_section(value_node, section, f"{dotted}.", path, values.setdefault(key, {}), origins)
        elif not is_null(value_node):  # null is `data:` with everything below it commented out
            example = next(iter(section.model_fields))
            raise UserError(f"{where}: {dotted} is a section: write its keys below it, such as `{example}: …`.")


def _read_key(node: yaml.Node, seen: dict[str, int], prefix: str, path: Path) -> str:
    try:
        return read_key(node, seen)
    except UserError as error:
        raise UserError(f"{path}:{line_of(node)}: {prefix}{error}") from None


def _apply_override(override: str, values: dict[str, Any], origins: dict[str, str]) -> None:
    """Put the value of `section.key=value` into `values`, and the argument into `origins`."""
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")) or dotted != dotted.strip():
        raise UserError(f"{shortened(override)}: {explain_malformed(override)}")
    override = shortened(override)
    target, key = _find_target(dotted, values, override)
    target[key] = _read_value(text, dotted, override)
    for covered in [name for name in origins if name == dotted or name.startswith(f"{dotted}.")]:
        del origins[covered]
    origins[dotted] = override


def _find_target(dotted: str, values: dict[str, Any], override: str) -> tuple[dict[str, Any], str]:
    """The dictionary within `values` that holds a setting, made if it is missing, and the setting's key in it."""
    *parents, key = dotted.split(".")
    schema: type[Section] = Config
    target = values
    for depth, name in enumerate(parents):
        below = ".".join([*parents[depth + 1 :], key])
        annotation = _field_of(schema, name, ".".join(parents[: depth + 1]), override, below).annotation
        section = section_of(annotation)
        if section is None and is_dict(annotation):
            return _into_dict(target, [*parents[depth:], key], override), key
        if section is None:
            raise UserError(f"{override}: {'.'.join(parents[: depth + 1])} is a value and has no keys below it.")
        schema, target = section, target.setdefault(name, {})
    section = section_of(_field_of(schema, key, dotted, override).annotation)
    if section is not None:
        example = next(iter(section.model_fields))
        raise UserError(f"{override}: {dotted} is a section. Set one of its keys, such as {dotted}.{example}=….")
    return target, key


def _read_value(text: str, dotted: str, override: str) -> Any:
    """The value of an override. Raises `UserError` if it is empty, or if YAML would ignore a part of it."""
    node = read_tree(text, override)
    if node is None:
        raise UserError(f"{override}: there is no value. It takes {describe_setting(dotted)}.")
    kept = kept_part(node, text)
    if kept is not None:
        raise UserError(f"{override}: YAML reads only {kept!r} of it. Quote it for the shell and for YAML.")
    return construct(node, override)


def _into_dict(target: dict[str, Any], names: list[str], override: str) -> dict[str, Any]:
    """The dictionary that holds the last of `names` below `target`, such as model.args for model.args.channels."""
    for name in names[:-1]:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"{override}: {name} holds {format_value(inner)}, which has no keys below it.")
        target = inner
    return target


def _field_of(schema: type[Section], name: str, dotted: str, where: str, below: str = "") -> Any:
    """The schema's field `name`; `below` as in `suggest_key`. Raises `UserError` with legal names and the nearest."""
    fields = schema.model_fields
    if name in fields:
        return fields[name]
    raise UserError(f"{where}: unknown key {dotted}.{suggest_key(name, dotted, schema, below)}")


def _nearest_file(path: Path) -> Path | None:
    folder = path.parent if path.parent.is_dir() else Path("configs")
    if not folder.is_dir():
        return None
    near = difflib.get_close_matches(path.name, [file.name for file in sorted(folder.glob("*.y*ml"))], n=1)
    return folder / near[0] if near else None
