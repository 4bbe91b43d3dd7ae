"""Reading the settings of a cluster: a site's file in configs/cluster/, and flags that win over it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from signs_dist.config.messages import describe_field, find_setting
from signs_dist.config.reading import read_flat
from signs_dist.config.settings import Config
from signs_dist.config.yaml_text import format_value
from signs_dist.errors import UserError

from .cluster import ClusterConfig
from .request import CLUSTERS
from .schedulers import SCHEDULERS


def load_cluster(name: str, flags: Mapping[str, Any]) -> ClusterConfig:
    """The settings of a cluster: a person's variables for its scheduler, a file, and flags; the later win.

    Args:
        name: a scheduler's name; a file; or the name of a file in configs/cluster/.
        flags: values by the names of `ClusterConfig`; None for a flag that was not given. `extra` adds to the file's.

    Raises:
        UserError: no such cluster, an unknown setting, or a value that is not legal.
    """
    values, origins = _read_file(name)
    if (scheduler := SCHEDULERS.get(str(values.get("kind", "slurm")))) is not None:
        for setting, (value, variable) in scheduler.read_defaults(os.environ).items():
            values.setdefault(setting, value)
            origins.setdefault(setting, variable)
    given = {key: value for key, value in flags.items() if value is not None}
    if "extra" in given and isinstance(values.get("extra"), dict):
        given["extra"] = values["extra"] | given["extra"]
    try:
        cluster = ClusterConfig.model_validate(values | given)
        _check_kind(cluster)
    except ValidationError as error:
        raise UserError("\n".join(_explain(dict(item), origins, given) for item in error.errors())) from None
    except ValueError as error:
        raise UserError(_explain_value(str(error), origins, given)) from None
    return cluster


def _check_kind(cluster: ClusterConfig) -> None:
    """Raise ValueError for an unknown scheduler, and for settings that the scheduler cannot follow."""
    if cluster.kind not in SCHEDULERS:
        raise ValueError(f"kind={cluster.kind}: type one of {', '.join(SCHEDULERS)}")
    SCHEDULERS[cluster.kind].check_settings(cluster)


def _read_file(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a cluster, and the file and line of each."""
    if name in SCHEDULERS:
        return {"kind": name}, {}
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    path = Path(name) if is_path else CLUSTERS / f"{name}.yaml"
    if not path.exists():
        known = [*SCHEDULERS, *sorted(file.stem for file in CLUSTERS.glob("*.yaml"))]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        place = path if is_path else f"{path} in {Path.cwd()}"
        legal = f"It is one of {', '.join(known)}, or a YAML file."
        raise UserError(f"--cluster {name}: there is no {place}.{hint} {legal}")
    return read_flat(path, "--cluster")


def _explain(item: dict[str, Any], origins: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors: where it was set, what was given, what is legal."""
    key = str(item["loc"][0]) if item["loc"] else ""
    flag = f"--{key.replace('_', '-')}"
    where = flag if key in given else f"{origins[key]}: {key}" if key in origins else key
    if item["type"] == "extra_forbidden":
        return f"{origins.get(key, flag)}: {_explain_unknown(key)}"
    if item["type"] == "value_error":
        return _explain_value(str(item["msg"]).removeprefix("Value error, "), origins, given)
    legal = describe_field(ClusterConfig.model_fields[key])
    inner = f" {item['loc'][1]}:" if len(item["loc"]) > 1 else ""
    return f"{where}:{inner} {format_value(item.get('input'))} is not legal. It takes {legal}."


def _explain_value(message: str, origins: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """A message that begins with `setting=value`, as in a file: with the flag instead, or with the file and line."""
    name, _, rest = message.partition("=")
    if name in given:
        return f"--{name.replace('_', '-')} {rest}."
    # The setting may be a default that does not go together with one that was set.
    settings = re.findall(r"(?:^| with )([a-z_]+)=", message)
    origin = next((origins[each] for each in settings if each in origins and each not in given), None)
    return f"{message}." if origin is None else f"{origin}: {message}."


def _explain_unknown(key: str) -> str:
    legal = list(ClusterConfig.model_fields)
    is_section = key in Config.model_fields
    near = [] if is_section else difflib.get_close_matches(key, legal, n=1)
    setting = key if is_section else find_setting(key, cutoff=0.9)
    if setting and not near:
        return (
            f"{key} is a setting of training, not of the cluster. Put {setting} into the run's config, or type it "
            f"after --"
        )
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown setting {key}.{hint} Legal: {', '.join(legal)}; other parameters of sbatch go into extra."
