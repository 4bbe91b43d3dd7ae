"""What the list of runs learns from sweeps."""

from __future__ import annotations

from pathlib import Path

from signs_dist.results.summary import RunSummary
from signs_dist.results.sweep_runs import with_sweeps
from tests.results.test_sweeps import trial, write


def test_a_run_of_a_sweep_says_what_was_tried_and_whether_it_was_pruned(tmp_path: Path) -> None:
    pruned = {"event": "pruned", "trial": 1, "epoch": 2, "why": "epoch 2: worse"}
    write(tmp_path, trial(0, 0.1, "a", "b"), trial(1, 0.3, "c", "d", "e"), pruned)
    stopped = "stopped by SIGTERM"
    found = with_sweeps(
        [
            RunSummary(path=tmp_path / "trials" / "b", state="stopped", why=stopped),
            RunSummary(path=tmp_path / "trials" / "c", state="stopped", why=stopped),
            RunSummary(path=tmp_path / "trials" / "d", state="finished"),
            RunSummary(path=tmp_path / "trials" / "e", state="running"),
        ]
    )
    assert [(each.tried, each.state, each.why) for each in found] == [
        ("optim.lr=0.1 seed=1", "stopped", stopped),
        ("optim.lr=0.3 seed=0", "pruned", "epoch 2: worse"),
        ("optim.lr=0.3 seed=1", "finished", ""),
        ("optim.lr=0.3 seed=2", "running", ""),  # taken up again, and not noted yet
    ]


def test_other_runs_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "trials" / "a").mkdir(parents=True)
    write(tmp_path / "sweep", trial(0, 0.1, "a"))
    (tmp_path / "link").symlink_to(tmp_path / "sweep" / "trials" / "a")
    paths = [tmp_path / "sweep" / "trials" / "unknown", tmp_path / "trials" / "a", tmp_path / "a"]
    assert [each.tried for each in with_sweeps([RunSummary(path=path, state="stopped") for path in paths])] == [""] * 3
    (behind,) = with_sweeps([RunSummary(path=tmp_path / "link", state="stopped")])
    assert behind.tried == "optim.lr=0.1 seed=0"
