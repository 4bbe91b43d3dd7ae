"""The folder of a sweep, and its record."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.holder import Holder
from signs_dist.searching.definition import Definition
from signs_dist.searching.planning import begin, plan
from signs_dist.searching.record import SweepRecord
from signs_dist.searching.space import Choices
from signs_dist.searching.sweep_folder import SweepFolder

LIST = Choices(name="optim.lr", values=(0.1, 0.03))
GRID = Definition(space=(LIST,), seeds=(0,))


def open_sweep(path: Path, definition: Definition = GRID) -> SweepFolder:
    folder = SweepFolder(path)
    with folder.held():
        begin(definition, folder)
    return folder


def test_a_sweep_is_written_and_read(tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_text("train: {epochs: 3}   # short\n")
    given = dataclasses.replace(GRID, config=tmp_path / "given.yaml", settings=("log.every_steps=9",))
    folder = open_sweep(tmp_path / "s", given)
    assert folder.read_definition() == dataclasses.replace(given, config=folder.base)
    assert folder.base.read_text() == "train: {epochs: 3}   # short\n"
    record = SweepRecord(folder.path).read()
    assert [line.chosen for line in record.trials.values()] == [{"optim.lr": 0.1}, {"optim.lr": 0.03}]
    before = (folder.path / "sweep.jsonl").read_text()
    open_sweep(tmp_path / "s", given)
    assert (folder.path / "sweep.jsonl").read_text() == before


def test_a_sweep_keeps_its_config_where_another_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working directory may hold a base.yaml of its own, from which another sweep began."""
    (tmp_path / "base.yaml").write_text("train: {epochs: 9}\n")
    (tmp_path / "given.yaml").write_text("train: {epochs: 3}\n")
    monkeypatch.chdir(tmp_path)
    given = dataclasses.replace(GRID, config=Path("given.yaml"))
    folder = open_sweep(Path("s"), given)
    assert [run.num_epochs for trial in plan(folder.read_definition(), folder) for run in trial.runs] == [3, 3]
    open_sweep(Path("s"), folder.read_definition())
    assert folder.base.read_text() == "train: {epochs: 3}\n"
    folder.base.unlink()
    with pytest.raises(UserError, match=r"s/base.yaml: no such file"):
        plan(folder.read_definition(), folder)


def test_a_sweep_grows(tmp_path: Path) -> None:
    open_sweep(tmp_path / "s")
    more = dataclasses.replace(GRID, space=(Choices(name="optim.lr", values=(0.3, 0.1, 0.03)),), seeds=(0, 1))
    folder = open_sweep(tmp_path / "s", more)
    record = folder.record.read()
    assert [(line.number, line.chosen, len(line.runs)) for line in record.trials.values()] == [
        (0, {"optim.lr": 0.1}, 2),
        (1, {"optim.lr": 0.03}, 2),
        (2, {"optim.lr": 0.3}, 2),
    ]
    assert [trial.number for trial in plan(more, folder)] == [0, 1, 2]
    assert record.header["num_trials"] == 3


def test_another_sweep_is_refused(tmp_path: Path) -> None:
    folder = open_sweep(tmp_path / "s")
    RunFolder(folder.run_path("ab")).create().write_config("seed: 0\n")
    for other, told in (
        (dataclasses.replace(GRID, settings=("train.epochs=3",)), "train.epochs: 20 → 3"),
        (dataclasses.replace(GRID, space=(Choices(name="optim.lr", values=(0.1,)),)), "optim.lr has 0.03 there"),
    ):
        with pytest.raises(UserError) as caught:
            open_sweep(tmp_path / "s", other)
        assert f"--out {folder.path} holds another sweep: {told}. Choose another --out." in str(caught.value)
    assert folder.read_definition() == GRID


def test_a_sweep_without_runs_gives_way(tmp_path: Path) -> None:
    """As after a first try with settings that no run could begin with."""
    open_sweep(tmp_path / "s")
    other = dataclasses.replace(GRID, settings=("train.epochs=3",))
    folder = open_sweep(tmp_path / "s", other)
    assert folder.read_definition() == other
    assert [len(line.runs) for line in folder.record.read().trials.values()] == [1, 1]


def test_where_files_are_may_change(tmp_path: Path) -> None:
    open_sweep(tmp_path / "s", dataclasses.replace(GRID, settings=("data.cache=here",)))
    folder = open_sweep(tmp_path / "s", dataclasses.replace(GRID, settings=("data.cache=there",)))
    assert folder.read_definition().settings == ("data.cache=there",)


def test_what_a_kill_left_of_a_new_folder_is_no_obstacle(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    folder.trials.mkdir(parents=True)
    folder.base.touch()
    assert open_sweep(tmp_path / "s").is_begun


@pytest.mark.parametrize("name", ["sweep.yaml", "sweep.jsonl"])
def test_a_folder_without_a_sweep(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"holds no sweep\. To begin one, type what to search"):
        SweepFolder(tmp_path).read_definition()


def test_a_folder_in_use_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    with folder.held():
        pass
    (folder.path / "lease.json").write_text(json.dumps(dataclasses.asdict(Holder.here(platform.node(), os.getppid()))))
    with pytest.raises(UserError, match=rf"in use by another sweep: process {os.getppid()} on "), folder.held():
        raise AssertionError
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Not a directory"), SweepFolder(tmp_path / "file" / "s").held():
        raise AssertionError
