"""Submitting an array: the requests of its trials."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from launch.array import _has_result, make_requests
from launch.cluster import ClusterConfig
from launch.request import Request
from launch.submit import main
from launch.trials import Trial
from signs_dist.config.reading import dump_config, load_config
from signs_dist.console.command import run_command
from signs_dist.errors import UserError
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
    batch = [dataclasses.replace(TRIALS[0], settings=("train.micro_batch=7",))]
    with pytest.raises(UserError, match="does not divide into micro-batches"):
        make_requests(make_array("train.global_batch=32"), batch)


@pytest.mark.parametrize("kind", ["local", "debug"])
def test_an_array_is_for_slurm(
    kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(main, ["--cluster", kind, "--array", "seeds=0,1"]) == 2
    assert f"--array is for SLURM, not for --cluster {kind}." in capsys.readouterr().err
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
