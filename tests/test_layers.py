"""The rooms of the house, read from the imports: a file imports from its own room and from those listed before it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

ROOMS: tuple[str, ...] = (
    # Without torch: what a run is, where it runs, what it leaves on disk, what a person sees.
    "signs_dist.errors",
    "signs_dist.extras",
    "signs_dist.files",
    "signs_dist.config",
    "signs_dist.environment",
    "signs_dist.monitoring",
    "signs_dist.own_code",
    "signs_dist.run_folder",
    "signs_dist.console",
    "signs_dist.results",
    "signs_dist.searching",
    "signs_dist.reporting",
    # Photos, networks, and the numbers around them.
    "signs_dist.data",
    "signs_dist.tracking",
    "signs_dist.models",
    "signs_dist.learning",
    # What is saved, and how processes share a run.
    "signs_dist.checkpointing",
    "signs_dist.distributed",
    # Ways to compute a network, timed and chosen from.
    "signs_dist.tuning",
    # The five steps of training, and all that a run does around them.
    "signs_dist.training.image_preparer",
    "signs_dist.training.loop",
    "signs_dist.training",
    # What a trained model is used for.
    "signs_dist.inference",
    # Trained models as files for others.
    "signs_dist.exporting",
    # Runs that are trained again: a step looked at, segments proved, two runs compared.
    "signs_dist.retraining",
    "signs_dist.replaying",
    "signs_dist.proving",
    "signs_dist.diverging",
    # Runs that are recorded, killed and compared, for the commands parity and drill.
    "signs_dist.rehearsal",
    # Speeds of a config on this machine, for the command bench.
    "signs_dist.benching",
    # What can be wrong with machines before a run, for the command doctor.
    "signs_dist.health",
    # A file at the top of signs_dist is a command.
    "signs_dist.*",
    # How a run starts.
    "launch",
    "slurm",
    "benchmarks",
    "examples",
)
"""Lowest first. A room's files import each other without a cycle, and files of the rooms listed before it."""
LIGHT = ROOMS[: ROOMS.index("signs_dist.data")]
"""Rooms that import neither torch nor torchvision: `--help` and a refused config answer at once."""
PACKAGES = ("signs_dist", "launch", "slurm", "benchmarks", "examples")
BELOW_SIGNS_DIST = ("launch", "slurm")
"""Packages of a checkout that a wheel holds below signs_dist."""
IMPORTED_ONLY_BY = {
    "torch.distributed": (
        "signs_dist.distributed.compression",
        "signs_dist.distributed.group",
        "signs_dist.distributed.rendezvous",
        "signs_dist.distributed.error_file",
        "signs_dist.distributed.zero_state",  # torch's optimizer for several processes
        "launch.elastic_agent",  # torch's elastic agent, which is no part of training
        "launch.forked_workers",  # its workers
    ),
    "submitit": ("launch",),
}
"""Package → the only modules or rooms that import it."""
LAUNCHERS_VARIABLE = re.compile(
    r"(RANK|WORLD_SIZE|(LOCAL|GROUP|ROLE)_(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)"
    r"|(SLURM|SLURMD|SRUN|SBATCH|SUBMITIT|TORCHELASTIC|TORCH_ELASTIC)_[A-Z_]+)"
)
READERS_OF_LAUNCHERS_VARIABLES = "signs_dist.environment"


@functools.cache
def modules() -> dict[str, Path]:
    files = [file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")]
    return {name_of(file): file for file in files}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def is_within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def room_of(module: str) -> str:
    """The room of a module; "" for `signs_dist` itself, the public API, which imports its names when they are used."""
    if module in ("signs_dist", "signs_dist.__version__"):
        return ""
    rooms = [room for room in ROOMS if is_within(module, room)]
    return max(rooms, key=len) if rooms else "signs_dist.*" if module.count(".") == 1 else "none"


@functools.cache
def imports(source: str, package: str = "") -> tuple[str, ...]:
    """Full names that a file imports, those inside functions included, those for type checking left out.

    `package` holds the file: relative imports begin there.
    """
    found: list[str] = []
    for node in _running_statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = origin_of(node, package)
            found += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return tuple(found)


def origin_of(node: ast.ImportFrom, package: str) -> str:
    """The full name of what a `from … import` imports from."""
    if node.level == 0:
        return str(node.module)
    parts = package.split(".")
    assert node.level <= len(parts), f"a relative import leaves {package}"
    return ".".join([*parts[: len(parts) + 1 - node.level], *([node.module] if node.module else [])])


def package_of(module: str) -> str:
    """The package that holds a module; a package holds its own `__init__`."""
    file = modules().get(module)
    return module if file is not None and file.name == "__init__.py" else module.rpartition(".")[0]


def wrongly_spelled(module: str, source: str) -> Iterator[str]:
    """Imports that are relative and should be absolute, or the reverse.

    A wheel holds the packages of BELOW_SIGNS_DIST below signs_dist: an import by the name that they have in a checkout
    would fail there, or find another project's package.
    """
    own = module.split(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            absolute = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            absolute = [str(node.module)]
        elif isinstance(node, ast.ImportFrom) and own not in BELOW_SIGNS_DIST:
            yield f"{module} has a relative import: write the full name"
            continue
        else:
            continue
        for name in absolute:
            if own in BELOW_SIGNS_DIST and name.split(".")[0] in BELOW_SIGNS_DIST:
                yield f"{module} imports {name} by its name in a checkout: write `from .` or `from ..`"


def _running_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements that run, and what groups them; no expression holds a statement."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.stmt, ast.excepthandler, ast.match_case)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _running_statements(node)


def violations(module: str, source: str) -> list[str]:
    own = room_of(module)
    if own == "none":
        return [f"{module} lives in no room: add it to ROOMS"]
    found = list(wrongly_spelled(module, source))
    for imported in imports(source, package_of(module)):
        room = room_of(imported) if imported.split(".")[0] in PACKAGES else ""
        if room not in ("", "none") and own and ROOMS.index(room) > ROOMS.index(own):
            found.append(f"{module} ({own}) imports {imported} ({room})")
        if own in LIGHT and imported.split(".")[0] in ("torch", "torchvision"):
            found.append(f"{module} ({own}) imports {imported}")
        for package, homes in IMPORTED_ONLY_BY.items():
            if is_within(imported, package) and not any(is_within(module, home) for home in homes):
                found.append(f"{module} imports {imported}, which only {', '.join(homes)} may")
    if not is_within(module, READERS_OF_LAUNCHERS_VARIABLES):
        found += [
            f"{module} reads {name}: only {READERS_OF_LAUNCHERS_VARIABLES} may" for name in variables_read(source)
        ]
    return found


def variables_read(source: str) -> Iterator[str]:
    """Launchers' variables that a file looks up in some mapping: by [], get, pop, getenv or `in`."""
    for node in ast.walk(ast.parse(source)):
        looked_up: list[ast.expr] = []
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            looked_up = [node.slice]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            looked_up = node.args[:1] if name in ("get", "pop", "getenv") else []
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            looked_up = [node.left]
        for value in looked_up:
            if isinstance(value, ast.Constant) and LAUNCHERS_VARIABLE.fullmatch(str(value.value)):
                yield str(value.value)


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Some modules that import each other in a ring; empty without one."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                if found := visit(imported, [*path, module]):
                    return found
            done.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module, []))), [])


@functools.cache
def import_graph() -> dict[str, set[str]]:
    known = modules()
    graph = {}
    for module, file in known.items():
        # `from a import b` names a module a.b, or something within a.
        source = file.read_text(encoding="utf-8")
        found = {imported for imported in imports(source, package_of(module)) if imported in known}
        graph[module] = {one for one in found if not any(other.startswith(f"{one}.") for other in found)} - {module}
    return graph


def test_imports_only_from_below() -> None:
    found = {module: violations(module, path.read_text(encoding="utf-8")) for module, path in modules().items()}
    assert {module: wrong for module, wrong in found.items() if wrong} == {}


def test_no_modules_import_each_other_in_a_ring() -> None:
    assert find_cycle(import_graph()) == []


def test_relative_imports_are_resolved() -> None:
    source = "from . import base\nfrom .. import check\nfrom ..jobs import SUBMIT"
    assert list(imports(source, "launch.schedulers")) == [
        *("launch.schedulers", "launch.schedulers.base"),
        *("launch", "launch.check"),
        *("launch.jobs", "launch.jobs.SUBMIT"),
    ]
    assert package_of("launch.schedulers") == "launch.schedulers"
    assert package_of("launch.schedulers.slurm") == "launch.schedulers"
    assert "launch.schedulers.base" in import_graph()["launch.schedulers"]


def test_a_ring_is_seen() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("signs_dist.config.settings", "import torch"),
        ("signs_dist.console.screen", "def f():\n    from torch import nn"),
        ("signs_dist.config.settings", "from signs_dist.environment import context"),
        ("signs_dist.data.plan", "from signs_dist.distributed.strategy import SingleProcess"),
        ("signs_dist.data.plan", "from signs_dist.training import loop"),
        ("signs_dist.training.loop", "from signs_dist.training.run import train"),
        ("signs_dist.training.loop", "import torch.distributed as dist"),
        ("signs_dist.distributed.strategy", "import torch.distributed as dist"),
        ("signs_dist.training.trainer", "from signs_dist import train"),
        ("signs_dist.training.run", "from signs_dist.rehearsal.save_stages import watching_saves"),
        ("signs_dist.distributed.exact_step", "from signs_dist import connect"),
        ("signs_dist.train", "import submitit"),
        ("signs_dist.train", "import launch.job"),
        ("slurm.dev_cluster", "import submitit"),
        ("signs_dist.cupboard.unheard_of", "import os"),
        ("signs_dist.train", "import os\nos.environ['RANK']"),
        ("signs_dist.train", "import os\nos.environ.get('SLURM_JOB_ID')"),
        ("signs_dist.console.command", "import os\nif 'TORCHELASTIC_ERROR_FILE' in os.environ: pass"),
        ("launch.submit", "import os\npartition = os.getenv('SBATCH_PARTITION')"),
        ("launch.job", "from launch.notices import note_code"),
        ("launch.job", "def f():\n    import launch.agent"),
        ("launch.schedulers.slurm", "from launch.schedulers.base import Scheduler"),
        ("slurm.dev_cluster", "from launch.program import program"),
        ("signs_dist.training.run", "from .loop import Batch"),
        ("signs_dist.train", "from .launch import job"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert violations(module, source) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("signs_dist.train", "from signs_dist.training.run import train"),
        ("signs_dist.drill", "from signs_dist.rehearsal.killing import Drill"),
        ("launch.job", "from signs_dist import train"),
        ("signs_dist.environment.context", "import os\nos.environ['RANK']"),
        ("launch.local", "variables = {'RANK': '0'}\nvariables['WORLD_SIZE'] = '2'"),
        ("launch.job", "from .notices import note_code"),
        ("launch.schedulers.slurm", "from .. import check\nfrom ..cluster import ClusterConfig\nfrom . import base"),
    ],
)
def test_a_right_import_is_left_alone(module: str, source: str) -> None:
    assert violations(module, source) == []
