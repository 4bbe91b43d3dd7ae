"""What the parent of the workers imports: found in their arguments, and left to them where it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from launch.preloading import find_training, preload, read_given_config
from tests.processes import environment


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-m", "signs_dist.train"), (Path(), [])),
        (("-m", "signs_dist.train", "--run-dir", "a", "x=1"), (Path(), ["--run-dir", "a", "x=1"])),
        (("-m", "launch.job", "/work", "/code:/more", "--run-dir", "a"), (Path("/work"), ["--run-dir", "a"])),
        (("-m", "launch.job", "/work"), None),
        (("-m", "json.tool"), None),
        (("-c", "pass"), None),
    ],
)
def test_the_arguments_of_the_training_are_found(
    arguments: Sequence[str], expected: tuple[Path, list[str]] | None
) -> None:
    assert find_training(arguments) == expected


def test_the_config_of_a_job_is_relative_to_its_working_folder(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("model: {name: torchvision:resnet18}\n")
    import signs_dist.train  # noqa: F401  read_given_config takes it out of the modules, and the fixture puts it back

    config = read_given_config(tmp_path, ["--config", "own.yaml", "--run-dir", "a", "train.epochs=3"])
    assert config is not None
    assert (config.model.name, config.train.epochs) == ("torchvision:resnet18", 3)


def test_a_config_that_can_be_read_only_once_is_left_to_the_workers() -> None:
    reader, writer = os.pipe()
    try:
        assert read_given_config(Path(), ["--config", f"/dev/fd/{reader}"]) is None
    finally:
        os.close(reader)
        os.close(writer)


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    import signs_dist
    from signs_dist import train

    monkeypatch.setitem(sys.modules, "signs_dist.train", train)
    monkeypatch.setattr(signs_dist, "train", train, raising=False)


@pytest.mark.parametrize("arguments", [("train.epoch=1",), ("--no-such-flag",), ("--config", "missing.yaml")])
def test_what_is_wrong_is_left_to_the_workers(capfd: pytest.CaptureFixture[str], arguments: Sequence[str]) -> None:
    preload(("-m", "signs_dist.train", *arguments))
    assert "note: imported by each worker for itself: " in capfd.readouterr().err


@pytest.mark.slow
def test_after_the_imports_of_a_training_a_process_may_be_forked() -> None:
    code = (
        "import os, sys\n"
        "from launch.preloading import preload\n"
        "from launch.fork_safety import reason_now\n"
        "def look():\n"
        "    import torch\n"
        "    print(repr(reason_now()), len(os.listdir('/proc/self/task')), torch.cuda.is_initialized())\n"
        "    print([name for name in sys.argv[1:] if name in sys.modules])\n"
        "preload(('-m', 'signs_dist.train'))\n"
        "look()\n"
        "preload(('-m', 'signs_dist.train', 'model.name=torchvision:resnet18'))\n"
        "look()\n"
    )
    names = ("PIL.Image", "signs_dist.training.run", "torchvision", "signs_dist.train")
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        env=environment(OMP_NUM_THREADS="2"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    alone = "'' 1 False\n['PIL.Image', 'signs_dist.training.run']\n"
    with_library = "'' 1 False\n['PIL.Image', 'signs_dist.training.run', 'torchvision']\n"
    assert (done.stdout, done.stderr) == (alone + with_library, "")
