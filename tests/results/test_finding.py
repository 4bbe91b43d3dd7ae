from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from signs_dist.results.finding import find_runs, is_run_folder
from signs_dist.run_folder.folder import RunFolder
from tests.results.runs import make_run
from tests.users import acting_as, folder_for_all, needs_root


def names(folder: Path) -> list[tuple[str, str]]:
    return [(str(each.path.relative_to(folder)), each.kind) for each in find_runs(folder)]


def test_runs_of_arrays_and_sweeps_are_found(tmp_path: Path) -> None:
    make_run(tmp_path / "b")
    make_run(tmp_path / "array" / "000-seed=0")
    (tmp_path / "array" / "submit").mkdir()
    (tmp_path / "array" / "submit" / "jobs.jsonl").write_text('{"job": "7"}\n')
    (tmp_path / "array" / "array.json").write_text("{}")
    make_run(tmp_path / "sweeps" / "lr" / "trials" / "ab12")
    make_run(tmp_path / ".hidden" / "c")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "config.yaml").touch()  # no run folder has a config alone
    assert names(tmp_path) == [("array/000-seed=0", "run"), ("b", "run"), ("sweeps/lr/trials/ab12", "run")]


def test_what_lies_within_a_run_folder_is_no_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    make_run(run / "submit" / "001" / "code" / "runs" / "x")
    assert names(tmp_path) == [("a", "run")]
    assert find_runs(run)[0].path == run


def test_a_job_that_has_not_begun_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "a" / "submit").mkdir(parents=True)
    (tmp_path / "a" / "submit" / "jobs.jsonl").write_text(json.dumps({"job": "7"}))
    assert names(tmp_path) == [("a", "run")]
    assert is_run_folder(tmp_path / "a")
    assert not is_run_folder(tmp_path)


def test_a_run_killed_before_its_config_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("lease.json", "manifest.json"):
        (tmp_path / "a" / name).touch()
    assert names(tmp_path) == [("a", "run")]


def test_links(tmp_path: Path) -> None:
    elsewhere = make_run(tmp_path / "disk" / "big")
    runs = tmp_path / "runs"
    make_run(runs / "a")
    (runs / "latest").symlink_to("a")  # the same run a second time
    (runs / "big").symlink_to(elsewhere)
    (runs / "all").symlink_to(runs)
    (runs / "self").symlink_to("self")
    (runs / "gone").symlink_to("nowhere")
    assert names(runs) == [("a", "run"), ("big", "run")]


def test_a_partly_removed_run_is_named(tmp_path: Path) -> None:
    for name in ("a.removing", "a.removing-2"):
        make_run(tmp_path / name)
    assert names(tmp_path) == [("a.removing", "partly removed"), ("a.removing-2", "partly removed")]


@needs_root
def test_a_folder_that_may_not_be_read_is_a_row() -> None:
    with folder_for_all() as folder:
        make_run(folder / "runs" / "a")
        (folder / "runs" / "closed").mkdir(mode=0o700)
        with acting_as():
            found = find_runs(folder / "runs")
    assert [(each.path.name, each.kind, each.why) for each in found] == [
        ("a", "run", ""),
        ("closed", "unreadable", "Permission denied"),
    ]


def test_a_folder_that_vanishes_is_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(tmp_path / "a").create()
    real = os.scandir

    def vanish(path: Path) -> object:
        if Path(path).name == "a":
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    monkeypatch.setattr(os, "scandir", vanish)
    assert find_runs(tmp_path) == []
