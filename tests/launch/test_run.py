"""Submitting a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.submit import main
from signs_dist.config.reading import dump_config, load_config
from signs_dist.console.command import run_command
from signs_dist.run_folder.folder import RunFolder
from signs_dist.train import main as train


def test_a_finished_run_refuses_what_would_have_given_another_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "run").create()
    folder.write_config(dump_config(load_config(None, ["train.epochs=2"]).config))
    folder.write_result({"finished": True})
    here = ["--run-dir", "run"]
    for command, before in ((train, []), (main, ["--cluster", "local", "--"])):
        assert run_command(command, [*before, *here, "train.epochs=3"]) == 2
        assert "train.epochs: 2 → 3. Put that back, take another --run-dir, or type" in capsys.readouterr().err
        for more in (["train.epochs=2", "log.every_steps=7"], ["train.epochs=3", "--accept-change", "train.epochs"]):
            assert run_command(command, [*before, *here, *more]) == 0
            assert "holds the result of this run" in capsys.readouterr().out
