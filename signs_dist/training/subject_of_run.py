"""What an exact run trains, as digests: its config, the contents of its data, and its code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import signs_dist
from signs_dist.checkpointing.resume_rules import settings_of_result
from signs_dist.config.dotted_names import is_dotted, module_of
from signs_dist.config.section import flatten
from signs_dist.config.settings import Config
from signs_dist.data.contents import contents_sha256
from signs_dist.run_folder.code_files import files_behind, toolkit_files
from signs_dist.run_folder.subject import Subject, code_sha256, config_sha256, data_sha256
from signs_dist.training.prepare import Prepared
from signs_dist.training.process import Process

SETTINGS_OF_VALIDATION = ("evaluate.batch", "evaluate.metrics")
"""Settings that change no weights, but the numbers of validations, which the chain covers."""


def find_subject(prepared: Prepared, process: Process) -> Subject:
    """What a run trains. With data.storage=files the photos are read, which is shown while it lasts.

    Args:
        prepared: the parts of the run; the user's own code that its config names was imported.
        process: where this process runs.

    Raises:
        UserError: a photo cannot be read.
    """
    contents = dict(prepared.fingerprints)
    if prepared.config.data.storage == "files":
        with process.screen.preparing() as report, prepared.data.inspection_advised():
            cores, cache = process.context.cores_per_process, Path(prepared.config.data.cache)
            contents = {
                name: contents_sha256(index, num_threads=cores, report=report, cache=cache)
                for name, index in prepared.data.splits.items()
            }
    return Subject(
        config=config_sha256(_settings(prepared)),
        data=data_sha256(contents),
        code=code_sha256(code_files(prepared.config, sys.modules)),
    )


def _settings(prepared: Prepared) -> dict[str, Any]:
    """The settings that change weights or numbers, with what this machine chose for those that are `auto`."""
    defaults, config = dict(flatten(Config())), dict(flatten(prepared.config))
    of_validation = {name: config[name] for name in SETTINGS_OF_VALIDATION if config[name] != defaults[name]}
    chosen = {"train.precision": prepared.precision.name, "train.micro_batch": prepared.plan.micro_batches.size}
    return {**settings_of_result(prepared.config), **of_validation, **chosen}


def code_files(config: Config, modules: Mapping[str, ModuleType]) -> dict[str, str]:
    """Module → SHA-256 of its source: all of the toolkit, and the user's own code that changes weights or numbers.

    Args:
        config: names the user's own code.
        modules: name → module, such as `sys.modules`.
    """
    named = (config.model.name, config.loss.name, config.optim.name, config.schedule.name, config.augment.backend)
    own = [module_of(name) for name in (*named, *config.evaluate.metrics) if is_dotted(name)]
    return {**toolkit_files(Path(signs_dist.__file__).parent), **files_behind(own, modules)}
