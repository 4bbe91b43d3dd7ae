"""What would end a job in its first minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.submit import main
from signs_dist.console.command import run_command
from tests.sets import write_colour_set


def test_a_model_that_cannot_be_meant_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_colour_set(tmp_path / "photos", counts={"train": 3, "val": 1})
    (tmp_path / "ends_python.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "too_few.py").write_text(
        "from torch import nn\n"
        "def network(num_classes, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, 2))\n"
    )
    small = ["data.root=photos", "data.cache=cache", "data.image_size=16", "train.global_batch=4"]
    for name, told in (
        ("ends_python:network", "importing ends_python ends Python (sys.exit). Put what it runs as a script below"),
        ("too_few:network", "model.name=too_few:network gives [4, 2] for 4 images of 3 classes: it must give [4, 3]"),
    ):
        arguments = ["--cluster", "local", "--dry-run", "--", "--run-dir", "run", f"model.name={name}", *small]
        assert run_command(main, arguments) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
