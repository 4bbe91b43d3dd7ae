"""Which weights model.pt holds: the last or the best, alone, after a resume, with an average, in exact mode."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.errors import UserError
from signs_dist.models.weights import named_weights
from signs_dist.results.predictions import predictions_path, read_header
from signs_dist.training.final_weights import final_weights
from signs_dist.training.run_state import Best, RunState
from tests.training.parts import Made, make_stepper, make_trainer


def test_the_final_weights_are_a_copy_on_the_cpu(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "model.name=signs_net")
    weights = final_weights(stepper)
    own = stepper.state.model.state_dict()
    assert weights.keys() == {name for name in own if not name.endswith("num_batches_tracked")} | (
        weights.keys() & own.keys()
    )
    for name, tensor in weights.items():
        assert torch.equal(tensor, own[name])
        assert tensor.is_contiguous()
        assert tensor.data_ptr() != own[name].data_ptr()


def test_the_final_weights_are_the_average_where_there_is_one(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "ema.decay=0.9", "optim.lr=0.5")
    for _ in stepper.steps(Cursor(0, 0)):
        pass
    average = stepper.state.average
    assert average is not None
    weights, last = final_weights(stepper), stepper.state.model.state_dict()
    assert all(torch.equal(tensor, average.weights()[name]) for name, tensor in weights.items())
    assert any(not torch.equal(tensor, last[name]) for name, tensor in weights.items())


def train_with_best(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *settings: str, best: int = 2, run: str = "run"
) -> Made:
    """A trainer whose best epoch is this one, whatever its scores."""
    made = make_trainer(folder, "train.epochs=3", "optim.lr=0.5", *settings, run=run)
    monkeypatch.setattr(Best, "is_beaten_by", lambda self, score, best_by: self.epoch != best)
    return made


BEST = "train.final_weights=best"


def sha256_of(path: Path) -> str:
    return weights_sha256(torch.load(path, weights_only=True))


@pytest.mark.parametrize("settings", [(), ("ema.decay=0.9",), ("exact=true", "train.micro_batch=4")])
def test_model_pt_holds_the_best_weights_and_the_result_is_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    made = train_with_best(tmp_path, monkeypatch, BEST, *settings)
    result = made.trainer.train(time.perf_counter())
    content = read_checkpoint(made.saver.store.best)
    expected = content["ema"]["weights"] if content["ema"] else content["model"]
    assert content["cursor"] == {"epoch": 2, "step": 0}
    assert result["weights_sha256"] == sha256_of(made.folder.model)
    model = torch.load(made.folder.model, weights_only=True)
    assert all(torch.equal(model[name], tensor) for name, tensor in expected.items())
    assert (result["weights"], result["best_epoch"]) == ({"kind": "best", "epoch": 2}, 2)
    assert (result["val_accuracy"], result["val_loss"]) == (result["best_val_accuracy"], result["best_val_loss"])
    assert result["steps"] == 12
    for split in ("val", "test"):
        header = read_header(predictions_path(made.folder.path, split))
        assert header is not None
        assert (header.weights, header.epoch, header.step) == ("best", 2, 8)

    last = train_with_best(tmp_path, monkeypatch, *settings, run="last")
    other = last.trainer.train(time.perf_counter())
    assert (other["weights"], other["best_epoch"]) == ({"kind": "last", "epoch": 3}, 2)
    assert other["weights_sha256"] != result["weights_sha256"]


def test_a_run_that_was_killed_before_its_result_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (BEST, "exact=true", "train.micro_batch=4", "ema.decay=0.9")
    whole = train_with_best(tmp_path, monkeypatch, *settings)
    expected = whole.trainer.train(time.perf_counter())
    newest = whole.saver.newest()
    assert newest is not None
    whole.folder.result.unlink()
    predictions = predictions_path(whole.folder.path, "val").read_bytes()
    again = train_with_best(tmp_path, monkeypatch, *settings)
    again.run_state.restore(read_checkpoint(newest), again.stepper, newest)
    result = again.trainer.train(time.perf_counter())
    same = ("weights_sha256", "weights", "val_loss", "val_confusion", "test_loss", "best_epoch")
    assert {name: result[name] for name in same} == {name: expected[name] for name in same}
    assert predictions_path(again.folder.path, "val").read_bytes() == predictions


def test_the_last_epoch_may_be_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = train_with_best(tmp_path, monkeypatch, BEST, best=3)
    made.saver.store.folder.joinpath("best.pt").unlink(missing_ok=True)
    result = made.trainer.train(time.perf_counter())
    assert result["weights"] == {"kind": "best", "epoch": 3}
    assert result["weights_sha256"] == weights_sha256(named_weights(made.stepper.state.model))


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_without_the_checkpoint_of_the_best_epoch_the_command_to_type_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    made = train_with_best(tmp_path, monkeypatch, BEST)
    original = made.saver.wait

    def wait_and_damage() -> None:
        original()
        if made.run_state.cursor == Cursor(3, 0):
            store = made.saver.store
            store.best.unlink(missing_ok=True)
            if damage == "other":
                store._name(store.folder / "epoch-0001.pt", store.best)

    monkeypatch.setattr(made.saver, "wait", wait_and_damage)
    with pytest.raises(UserError, match=r"needs the checkpoint of epoch 2, the best") as told:
        made.trainer.train(time.perf_counter())
    assert str(told.value).endswith("train.final_weights=last --accept-change train.final_weights")
    assert not made.folder.result.exists()


def test_weights_saved_without_an_average_are_loaded_where_there_is_one_now(tmp_path: Path) -> None:
    from signs_dist.checkpointing.tensors import Copier
    from signs_dist.training.final_weights import put_evaluated_weights

    plain, _ = make_stepper(tmp_path)
    averaged, _ = make_stepper(tmp_path, "ema.decay=0.9", "seed=1")
    for source, target in ((plain, averaged), (averaged, plain)):
        for _ in source.steps(Cursor(0, 0)):
            pass
        content: dict[str, Any] = RunState(source.prepared.plan, 2).to_content(source, Copier(), None, {})
        expected = weights_sha256(final_weights(source))
        put_evaluated_weights(content, target, make_trainer(tmp_path).saver.store)
        assert weights_sha256(final_weights(target)) == expected
