"""What would end a job in its first minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.check import check_batches, check_run_folder, check_signal
from launch.cluster import ClusterConfig
from launch.request import Request
from launch.submit import main
from signs_dist.config.reading import load_config
from signs_dist.console.command import run_command
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from tests.lines import save_line
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
        ("ends_python:network", "importing ends_python calls sys.exit. Put the code of the script below"),
        (
            "too_few:network",
            "model.name=too_few:network has 2 outputs, and the data 3 classes. Let its last layer have",
        ),
    ):
        arguments = ["--cluster", "local", "--dry-run", "--", "--run-dir", "run", f"model.name={name}", *small]
        assert run_command(main, arguments) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def make_request(run: Path, *overrides: str, **values: object) -> Request:
    config = load_config(None, list(overrides))
    return Request(None, overrides, config, run, "run", ClusterConfig(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last_seconds", "kill_seconds", "told"),
    [
        (None, 30.0, []),
        (10.0, 30.0, ["the last save took 10.0 s; the signal comes 120 s before the time limit"]),
        (40.0, None, ["the last save took 40.0 s; the signal comes 120 s before the time limit"]),
        (40.0, 30.0, ["the last save took 40.0 s;", "SLURM sends SIGKILL 30 s after SIGTERM"]),
        (61.0, 30.0, "--signal-seconds 120 leaves too little time: the last save of this run took 61 s. Type --signal"),
    ],
)
def test_the_time_for_a_save(
    tmp_path: Path, last_seconds: float | None, kill_seconds: float | None, told: list[str] | str
) -> None:
    folder = RunFolder(tmp_path).create()
    if last_seconds is not None:
        folder.add(save_line(1, last_write_seconds=100.0))
        folder.add(save_line(2, last_write_seconds=last_seconds))
    request = make_request(tmp_path)
    if isinstance(told, str):
        with pytest.raises(UserError, match=told):
            check_signal(request, kill_seconds)
        return
    lines = check_signal(request, kill_seconds)
    assert len(lines) == len(told)
    assert all(line.startswith(start) for line, start in zip(lines, told, strict=True))


def test_every_number_of_processes_that_the_queue_may_give_is_worked_out(tmp_path: Path) -> None:
    config = make_request(tmp_path, "train.global_batch=32", "train.micro_batch=8").config
    assert len(check_batches(config.train, [2, 1, 4])) == 3
    with pytest.raises(UserError, match="too few for 8 processes"):
        check_batches(config.train, [1, 8])
    unset = make_request(tmp_path, "train.global_batch=32", "train.micro_batch=null").config
    assert len(check_batches(unset.train, [2])) == 1
    with pytest.raises(
        UserError, match=r"train.micro_batch is not set: each number of processes .* Add train.micro_batch=8"
    ):
        check_batches(unset.train, [2, 4])


def test_a_run_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="other"):
        check_run_folder(make_request(tmp_path / "other"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file"):
        check_run_folder(make_request(tmp_path / "file" / "run"))
    assert check_run_folder(make_request(tmp_path / "new")) == []
    assert (tmp_path / "new").is_dir()
    assert list((tmp_path / "new").iterdir()) == []
