"""The toolkit as a wheel, in an environment of its own outside the checkout: what is installed, and how it runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from signs_dist import __version__
from signs_dist.cli import COMMANDS, LAUNCHERS
from slurm.dev_cluster import DevCluster
from tests.processes import REPOSITORY, Ended, run, train_command
from tests.sets import write_colour_set
from tests.shared import shared_folder
from tests.slurm_cluster import requires_slurm

pytest.importorskip("setuptools", minversion="77")  # what pyproject.toml needs to build
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = """
import os, sys
from pathlib import Path
import signs_dist
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, image_size):
        super().__init__()
        self.layer = nn.Linear(3, num_classes)
        launchers = sorted(name for name in sys.modules if name.endswith("launch.job") or name in ("launch", "slurm"))
        Path("imported", str(os.getpid())).write_text("\\n".join([signs_dist.__file__, *launchers]))

    def forward(self, images):
        return self.layer(images.mean((2, 3)))
"""
"""A network of the user's own. Each process that makes one writes down what it has imported."""


@dataclasses.dataclass
class Installed:
    """A working folder, and the virtual environment of a user who has the wheel."""

    folder: Path
    environment: Path

    @property
    def packages(self) -> Path:
        """Where the wheel was unpacked."""
        return packages_of(self.environment)

    def type_in(self, *words: str, **variables: str) -> Ended:
        """`signs-dist WORDS`, in the working folder."""
        command = [str(self.environment / "bin" / "signs-dist"), *words]
        return run(command, self.folder, {"PYTHONPATH": "", **variables})

    def weights(self, run_dir: str) -> str:
        return str(json.loads((self.folder / run_dir / "result.json").read_text())["weights_sha256"])

    def take_imported(self) -> list[list[str]]:
        """What the processes since the last call have imported: signs_dist, and modules of the launchers."""
        found = []
        for file in sorted((self.folder / "imported").iterdir()):
            found.append(file.read_text().splitlines())
            file.unlink()
        return found

    def require_snapshot(self, run_dir: str, num_processes: int) -> None:
        """Require that the processes of a submitted run have imported the copy of the toolkit, and no other."""
        copy = str(self.folder / run_dir / "submit" / "001" / "code" / "toolkit" / "signs_dist" / "__init__.py")
        trained = [names for origin, *names in self.take_imported() if origin == copy]
        assert len(trained) == num_processes + 1  # and the process in which exact mode tries a network a second time
        assert not {"launch", "slurm"} & {name for names in trained for name in names}


SETTINGS = ("model.name=mine:Net", "data.root=photos", "data.num_workers=0", "train.global_batch=8")
EXACT = ("train.epochs=2", "exact=true", "train.micro_batch=4", "train.precision=float32")


def training(run_dir: str) -> list[str]:
    return ["--run-dir", run_dir, "--device", "cpu", *SETTINGS, *EXACT]


def packages_of(environment: Path) -> Path:
    """Where packages of a virtual environment are."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A working folder for this worker, and the environment of all."""
    with shared_folder(tmp_path_factory, "the wheel") as shared:  # with a space
        if not (shared / "done").exists():
            install(shared / ".venv", shared / "source")
            (shared / "done").touch()
    folder = tmp_path_factory.mktemp("my work")
    write_colour_set(folder / "photos", counts={"train": 8, "val": 4, "test": 4})
    (folder / "mine.py").write_text(MODEL)
    (folder / "imported").mkdir()
    return Installed(folder, shared / ".venv")


def install(environment: Path, source: Path) -> None:
    """Make a virtual environment with the wheel in it."""
    wheel = build_wheel(source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    # The dependencies, as if they had been installed beside the wheel. Python reads no .pth file of theirs, and so does
    # not find the checkout that is installed there.
    (packages_of(environment) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True)
    shutil.rmtree(source)


def build_wheel(folder: Path) -> Path:
    """A wheel of a copy of the checkout, into which the build writes its own files."""
    for name in ("signs_dist", "launch", "slurm"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    build = "from setuptools import build_meta; build_meta.build_wheel('built')"
    built = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "built").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def in_the_checkout(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights that the checkout trains with the same settings."""
    with shared_folder(tmp_path_factory, "checkout of the wheel") as shared:
        if not (shared / "weights").exists():
            ended = run(train_command(*training("checkout")), installed.folder)
            assert ended.code == 0, ended.err
            (shared / "weights").write_text(installed.weights("checkout"))
        return (shared / "weights").read_text()


def test_no_general_name_is_installed(installed: Installed) -> None:
    names = {path.name for path in installed.packages.iterdir()}
    assert names == {"signs_dist", f"signs_dist-{__version__}.dist-info", "dependencies.pth"}
    shipped = {path.name for path in (installed.packages / "signs_dist" / "slurm").iterdir()}
    assert {path.name for path in (REPOSITORY / "slurm").glob("*.sbatch")} < shipped
    assert "README.md" in shipped


def test_each_command_answers_by_the_name_that_is_typed(installed: Installed) -> None:
    listed = installed.type_in("--help")
    assert (listed.code, listed.err) == (0, "")
    assert all(f"\n  {name} " in listed.out for name in COMMANDS | LAUNCHERS)
    for command in (*LAUNCHERS, "agent", "requeue"):
        told = installed.type_in(command, "--help")
        assert told.out.startswith(f"usage: signs-dist {command} "), told.err
        assert "python launch" not in told.out
        assert "-m launch" not in told.out
    assert "signs-dist submit status to see" in installed.type_in("submit", "logs", "nothing").err
    assert (
        "go after --, such as: signs-dist local --nproc 4 -- seed=1"
        in installed.type_in("local", "--nproc", "4", "seed=1").err
    )


def test_training_by_each_command_gives_the_weights_of_the_checkout(installed: Installed, in_the_checkout: str) -> None:
    installed.take_imported()
    own = str(installed.packages / "signs_dist" / "__init__.py")
    for name, words in {"train": ["train"], "local": ["local", "--nproc", "2", "--"]}.items():
        ended = installed.type_in(*words, *training(name))
        assert ended.code == 0, ended.err
        assert installed.weights(name) == in_the_checkout
        assert {tuple(names) for names in installed.take_imported()} == {(own,)}
    words = ["submit", "--cluster", "local", "--tasks-per-node", "2", "--wait", "--", *training("submitted")]
    ended = installed.type_in(*words)
    assert ended.code == 0, ended.out + ended.err
    assert installed.weights("submitted") == in_the_checkout
    assert "signs-dist submit wait submitted " in ended.out
    written = json.loads((installed.folder / "submitted" / "submit" / "001" / "submission.json").read_text())
    assert written["command"] == ["signs-dist", *words]
    installed.require_snapshot("submitted", 2)


@requires_slurm
def test_on_slurm_it_gives_the_weights_of_the_checkout(
    installed: Installed, in_the_checkout: str, cluster: DevCluster
) -> None:
    def type_in(*words: str) -> Ended:
        return installed.type_in(*words, **cluster.environment)

    told = type_in("dev-cluster", "status", str(cluster.folder))
    assert told.code == 0, told.err
    installed.take_imported()
    for agent, flags in {"srun": ["--nodes", "2"], "torchrun": ["--nodes", "1", "--tasks-per-node", "2"]}.items():
        ended = type_in("submit", *flags, "--agent", agent, "--wait", "--", *training(agent))
        assert ended.code == 0, ended.out + ended.err
        assert installed.weights(agent) == in_the_checkout
        installed.require_snapshot(agent, 2)
    output = (installed.folder / "srun" / "submit" / "001" / "submitit").glob("*_0_log.out")
    assert any("exit code 0: end finished" in path.read_text() for path in output)
    assert "finished" in type_in("submit", "status", "srun").out
    # A template of the wheel, which also asks for the decision on a requeue.
    template = str(installed.packages / "signs_dist" / "slurm" / "cpu.sbatch")
    sbatch = ["sbatch", "--wait", "--nodes=1", "--ntasks-per-node=1", "--output=template.out", template]
    python = str(installed.environment / "bin" / "python")
    variables = {"PYTHONPATH": "", "PYTHON": python, **cluster.environment}
    ended = run([*sbatch, *SETTINGS, *EXACT], installed.folder, variables)
    said = (installed.folder / "template.out").read_text()
    assert ended.code == 0, ended.err + said
    assert "exit code 0: end finished" in said
    (result,) = (installed.folder / "runs").glob("signs-cpu-*/result.json")
    assert json.loads(result.read_text())["weights_sha256"] == in_the_checkout
