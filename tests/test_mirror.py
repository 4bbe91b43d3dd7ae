"""Every module has a test file at the same place below tests/, or is named here with the file that tests it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.test_layers import REPOSITORY, import_graph, imports, name_of

PACKAGES = ("signs_dist", "launch", "slurm", "benchmarks", "examples", "website")

TESTED_ELSEWHERE: dict[str, str] = {
    "benchmarks.allocator": "tests/benchmarks/test_commands.py",
    "benchmarks.augmentation_speed": "tests/benchmarks/test_commands.py",
    "benchmarks.command_account": "tests/benchmarks/test_commands.py",
    "benchmarks.exact_overhead": "tests/benchmarks/test_commands.py",
    "benchmarks.loop_overhead": "tests/benchmarks/test_commands.py",
    "benchmarks.peers.accelerate_loop": "tests/benchmarks/test_whole_commands.py",
    "benchmarks.peers.common": "tests/benchmarks/test_whole_commands.py",
    "benchmarks.peers.lightning_trainer": "tests/benchmarks/test_whole_commands.py",
    "benchmarks.peers.tutorial": "tests/benchmarks/test_whole_commands.py",
    "benchmarks.growth_rank": "tests/benchmarks/test_growth.py",
    "benchmarks.shares_rank": "tests/benchmarks/test_shares.py",
    "benchmarks.jpeg_folder": "tests/benchmarks/test_commands.py",
    "benchmarks.million_files": "tests/benchmarks/test_commands.py",
    "benchmarks.plan_scale": "tests/benchmarks/test_commands.py",
    "benchmarks.predict_speed": "tests/benchmarks/test_commands.py",
    "benchmarks.cached_features": "tests/benchmarks/test_commands.py",
    "benchmarks.prove_cost": "tests/benchmarks/test_commands.py",
    "benchmarks.recipe_curve": "tests/benchmarks/test_commands.py",
    "benchmarks.replay_cost": "tests/benchmarks/test_commands.py",
    "benchmarks.report_opening": "tests/benchmarks/test_commands.py",
    "benchmarks.save_stall": "tests/benchmarks/test_commands.py",
    "benchmarks.shard_optimizer": "tests/benchmarks/test_commands.py",
    "benchmarks.signs_accuracy": "tests/benchmarks/test_commands.py",
    "benchmarks.state_chain": "tests/benchmarks/test_commands.py",
    "benchmarks.start_up": "tests/benchmarks/test_commands.py",
    "benchmarks.waiting_threads": "tests/benchmarks/test_commands.py",
    "examples.own_project.shapes.images": "tests/examples/test_own_project.py",
    "examples.own_project.shapes.network": "tests/examples/test_own_project.py",
    "examples.own_project.shapes.training": "tests/examples/test_own_project.py",
    "launch.request": "tests/launch/test_check.py",
    "launch.schedulers": "tests/launch/schedulers/test_table.py",
    "signs_dist": "tests/test_public_api.py",
    "signs_dist.config.learning_settings": "tests/config/test_settings.py",
    "signs_dist.config.section": "tests/config/test_settings.py",
    "signs_dist.data.hands.anatomy": "tests/data/hands/test_pose.py",
    "signs_dist.data.other_sources": "tests/data/shards/test_opening.py",
    "signs_dist.proving.starting": "tests/proving/test_training_again.py",
    "signs_dist.diverging.comparison": "tests/test_diverge.py",
    "signs_dist.exporting.formats": "tests/test_export.py",
    "signs_dist.exporting.onnx_file": "tests/test_export.py",
    "signs_dist.exporting.torch_file": "tests/test_export.py",
    "signs_dist.replaying.scope": "tests/replaying/test_command.py",
    "signs_dist.health.connections": "tests/test_doctor.py",
    "signs_dist.health.examination": "tests/test_doctor.py",
    "signs_dist.reporting.cells": "tests/reporting/test_comparison_page.py",
    "signs_dist.results.overview": "tests/test_runs.py",
    "signs_dist.searching.flags": "tests/test_sweep.py",
    "signs_dist.searching.planning": "tests/searching/test_sweep_folder.py",
    "signs_dist.searching.record": "tests/searching/test_sweep_folder.py",
    "signs_dist.searching.sources": "tests/searching/test_runner.py",
    "signs_dist.searching.submission": "tests/launch/test_array.py",
    "signs_dist.searching.training": "tests/test_sweep.py",
    "signs_dist.tracking.mlflow": "tests/end_to_end/test_dashboards.py",
    "signs_dist.tracking.tensorboard": "tests/end_to_end/test_dashboards.py",
    "signs_dist.tracking.trackio": "tests/end_to_end/test_dashboards.py",
    "signs_dist.tracking.wandb": "tests/end_to_end/test_dashboards.py",
    "signs_dist.train": "tests/training/test_run.py",
    "signs_dist.training.image_preparer": "tests/data/test_augment.py",
    "signs_dist.training.loop": "tests/distributed/test_step_sync.py",
    "signs_dist.training.step_parts": "tests/training/test_stepper.py",
    "website.conf": "tests/website/test_build.py",
}
"""Module → the test file that covers it. Remove the entry when the module gets a test file of its own."""


def modules() -> dict[str, Path]:
    """The modules that define a function or a class, by name."""
    files = [file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")]
    return {name_of(file): file for file in files if _defines_something(file.read_text(encoding="utf-8"))}


def _defines_something(source: str) -> bool:
    return re.search(r"^(async )?(def|class) \w", source, re.MULTILINE) is not None


def mirrored(file: Path) -> Path:
    """signs_dist/data/plan.py → tests/data/test_plan.py; launch/job.py → tests/launch/test_job.py."""
    place = file.relative_to(REPOSITORY)
    parts = place.parts[1:] if place.parts[0] == "signs_dist" else place.parts
    return REPOSITORY.joinpath("tests", *parts[:-1], f"test_{place.name}")


def names(source: str, module: str) -> bool:
    """Whether a test's source imports a module, or has its name or its path in the text."""
    path = f"{module.replace('.', '/')}.py"
    is_in_text = re.search(rf"(?<![\w.]){re.escape(module)}(?!\w)", source) is not None or path in source
    return is_in_text or module in imports(source)


def users_of(module: str, graph: Mapping[str, set[str]]) -> set[str]:
    """The module, and all modules that import it, directly or through others."""
    users, found = set(), {module}
    while found:
        users |= found
        found = {name for name, imported in graph.items() if imported & found} - users
    return users


MODULES = modules()


def test_every_module_has_a_test_file() -> None:
    assert [complaint for module in sorted(MODULES) if (complaint := find_untested(module))] == []


def find_untested(module: str) -> str:
    """What is missing of the test of a module; "" if nothing is."""
    own = mirrored(MODULES[module])
    place = own.relative_to(REPOSITORY)
    if own.exists() and module in TESTED_ELSEWHERE:
        return f"{place} exists: remove {module} from TESTED_ELSEWHERE"
    if not own.exists() and module not in TESTED_ELSEWHERE:
        return f"write {place}, or add {module} to TESTED_ELSEWHERE"
    test_file = REPOSITORY / TESTED_ELSEWHERE.get(module, str(place))
    source = test_file.read_text(encoding="utf-8")
    is_used = any(names(source, user) for user in users_of(module, import_graph()))
    return "" if is_used else f"{test_file} does not use {module}"


def test_no_entry_is_of_a_module_that_is_gone() -> None:
    assert sorted(TESTED_ELSEWHERE.keys() - MODULES.keys()) == []


@pytest.mark.parametrize(
    ("source", "is_named"),
    [
        ("from signs_dist.data.build import build", True),
        ("from signs_dist.data import build as build_module", True),
        ("import signs_dist.data.build", True),
        ("command = ['-m', 'signs_dist.data.build']", True),
        ("path = 'signs_dist/data/build.py'", True),
        ("from signs_dist.data.build_plan import plan_images", False),
        ("from signs_dist.data import builds", False),
    ],
)
def test_what_names_a_module(source: str, is_named: bool) -> None:
    assert names(source, "signs_dist.data.build") == is_named


def test_users_of_a_module_are_found_through_others() -> None:
    graph = {"train": {"run"}, "run": {"banner"}, "banner": set(), "drill": {"killing"}, "killing": set()}
    assert users_of("banner", graph) == {"banner", "run", "train"}
