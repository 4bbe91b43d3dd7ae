"""The layers of the house, read from the imports: a file imports only from layers at or below its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

LAYERS: dict[str, int] = {
    # L0: what a run is, what it leaves on disk, what a person sees. No torch.
    "signs_dist": 0,
    "signs_dist.errors": 0,
    "signs_dist.files": 0,
    "signs_dist.config": 0,
    "signs_dist.config_messages": 0,
    "signs_dist.config_source": 0,
    "signs_dist.context": 0,
    "signs_dist.cores": 0,
    "signs_dist.devices": 0,
    "signs_dist.rundir": 0,
    "signs_dist.console": 0,
    "signs_dist.command": 0,
    "signs_dist.interrupt": 0,
    "signs_dist.heartbeat": 0,
    "signs_dist.failure": 0,
    "signs_dist.lease": 0,
    "signs_dist.samples": 0,
    "signs_dist.digest": 0,
    "signs_dist.meeting": 0,
    # L1: images, networks, numbers.
    "signs_dist.data": 1,
    "signs_dist.models": 1,
    "signs_dist.losses": 1,
    "signs_dist.optim": 1,
    "signs_dist.quick_start": 1,
    "signs_dist.schedule": 1,
    "signs_dist.ema": 1,
    "signs_dist.metrics": 1,
    "signs_dist.precision": 1,
    # L2: how processes share a run, what they save.
    "signs_dist.group": 2,
    "signs_dist.exact": 2,
    "signs_dist.sync": 2,
    "signs_dist.strategy": 2,
    "signs_dist.saved": 2,
    "signs_dist.store": 2,
    # L3: the five steps of training.
    "signs_dist.loop": 3,
    # L4: entry points and what they share.
    "signs_dist.report": 4,
    "signs_dist.resume": 4,
    "signs_dist.attempt": 4,
    "signs_dist.checkpoint": 4,
    "signs_dist.drill": 4,
    "signs_dist.subprocesses": 0,
    "signs_dist.supervise": 4,
    "signs_dist.run": 4,
    "signs_dist.trainer": 4,
    "signs_dist.trained": 4,
    "signs_dist.train": 4,
    "signs_dist.evaluate": 4,
    "signs_dist.predict": 4,
    "signs_dist.parity": 4,
    "signs_dist.cli": 4,
    "signs_dist.__main__": 4,
    # L5: how a run starts.
    "launch": 5,
    "slurm": 5,
}

SINGLE_PLACES = {
    "torch.distributed": {"signs_dist.group"},
    "submitit": {"launch"},
}
"""Modules that only these files may import."""


def modules() -> dict[str, Path]:
    files = [file for package in ("signs_dist", "launch") for file in (REPOSITORY / package).rglob("*.py")]
    return {name_of(file): file for file in files}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def layer_of(module: str) -> int | None:
    parts = module.split(".")
    candidates = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    found = next((name for name in candidates if name in LAYERS), None)
    # `signs_dist` itself holds the version only; a file below it that is not listed has no layer yet.
    return None if found in (None, "signs_dist") and module != "signs_dist" else LAYERS[str(found)]


def imports(source: str) -> Iterator[str]:
    """Full names that a file imports, those inside functions included, those for type checking left out."""
    for node in _running_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _running_nodes(node)


def violations(module: str, source: str) -> list[str]:
    own = layer_of(module)
    if own is None:
        return [f"{module} has no layer: add it to LAYERS"]
    found = []
    for imported in imports(source):
        layer = layer_of(imported) if imported.split(".")[0] in ("signs_dist", "launch") else None
        if layer is not None and layer > own:
            found.append(f"{module} (L{own}) imports {imported} (L{layer})")
        if own == 0 and imported.split(".")[0] in ("torch", "torchvision"):
            found.append(f"{module} (L0) imports {imported}")
        for name, homes in SINGLE_PLACES.items():
            is_import_of_it = imported == name or imported.startswith(f"{name}.")
            if is_import_of_it and module not in homes and module.split(".")[0] not in homes:
                found.append(f"{module} imports {imported}, which only {', '.join(homes)} may")
    return found


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_only_from_below(module: str) -> None:
    assert violations(module, modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("signs_dist.config", "import torch"),
        ("signs_dist.console", "def f():\n    from torch import nn"),
        ("signs_dist.data.plan", "from signs_dist.strategy import SingleProcess"),
        ("signs_dist.data.plan", "from signs_dist import loop"),
        ("signs_dist.loop", "from signs_dist.run import train"),
        ("signs_dist.loop", "import torch.distributed as dist"),
        ("signs_dist.train", "import submitit"),
        ("signs_dist.unheard_of", "import os"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert violations(module, source) != []


def test_only_the_context_reads_launcher_variables() -> None:
    readers = {
        name
        for name, file in modules().items()
        if any(word in file.read_text(encoding="utf-8") for word in ('"RANK"', '"WORLD_SIZE"', '"SLURM_'))
    }
    assert readers == {"signs_dist.context"}
