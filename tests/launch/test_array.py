"""Submitting an array: the requests of its trials."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from launch import check
from launch.array import _has_result, make_requests
from launch.cluster import ClusterConfig
from launch.jobs import jobs_of
from launch.request import Request
from launch.schedulers import SCHEDULERS
from launch.schedulers.base import Submission
from launch.submit import main
from launch.trials import Trial
from signs_dist import sweep
from signs_dist.config.reading import dump_config, load_config
from signs_dist.console.command import run_command
from signs_dist.errors import UserError
from signs_dist.results.sweeps import summarise_sweep
from signs_dist.run_folder.folder import RunFolder

TRIALS = [Trial(Path(f"/grid/{seed}"), (f"seed={seed}",)) for seed in (3, 4)]


def make_array(*overrides: str, **values: str) -> Request:
    config = load_config(None, list(overrides))
    return Request(None, overrides, config, Path("/grid"), "grid", ClusterConfig(**values))  # type: ignore[arg-type]


def test_each_trial_has_its_own_settings_and_folder() -> None:
    requests = make_requests(make_array("optim.lr=0.5"), TRIALS)
    assert [(each.config.seed, each.config.optim.lr, str(each.run_path)) for each in requests.values()] == [
        (3, 0.5, "/grid/3"),
        (4, 0.5, "/grid/4"),
    ]
    assert requests[TRIALS[0]].overrides == ("optim.lr=0.5", "seed=3")


def test_a_setting_in_both_places_and_a_trial_that_is_not_legal_are_refused() -> None:
    with pytest.raises(UserError, match=r"seed is given after -- and in --array. Omit one"):
        make_requests(make_array("seed=1"), TRIALS)
    wrong = [*TRIALS, dataclasses.replace(TRIALS[0], settings=("seed=many",))]
    with pytest.raises(UserError, match="seed=many"):
        make_requests(make_array(), wrong)


def test_the_batch_of_each_trial_is_checked_before_the_queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["train.global_batch=32", "exact=false"]
    grid = ["--array", "train.micro_batch=8,7"]
    assert run_command(main, ["--cluster", "local", *grid, "--", "--run-dir", "grid", *settings]) == 2
    assert "does not divide into micro-batches" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Submission]:
    """What is handed over to this machine, where nothing is started and the check of the model takes no time."""
    found: list[Submission] = []

    def submit(submission: Submission) -> list[str]:
        found.append(submission)
        return [f"local{4_000_010 + number}" for number in range(len(submission.jobs))]

    monkeypatch.setattr(check, "check_training", lambda request: ["a model: one step tried"])
    monkeypatch.setattr(SCHEDULERS["local"], "submit", submit)
    return found


def test_an_array_runs_on_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, submitted: list[Submission]
) -> None:
    monkeypatch.chdir(tmp_path)
    here = ["--cluster", "local", "--no-snapshot", "--array", "seeds=0,1,2", "--parallel", "2"]
    assert run_command(main, [*here, "--", "--run-dir", "grid"]) == 0
    assert [(each.num_parallel, len(each.jobs)) for each in submitted] == [(2, 3)]
    told = capsys.readouterr().out
    assert "      job  local4000010 to local4000012, at most 2 at once\n" in told
    assert told.endswith("     then  python launch/submit.py status grid    (or wait, logs, cancel)\n")
    assert [jobs_of(tmp_path / "grid" / f"{number:03d}-seed={number}") for number in range(3)] == [
        [f"local{4_000_010 + number}"] for number in range(3)
    ]


def test_a_dry_run_of_an_array_on_this_machine_has_no_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, submitted: list[Submission]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["--cluster", "local", "--no-snapshot", "--dry-run", "--array", "seeds=0,1", "--", "--run-dir", "grid"]
    assert run_command(main, command) == 0
    said = capsys.readouterr().out
    assert said.endswith("one step tried\ndry run: everything is in order, nothing was submitted\n")
    assert submitted == []
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_submitted_as_one_array(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, submitted: list[Submission]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--out", "lr", "optim.lr=0.1,0.03", "seeds=0,1", "train.epochs=3"]
    here = ["--slurm", "--cluster", "local", "--no-snapshot", "--parallel", "2"]
    assert run_command(sweep.main, [*words, *here, "--dry-run"]) == 0
    assert submitted == []
    assert list(tmp_path.iterdir()) == []
    assert run_command(sweep.main, [*words, *here]) == 0
    assert [(each.num_parallel, len(each.jobs)) for each in submitted] == [(2, 4)]
    assert capsys.readouterr().out.endswith("to see the table: python -m signs_dist.sweep --show lr\n")
    runs = [run for trial in summarise_sweep(tmp_path / "lr").trials for run in trial.runs]
    assert [jobs_of(run.summary.path) for run in runs] == [[f"local{4_000_010 + number}"] for number in range(4)]
    configs = [load_config(tmp_path / "lr" / "trials" / "submit" / "001" / run.id / "config.yaml") for run in runs]
    assert [(each.optim.lr, each.seed, each.train.epochs) for each in configs] == [
        *((0.1, 0, 3), (0.1, 1, 3), (0.03, 0, 3), (0.03, 1, 3))
    ]
    # Those that are finished are not submitted again, and a sweep that grows is the same array.
    for run in runs[:3]:
        folder = RunFolder(run.summary.path)
        folder.write_config(dump_config(configs[runs.index(run)]))
        folder.write_result({"finished": True})
    words[3] = "seeds=0,1,2"
    assert run_command(sweep.main, [*words, *here]) == 0
    assert "6 trials in " in (said := capsys.readouterr().out)
    assert ", 3 to submit" in said
    assert len(submitted[1].jobs) == 3


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        ("debug", "0,1", "--array: --cluster debug is this process itself. Type --cluster local for several runs."),
        ("local", ",".join(map(str, range(101))), "--array: 101 trials; --cluster local takes at most 100. Type fewer"),
    ],
)
def test_an_array_that_cannot_run_here_is_refused(
    kind: str,
    values: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(main, ["--cluster", kind, "--array", f"seeds={values}"]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_trial_counts_as_finished_with_its_own_settings_only(tmp_path: Path) -> None:
    done, further = RunFolder(tmp_path / "000").create(), RunFolder(tmp_path / "001").create()
    for folder in (done, further):
        folder.write_config(dump_config(load_config(None, ["train.epochs=2"])))
        folder.write_result({"finished": True})

    def request(path: Path, *overrides: str, accepted: frozenset[str] = frozenset()) -> Request:
        return dataclasses.replace(make_array(*overrides), run_path=path, accepted=accepted)

    assert _has_result(request(done.path, "train.epochs=2"))
    assert not _has_result(request(further.path, "train.epochs=3", accepted=frozenset({"train.epochs"})))
    with pytest.raises(UserError, match=r"001: these settings differ from the saved run: seed: 0 → 5"):
        _has_result(request(further.path, "train.epochs=2", "seed=5"))
    assert not _has_result(request(tmp_path / "002"))
