"""Resuming: which settings may differ, and which lines are repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signs_dist.checkpointing.resume_rules import (
    FREE,
    NOT_IN_TRIAL,
    changed_settings,
    describe_changes,
    is_before,
    is_result_of,
    is_same_trial,
    refuse_changes,
    refuse_fewer_epochs,
    refuse_other_batch,
)
from signs_dist.checkpointing.store import Cursor
from signs_dist.config.reading import ARITHMETIC, SUSPECTS, accepted_names, dump_config
from signs_dist.config.section import flatten
from signs_dist.config.settings import Config
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.train import build_parser


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def saved(**sections: Any) -> dict[str, Any]:
    return config(**sections).model_dump(mode="json")


def test_every_free_name_is_a_setting() -> None:
    names = [name for name, _ in flatten(Config())]
    for free in (*FREE, *NOT_IN_TRIAL):
        assert any(name.startswith(free) for name in names), free


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ({}, {}, ""),
        ({}, {"seed": 1}, "seed"),
        ({}, {"train": {"epochs": 31}}, "train.epochs"),
        ({}, {"train": {"global_batch": 48}}, "train.global_batch"),
        ({}, {"optim": {"lr": 0.03}}, "optim.lr"),
        ({}, {"exact": True, "train": {"micro_batch": 8}}, "exact,train.micro_batch"),
        ({}, {"train": {"num_threads": 3}}, "train.num_threads"),
        ({}, {"data": {"order": "balanced"}}, "data.order"),
        ({}, {"data": {"root": "elsewhere", "num_workers": 3}}, ""),
        ({}, {"log": {"every_steps": 3}, "checkpoint": {"keep": 9}}, ""),
        ({}, {"processes": {"timeout_seconds": 9}}, ""),
        ({}, {"model": {"gradient_checkpointing": True}}, ""),
        ({}, {"optim": {"layer_decay": 0.5}}, "optim.layer_decay"),
        ({}, {"optim": {"groups": [{"match": "*", "lr": 1.0}]}}, "optim.groups"),
        ({"seed": 1}, {}, "seed"),
        ({}, {"data": {"storage": "device"}}, ""),
        ({"data": {"storage": "device"}}, {}, ""),
        ({}, {"data": {"storage": "files"}}, "data"),
        ({"data": {"storage": "device"}}, {"data": {"storage": "files"}}, "data"),
        ({"data": {"storage": "files"}}, {"data": {"storage": "device"}}, "data"),
    ],
)
def test_settings_that_would_give_another_result_are_refused(before: Any, now: Any, refused: str) -> None:
    differences = changed_settings(saved(**before), config(**now))
    if not refused:
        refuse_changes(differences, (), data=None)
        return
    with pytest.raises(UserError, match=f"or type --accept-change {refused}$"):
        refuse_changes(differences, (), data=None)
    refuse_changes(differences, refused.split(","), data=None)


def test_the_message_names_all_and_both_values() -> None:
    differences = changed_settings(saved(), config(seed=4, model={"name": "signs_net"}))
    with pytest.raises(UserError) as caught:
        refuse_changes(differences, {"train.epochs"}, data=("a" * 64, "b" * 64))
    old = Config().model.name
    assert f'seed: 0 → 4; model.name: "{old}" → "signs_net"; the training images: aaaaaaaaaaaa → bbbbbbbbbbbb' in str(
        caught.value
    )
    assert str(caught.value).endswith("--accept-change seed,model.name,data")


def test_a_section_accepts_all_its_settings() -> None:
    differences = changed_settings(saved(), config(train={"epochs": 31, "global_batch": 64}))
    refuse_changes(differences, {"train"}, data=None)
    with pytest.raises(UserError):
        refuse_changes(differences, {"optim"}, data=None)


def test_a_setting_that_the_checkpoint_lacks_counts_as_its_default() -> None:
    before = saved()
    del before["optim"]["clip_norm"], before["checkpoint"]
    assert changed_settings(before, config()) == {}
    assert list(changed_settings(before, config(optim={"clip_norm": 1.0}))) == ["optim.clip_norm"]


def test_changes_are_described_as_json() -> None:
    differences = changed_settings(saved(), config(train={"micro_batch": 8}, data={"root": "ü x"}))
    assert describe_changes(differences) == ['data.root: null → "ü x"', "train.micro_batch: null → 8"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], set()),
        (["seed"], {"seed"}),
        (["seed,train.epochs", " data "], {"seed", "train.epochs", "data"}),
        (["train"], {"train"}),
        (["arithmetic"], {"arithmetic"}),
        (["suspects"], {"suspects"}),
    ],
)
def test_accepted_names(texts: list[str], expected: set[str]) -> None:
    assert accepted_names(texts) == expected


@pytest.mark.parametrize("name", ["data", ARITHMETIC, SUSPECTS])
def test_the_help_says_which_names_are_accepted_beside_settings(name: str) -> None:
    assert f"{name}:" in " ".join(build_parser().format_help().split())


@pytest.mark.parametrize("text", ["sede", "train.epoch", "all"])
def test_unknown_names_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"--accept-change {text}: no such setting"):
        accepted_names([text])


def test_another_global_batch_needs_the_end_of_an_epoch() -> None:
    refuse_other_batch(Cursor(3, 7), 32, 32)
    refuse_other_batch(Cursor(3, 0), 32, 64)
    with pytest.raises(UserError, match=r"at step 7 of epoch 4\. Train .*: type train\.global_batch=32"):
        refuse_other_batch(Cursor(3, 7), 32, 64)


@pytest.mark.parametrize(
    ("line", "cursor", "kept"),
    [
        ({"kind": "step", "step": 12}, Cursor(1, 2), True),
        ({"kind": "step", "step": 13}, Cursor(1, 2), False),
        ({"kind": "save", "step": 12}, Cursor(1, 2), True),
        ({"kind": "epoch", "step": 10}, Cursor(1, 0), True),
        # Saved at an epoch's last step, before validation: its line is written again.
        ({"kind": "epoch", "step": 20}, Cursor(1, 10), False),
        ({"kind": "epoch", "step": 10}, Cursor(1, 10), True),
    ],
)
def test_lines_of_repeated_steps_are_dropped(line: dict[str, Any], cursor: Cursor, kept: bool) -> None:
    assert is_before(line, cursor, cursor.epoch * 10 + cursor.step) == kept


EPOCHS, SEED = {"train": {"epochs": 3}}, {"seed": 1}


@pytest.mark.parametrize(
    ("now", "accepted", "expected"),
    [
        ({}, [], True),
        ({"log": {"every_steps": 7}}, [], True),
        ({}, ["seed", "data"], True),
        (EPOCHS, ["train.epochs"], False),
        (EPOCHS, ["train"], False),
        (EPOCHS, [], "type --accept-change train.epochs"),
        (EPOCHS | SEED, ["train.epochs"], "type --accept-change seed"),
        (EPOCHS | SEED, ["train.epochs", "seed"], False),
        ({"train": {"epochs": 1}}, ["train.epochs"], "Only a larger train.epochs trains it further"),
        (SEED, [], "The run is finished after 2 epochs"),
        (SEED, ["seed"], "The run is finished after 2 epochs"),
        ({"optim": {"lr": 0.5}}, ["optim"], "they can no longer change it"),
    ],
)
def test_what_a_finished_run_does_with_other_settings(
    tmp_path: Path, now: dict[str, Any], accepted: list[str], expected: bool | str
) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.write_config(dump_config(config(train={"epochs": 2})))
    settings = config(**({"train": {"epochs": 2}} | now))
    assert not is_result_of(folder, settings, accepted)  # not finished: nothing is refused here
    folder.write_result({"finished": True})
    if isinstance(expected, bool):
        assert is_result_of(folder, settings, accepted) is expected
    else:
        with pytest.raises(UserError, match=f"these settings differ from the saved run: .*{expected}") as refused:
            is_result_of(folder, settings, accepted)
        assert ("--accept-change" in str(refused.value)) == ("--accept-change" in expected)


@pytest.mark.parametrize(
    ("before", "now", "ended_early", "expected"),
    [
        (2, 5, True, False),
        (2, None, True, False),
        (2, 1, True, "Only a larger train.epochs or train.patience trains it further"),
        (2, 5, False, "The run is finished after 4 epochs, .* Only a larger train.epochs trains it further"),
        (None, 2, False, "Only a larger train.epochs trains it further"),
    ],
)
def test_a_run_that_has_ended_early_goes_on_with_more_patience(
    tmp_path: Path, before: int | None, now: int | None, ended_early: bool, expected: bool | str
) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.write_config(dump_config(config(train={"patience": before})))
    folder.write_result({"finished": True, "epochs_trained": 4, "stopped_early": ended_early})
    settings = config(train={"patience": now})
    if isinstance(expected, bool):
        assert is_result_of(folder, settings, ["train.patience"]) is expected
        expected = "type --accept-change train.patience"
        with pytest.raises(UserError, match=expected):
            is_result_of(folder, settings, [])
    else:
        with pytest.raises(UserError, match=expected):
            is_result_of(folder, settings, ["train.patience"])


@pytest.mark.parametrize("setting", ["train.patience=3", "train.final_weights=best", "evaluate.best_by=loss"])
def test_what_ends_a_run_and_what_it_keeps_changes_its_result(setting: str) -> None:
    section, name = setting.partition("=")[0].split(".")
    changed = changed_settings(config().model_dump(mode="json"), config(**{section: {name: json_of(setting)}}))
    with pytest.raises(UserError, match=f"--accept-change {section}.{name}"):
        refuse_changes(changed, [], data=None)
    refuse_changes(changed, [f"{section}.{name}"], data=None)


def json_of(setting: str) -> Any:
    value = setting.partition("=")[2]
    return int(value) if value.isdigit() else value


def test_the_config_of_another_release_is_not_compared(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.write_config("colour: red")
    folder.write_result({"finished": True})
    assert is_result_of(folder, config(), [])


@pytest.mark.parametrize(
    ("cursor", "num_epochs", "told"),
    [
        (Cursor(2, 0), 2, None),
        (Cursor(1, 10), 2, None),
        (Cursor(0, 0), 1, None),
        (Cursor(2, 1), 2, "a part of epoch 3. Type train.epochs=3 or more"),
        (Cursor(3, 0), 2, "epoch 3. Type train.epochs=3 or more"),
    ],
)
def test_epochs_that_were_trained_cannot_be_taken_back(cursor: Cursor, num_epochs: int, told: str | None) -> None:
    if told is None:
        refuse_fewer_epochs(cursor, num_epochs)
    else:
        with pytest.raises(UserError, match=f"train.epochs={num_epochs}, and the saved run has trained {told}"):
            refuse_fewer_epochs(cursor, num_epochs)


ARITHMETIC = {"global_batch": 8, "micro_batch": 4, "precision": "float32"}


@pytest.mark.parametrize(
    ("name", "now", "is_same"),
    [
        ("", {}, True),
        ("optim.lr", {}, True),
        ("ema.decay", {}, True),
        ("train.epochs", {}, True),
        ("train.patience", {}, True),
        ("train.final_weights", {}, True),
        ("evaluate.best_by", {}, True),
        ("data.root", {}, True),
        ("evaluate.batch", {}, True),
        ("model.args", {}, False),
        ("data.mean", {}, False),
        ("augment.flip", {}, False),
        ("loss.name", {}, False),
        ("train.num_threads", {}, False),
        ("evaluate.flip_average", {}, False),
        ("", {"micro_batch": 2}, False),
        ("", {"global_batch": 16}, False),
        ("", {"precision": "bfloat16"}, False),
    ],
)
def test_which_changes_change_what_the_model_computes(name: str, now: dict[str, Any], is_same: bool) -> None:
    differences = {name: (1, 2)} if name else {}
    assert is_same_trial({**ARITHMETIC, "more": 1}, {**ARITHMETIC, **now}, differences) is is_same
