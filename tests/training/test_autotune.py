"""train.autotune: what a run takes from a trial, and what it leaves as it was."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

from signs_dist.checkpointing.resume_rules import FREE, changed_settings
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.config.reading import load_config
from signs_dist.console.command import run_command
from signs_dist.environment.core_wait import CoreWait
from signs_dist.errors import UserError
from signs_dist.models.weights import named_weights
from signs_dist.train import main as train
from signs_dist.training import autotune, trying_ways
from signs_dist.training.autotune import describe, with_fastest_way
from signs_dist.training.prepare import Prepared
from signs_dist.training.stepper import Stepper
from signs_dist.training.trying_ways import WaysTrial
from signs_dist.tuning.choice import Choice
from signs_dist.tuning.variants import Variant
from tests.processes import run
from tests.training.parts import make_config, make_prepared, make_process, make_silent

NETWORK = ("model.name=signs_net", "model.args={channels: 4, dropout: 0.5}", "train.precision=float32")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Trials find one thread and contiguous tensors; returns the numbers of threads of each trial."""
    trials: list[list[int]] = []

    def find(self: WaysTrial, counts: list[int]) -> Choice:
        trials.append(list(counts))
        return Choice(1, False, 1.5, 4)

    monkeypatch.setattr(WaysTrial, "run", find)
    monkeypatch.setattr(CoreWait, "read", lambda: None)  # the tests' machine is busy
    return trials


def prepared_with(folder: Path, *settings: str, num_threads: int = 2) -> Prepared:
    process = make_process(num_threads=num_threads)
    prepared = make_prepared(folder, *NETWORK, *settings, process=process)
    return with_fastest_way(prepared, process)


def is_channels_last(prepared: Prepared) -> bool:
    (weight, *_) = (weight for weight in prepared.model.parameters() if weight.dim() == 4)
    return weight.is_contiguous(memory_format=torch.channels_last)


def test_by_default_nothing_is_tried(tmp_path: Path, tried: list[list[int]]) -> None:
    prepared = prepared_with(tmp_path)
    assert (prepared.way.num_threads, prepared.way.channels_last, prepared.way.tuned, tried) == (2, True, "", [])


def test_the_run_computes_as_the_trial_chose(tmp_path: Path, tried: list[list[int]]) -> None:
    before = weights_sha256(named_weights(prepared_with(tmp_path).model))
    prepared = prepared_with(tmp_path, "train.autotune=true")
    assert (prepared.way.num_threads, torch.get_num_threads(), prepared.way.channels_last) == (1, 1, False)
    assert not is_channels_last(prepared)
    assert weights_sha256(named_weights(prepared.model)) == before
    stepper = Stepper(prepared, make_process())
    assert not stepper.prepare_train.channels_last
    (file,) = (tmp_path / "user/signs_dist/autotune").iterdir()
    way = "1 thread, contiguous: 1.50 times as fast as 2 threads, channels_last"
    assert prepared.way.tuned == f"{way}; tried now, and kept in {file}"
    again = prepared_with(tmp_path, "train.autotune=true")
    assert again.way.tuned == f"{way}; as tried before, kept in {file}"
    assert tried == [[2, 1]]
    assert not is_channels_last(again)


@pytest.mark.parametrize(
    "setting",
    [
        *("train.global_batch=4", "optim.name=adam", "data.image_size=24", "train.allocator=system"),
        *("model.args={channels: 8, dropout: 0.5}", "train.channels_last=false", "train.precision=bfloat16"),
    ],
)
def test_what_the_choice_depends_on_is_tried_anew(tmp_path: Path, tried: list[list[int]], setting: str) -> None:
    prepared_with(tmp_path, "train.autotune=true")
    prepared_with(tmp_path, "train.autotune=true", setting)
    assert len(tried) == 2


@pytest.mark.parametrize("setting", ["train.epochs=5", "seed=3", "optim.lr=0.3", "augment.flip=0", "log.every_steps=3"])
def test_what_no_speed_depends_on_is_not(tmp_path: Path, tried: list[list[int]], setting: str) -> None:
    prepared_with(tmp_path, "train.autotune=true")
    prepared_with(tmp_path, "train.autotune=true", setting)
    assert len(tried) == 1


def test_another_machine_is_tried_anew(tmp_path: Path, tried: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    prepared_with(tmp_path, "train.autotune=true")
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2")):
        monkeypatch.setenv(name, value)
        prepared_with(tmp_path, "train.autotune=true")
    monkeypatch.setattr(autotune, "read_own_processor", lambda: {"CPU": "another"})
    prepared_with(tmp_path, "train.autotune=true")
    assert len(tried) == 4


def test_threads_that_a_person_has_set_stay(tmp_path: Path, tried: list[list[int]]) -> None:
    prepared = prepared_with(tmp_path, "train.autotune=true", "train.num_threads=2")
    assert tried == [[2]]
    assert (prepared.way.num_threads, prepared.way.channels_last) == (2, False)


def test_beside_busy_programs_the_choice_is_used_and_not_kept(
    tmp_path: Path, tried: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter((CoreWait(0.0, {1: 0.0}), CoreWait(2.0, {1: 0.3})))
    monkeypatch.setattr(CoreWait, "read", lambda: next(readings))
    prepared = prepared_with(tmp_path, "train.autotune=true")
    assert prepared.way.tuned.endswith("; tried now beside busy programs, and not kept for other runs")
    assert not prepared.way.channels_last
    assert not (tmp_path / "user").exists()


def test_another_process_than_the_first_keeps_nothing(tmp_path: Path, tried: list[list[int]]) -> None:
    process = make_silent(make_process(num_threads=2))
    prepared = make_prepared(tmp_path, *NETWORK, "train.autotune=true", process=process)
    assert with_fastest_way(prepared, process).way.tuned.endswith(" as 2 threads, channels_last; tried now")
    assert not (tmp_path / "user").exists()


def test_a_home_that_cannot_be_written_is_no_failure(tmp_path: Path, tried: list[list[int]]) -> None:
    (tmp_path / "user").write_text("a file")
    prepared = prepared_with(tmp_path, "train.autotune=true")
    assert prepared.way.tuned.endswith(f"; tried now; {tmp_path}/user/signs_dist cannot be written")


def test_a_trial_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WaysTrial, "run", lambda self, counts: None)
    prepared = prepared_with(tmp_path, "train.autotune=true")
    assert prepared.way.tuned == "the trial failed: threads and memory format are as set"
    assert (prepared.way.num_threads, prepared.way.channels_last, is_channels_last(prepared)) == (2, True, True)


def test_what_is_told_of_the_way_that_is_set() -> None:
    way = Variant(2, channels_last=True, precision="float32")
    words = "2 threads, channels_last, as set: none of 4 ways is 5 % faster"
    assert describe(way, way, Choice(2, True, 1.0, 4)) == words


@pytest.mark.parametrize(
    ("setting", "way_out"),
    [
        ("exact=true train.micro_batch=2", "exact mode computes with train.num_threads and train.channels_last as"),
        ("model.cache_features=true model.freeze=backbone augment.backend=none", "model.cache_features=false"),
    ],
)
def test_it_is_refused_where_nothing_would_read_it(setting: str, way_out: str) -> None:
    with pytest.raises(UserError, match=rf"train.autotune is not read with .*{way_out}"):
        load_config(None, ["train.autotune=true", *setting.split()])


def test_a_resumed_run_may_change_it(tmp_path: Path) -> None:
    before = make_config(tmp_path).model_dump(mode="json")
    assert set(changed_settings(before, make_config(tmp_path, "train.autotune=true"))) == {"train.autotune"}
    assert "train.autotune" in FREE


def test_a_trial_changes_no_bit_of_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = WaysTrial.run

    def find(self: WaysTrial, counts: list[int]) -> Choice:
        choice = real(self, counts)
        assert choice is not None
        return dataclasses.replace(choice, num_threads=1, channels_last=True)

    monkeypatch.setattr(WaysTrial, "run", find)
    monkeypatch.setattr(trying_ways, "ROUNDS_SECONDS", 0.05)
    monkeypatch.setattr(trying_ways, "LOOK_SECONDS", 0.01)
    make_config(tmp_path)  # writes the images
    small = [f"data.root={tmp_path}/colours", f"data.cache={tmp_path}/cache", "data.image_size=16", *NETWORK]
    weights = []
    for name, value in (("without", "false"), ("with", "true")):
        arguments = ["--run-dir", str(tmp_path / name), *small, "train.epochs=1", "train.global_batch=8"]
        assert run_command(train, [*arguments, f"train.autotune={value}"]) == 0
        weights.append(json.loads((tmp_path / name / "result.json").read_text())["weights_sha256"])
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_two_processes_choose_the_same(tmp_path: Path) -> None:
    make_config(tmp_path)  # writes the images
    small = [f"data.root={tmp_path}/colours", f"data.cache={tmp_path}/cache", "data.image_size=16", *NETWORK]
    settings = [*small, "train.epochs=1", "train.autotune=true", "evaluate.batch=8"]
    command = [sys.executable, "-m", "launch.local", "--nproc", "2", "--", "--run-dir", "run", *settings]
    ended = run(command, tmp_path, {"OMP_NUM_THREADS": "2", "XDG_CACHE_HOME": str(tmp_path / "user")})
    assert ended.code == 0, ended.err
    logs = [(tmp_path / f"run/logs/rank{rank}.log").read_text().splitlines() for rank in (0, 1)]
    (first,), (second,) = ([line.partition("tuned  ")[2] for line in log if "tuned  " in line] for log in logs)
    assert first.partition("; ")[0] == second.partition("; ")[0]
    assert f"tuned  {first}" in ended.out
