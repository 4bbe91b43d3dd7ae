"""Reading the config: defaults, then a YAML file, then `section.key=value` from the command line."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from signs_dist.config.messages import (
    ConfigDumper,
    PlainLoader,
    explain_error,
    format_value,
    is_dict,
    shortened,
    suggest_key,
)
from signs_dist.config.settings import Config, Section, flatten, section_of
from signs_dist.errors import UserError

DEFAULT_ORIGIN = "default"


PLAIN_TAGS = ("str", "int", "float", "bool", "null", "seq", "map")
MAX_DEPTH = 32
MAX_VALUES = 10_000
"""What a config may hold after its aliases are written out: no real one comes near, and no trick gets past."""


class _Loader(PlainLoader):
    """Refuses keys that stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            try:
                _check_key(key_node, seen)
            except UserError as error:
                raise yaml.constructor.ConstructorError(problem=str(error).rstrip(".")) from None
        return super().construct_mapping(node, deep=deep)


@dataclasses.dataclass(frozen=True)
class LoadedConfig:
    """A config, and where each value came from: dotted key → `default`, `file:line` or the command-line argument."""

    config: Config
    origins: dict[str, str]

    def explain(self) -> str:
        """Every value with its origin, a line each, sections in the schema's order."""
        rows = [(key, format_value(value), self._origin(key)) for key, value in flatten(self.config)]
        key_width = max(len(key) for key, _, _ in rows)
        value_width = min(44, max(len(value) for _, value, _ in rows))
        return "\n".join(f"{key:<{key_width}} = {value:<{value_width}}  # {origin}" for key, value, origin in rows)

    def _origin(self, dotted: str) -> str:
        """Where a value is from; a mapping such as model.args can be from several places."""
        found = [place for key, place in self.origins.items() if key == dotted or key.startswith(f"{dotted}.")]
        return ", ".join(dict.fromkeys(found)) or DEFAULT_ORIGIN


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


def accepted_names(texts: Sequence[str]) -> frozenset[str]:
    """The names in the values of `--accept-change`, each a list separated by commas.

    Raises:
        UserError: there is no such setting or section.
    """
    names = frozenset(name.strip() for text in texts for name in text.split(",") if name.strip())
    known = {name for name, _ in flatten(Config())}
    known |= {name.split(".")[0] for name in known}
    for name in sorted(names - known):
        raise UserError(f"--accept-change {name}: no such setting. It takes names such as train.epochs, or data.")
    return names


def dump_config(config: Config) -> str:
    """The whole config as YAML that `load_config` reads back to an equal value."""
    values = _lists_for_tuples(config.model_dump())
    return yaml.dump(values, Dumper=ConfigDumper, sort_keys=False, allow_unicode=True)


def _lists_for_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists_for_tuples(inner) for key, inner in value.items()}
    return [_lists_for_tuples(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_flat(path: Path, flag: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a YAML file without sections, and where each stands (`file:line`).

    Raises:
        UserError: no such file, no YAML, no mapping, or a key that stands twice.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    node = _read_tree(path, flag)
    seen: dict[str, int] = {}
    for key_node, value_node in node.value if node is not None else ():
        where = f"{path}:{key_node.start_mark.line + 1}"
        try:
            key = _check_key(key_node, seen)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        values[key], origins[key] = _construct(value_node, f"{where}: {key}"), where
    return values, origins


def _read_file(path: Path, values: dict[str, Any], origins: dict[str, str]) -> None:
    node = _read_tree(path, "--config")
    if node is not None:
        _read_mapping(node, Config, "", path, values, origins)


def _read_tree(path: Path, flag: str) -> yaml.MappingNode | None:
    """The mapping that a file holds; None for an empty one. Raises `UserError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        nearest = _nearest_file(path)
        hint = f" Did you mean {nearest}?" if nearest else ""
        raise UserError(f"{flag} {path}: no such file.{hint}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8 text ({error.reason}). Save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{flag} {path} cannot be read: {error.strerror}. Give a YAML file.") from None
    node = _compose(text, str(path))
    if node is None or _is_null(node):
        return None
    if not isinstance(node, yaml.MappingNode):
        wanted = "a config is a mapping such as `train: {epochs: 10}`"
        if flag != "--config":
            wanted = "settings are a mapping such as `partition: gpu`"
        raise UserError(f"{path}:1: {wanted}, not a list or a value.")
    return node


def _compose(text: str, name: str) -> yaml.Node | None:
    """The YAML tree of a file or an override, or a UserError that begins with its name (and line)."""
    try:
        node = yaml.compose(text, _Loader)
        if node is not None:
            _measure(node, {}, 1)
    except RecursionError:
        raise UserError(f"{name}: nested too deeply; {MAX_DEPTH} levels are legal.") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problem = f"the character #x{ord(text[error.position]):04x} is not allowed"
        raise UserError(f"{name}:{line}: not valid YAML: {problem}. Drop it.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}.") from None
    return node


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """(values, levels) of a tree with its aliases written out; refuses too many, and a tree that contains itself."""
    if depth > MAX_DEPTH:
        raise yaml.composer.ComposerError(problem=f"nested too deeply; {MAX_DEPTH} levels are legal")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        measures = [_measure(part, known, depth + 1) for part in inner]
        values, levels = 1 + sum(size for size, _ in measures), 1 + max((levels for _, levels in measures), default=0)
        if values > MAX_VALUES or levels > MAX_DEPTH:
            limits = f"{MAX_VALUES:,} values in {MAX_DEPTH} levels are legal"
            raise yaml.composer.ComposerError(problem=f"too large with its aliases written out; {limits}")
        known[id(node)] = values, levels
    return known[id(node)]


def _construct(node: yaml.Node, where: str) -> Any:
    """The plain value of a tree: text, numbers, true, false, null, lists and mappings of these."""
    foreign = next((part.tag for part in _walk(node) if part.tag.rsplit(":", 1)[-1] not in PLAIN_TAGS), None)
    if foreign is not None:
        raise UserError(f"{where}: the tag {foreign} is not read. A config holds plain values; drop the tag.")
    try:
        return _Loader("").construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}.") from None
    except ValueError as error:  # `!!int x`, or a number of thousands of digits
        raise UserError(f"{where}: {error}.") from None


def _walk(node: yaml.Node) -> Iterator[yaml.Node]:
    yield node
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        for inner in part if isinstance(part, tuple) else (part,):
            yield from _walk(inner)


def _read_mapping(
    node: yaml.MappingNode,
    schema: type[Section],
    prefix: str,
    path: Path,
    values: dict[str, Any],
    origins: dict[str, str],
) -> None:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        where = f"{path}:{line}"
        try:
            key = _check_key(key_node, seen)
        except UserError as error:
            raise UserError(f"{where}: {prefix}{error}") from None
        dotted = f"{prefix}{key}"
        field = _field_of(schema, key, dotted, where)
        section = section_of(field.annotation)
        if section is None:
            origins[dotted] = where
            values[key] = _construct(value_node, f"{where}: {dotted}")
        elif isinstance(value_node, yaml.MappingNode):
            _read_mapping(value_node, section, f"{dotted}.", path, values.setdefault(key, {}), origins)
        elif not _is_null(value_node):  # null is `data:` with everything below it commented out
            example = next(iter(section.model_fields))
            raise UserError(f"{where}: {dotted} is a section: its keys stand below it, such as `{example}: …`.")


def _check_key(node: yaml.Node, seen: dict[str, int]) -> str:
    """The text of a mapping's key, which is added to `seen` (key → line); merge keys and doubled ones are refused."""
    if not isinstance(node, yaml.ScalarNode):
        raise UserError("a key is a word, not a list or a mapping.")
    key = str(node.value)
    if key == "<<":
        raise UserError("<<: merge keys are not read. Write the settings out.")
    if key in seen:
        raise UserError(f"{key} stands here again; it is set in line {seen[key]} already. Keep one.")
    seen[key] = node.start_mark.line + 1
    return key


def _apply_override(override: str, values: dict[str, Any], origins: dict[str, str]) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")):
        raise UserError(f"{shortened(override)}: a setting is written section.key=value, such as optim.lr=0.05.")
    override = shortened(override)
    *parents, key = dotted.split(".")
    schema: type[Section] = Config
    target = values
    for depth, name in enumerate(parents):
        field = _field_of(schema, name, ".".join(parents[: depth + 1]), override)
        section = section_of(field.annotation)
        if section is None and is_dict(field.annotation):
            target = _into_dict(target, [*parents[depth:], key], override)
            break
        if section is None:
            raise UserError(f"{override}: {'.'.join(parents[: depth + 1])} is a value and has no keys below it.")
        schema, target = section, target.setdefault(name, {})
    else:
        field = _field_of(schema, key, dotted, override)
        if section_of(field.annotation) is not None:
            example = next(iter(section_of(field.annotation).model_fields))  # type: ignore[union-attr]
            raise UserError(f"{override}: {dotted} is a section. Set one of its keys, such as {dotted}.{example}=….")
    target[key] = _read_value(text, dotted, override)
    for covered in [name for name in origins if name == dotted or name.startswith(f"{dotted}.")]:
        del origins[covered]
    origins[dotted] = override


def _read_value(text: str, dotted: str, override: str) -> Any:
    """The value of an override; what YAML would silently drop from it is refused."""
    node = _compose(text, override)
    if node is None:
        raise UserError(f"{override}: there is no value. Type {dotted}=null for none, or {dotted}='' for empty text.")
    is_bare = isinstance(node, yaml.ScalarNode) and not node.style and not text.lstrip().startswith(("!", "&"))
    if is_bare and node.value != text.strip():
        raise UserError(f"{override}: YAML reads only {node.value!r} of it. Quote it for the shell and for YAML.")
    return _construct(node, override)


def _into_dict(target: dict[str, Any], names: list[str], override: str) -> dict[str, Any]:
    """The dictionary that holds the last of `names` below `target`, such as model.args for model.args.channels."""
    for name in names[:-1]:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"{override}: {name} holds {format_value(inner)}, which has no keys below it.")
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
