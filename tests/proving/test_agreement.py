"""Whether the files of a run agree with each other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from signs_dist.proving.agreement import compare_receipt, compare_settings, find_disagreements
from signs_dist.results.receipt import make_receipt, sealed, with_proof
from signs_dist.run_folder.records import StateLine
from tests.proving.claims import SUBJECT, chained, epoch_line, some_lines, some_result


def faults(result: dict[str, Any], subject: Any = SUBJECT) -> list[str]:
    return find_disagreements(some_lines(), subject, result)


def test_files_that_agree() -> None:
    assert faults(some_result()) == []
    best = {f"best_{name}": getattr(epoch_line(2), name) for name in ("val_loss", "val_accuracy", "val_macro_f1")}
    lines = chained(epoch_line(1), epoch_line(2), epoch_line(3, val_accuracy=0.15))
    later = some_result(best_epoch=2, val_accuracy=0.15, **best)
    assert find_disagreements(lines, SUBJECT, later) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"val_accuracy": 0.9}, "val_accuracy: 0.9 in result.json, 0.3 in metrics.jsonl for epoch 3"),
        ({"best_val_loss": 0.1}, "best_val_loss: 0.1 in result.json"),
        ({"steps": 13}, "result.json says 13 steps in 3 epochs, and the chain ends after step 12 of epoch 3"),
        ({"epochs_trained": 2}, "result.json says 12 steps in 2 epochs"),
        ({"best_epoch": "x"}, "names no epoch of the run as its best"),
        ({"best_epoch": 9}, "names no epoch of the run as its best"),
        ({"weights": {"kind": "last", "epoch": 7}}, "names no epoch of the run whose weights it has"),
        ({"weights": {"epoch": [3]}}, "names no epoch of the run whose weights it has"),
        ({"weights": None}, "names no epoch of the run whose weights it has"),
        (
            {
                "best_epoch": 1,
                "best_val_accuracy": epoch_line(1).val_accuracy,
                "best_val_loss": epoch_line(1).val_loss,
            },
            "says that epoch 1 is the best, and epoch 2 is better in metrics.jsonl",
        ),
    ],
)
def test_a_result_that_says_something_else(changes: dict[str, Any], told: str) -> None:
    assert told in " ".join(faults(some_result(**changes)))


@pytest.mark.parametrize("subject", [None, {}, {**SUBJECT, "config": "other"}])
def test_digests_that_were_changed(subject: Any) -> None:
    assert any("manifest.json has no digests" in fault for fault in faults(some_result(), subject))


def test_a_chain_of_something_else() -> None:
    lines = chained(epoch_line(1), epoch_line(2), epoch_line(3), subjects={12: "other"})
    assert find_disagreements(lines, SUBJECT, some_result()) == [
        "the chain is of other settings, images or code than manifest.json says"
    ]


def test_an_epoch_has_one_end() -> None:
    lines = chained(epoch_line(1), epoch_line(2, step=7, val_accuracy=0.99), epoch_line(2), epoch_line(3))
    assert "metrics.jsonl has 2 lines for the end of epoch 2" in find_disagreements(lines, SUBJECT, some_result())


def settings(epochs: int = 3, patience: int | None = None, final_weights: str = "last", every: int = 1) -> Any:
    train = {"epochs": epochs, "patience": patience, "final_weights": final_weights}
    return {"train": train, "evaluate": {"every_epochs": every}}


@pytest.mark.parametrize(
    ("own", "changes", "told"),
    [
        (settings(), {}, ""),
        (settings(final_weights="best"), {"best_epoch": 2, "weights": {"kind": "best", "epoch": 2}}, ""),
        (settings(9, patience=2), {"epochs": 9, "best_epoch": 1}, ""),
        (
            settings(9, patience=3),
            {"epochs": 9, "best_epoch": 1},
            "ends after epoch 3, and its settings let it train 9",
        ),
        (settings(9, patience=2, every=2), {"epochs": 9, "best_epoch": 1}, "ends after epoch 3"),
        (settings(9), {"epochs": 9}, "ends after epoch 3, and its settings let it train 9 epochs"),
        (settings(9), {}, "epochs: 3 in result.json, 9 in the settings"),
        ({"train": {}}, {"epochs": 3}, "epochs: 3 in result.json, 20 in the settings"),
        (settings(), {"best_by": "loss"}, "best_by: loss in result.json, accuracy in the settings"),
        (settings(), {"weights": {"kind": "last", "epoch": 2}}, "and train.final_weights is last"),
        (settings(), {"weights": {"kind": "best", "epoch": 3}}, "and train.final_weights is last"),
    ],
)
def test_a_result_is_that_of_the_settings(own: Any, changes: dict[str, Any], told: str) -> None:
    found = compare_settings(own, {**some_result(), **changes})
    assert told in " ".join(found)
    assert bool(told) == bool(found)


def test_a_number_that_was_changed_breaks_the_chain() -> None:
    lines = some_lines()
    lines[0] = dataclasses.replace(lines[0], train_loss=0.1)
    assert "step 4: the chain breaks" in find_disagreements(lines, SUBJECT, some_result())[0]
    lines = [
        dataclasses.replace(line, state="0") if isinstance(line, StateLine) and line.step == 8 else line
        for line in some_lines()
    ]
    assert "step 8: the chain breaks" in find_disagreements(lines, SUBJECT, some_result())[0]


def receipt(**config: Any) -> dict[str, Any]:
    return make_receipt({"optim": {"lr": 0.1, **config}}, {"subject": SUBJECT}, some_lines(), some_result(), [1, 2])


def test_a_receipt_is_compared_with_the_folder_without_its_proofs() -> None:
    assert compare_receipt(receipt(), receipt()) == []
    assert compare_receipt(with_proof(receipt(), {"verdict": "PASS"}), receipt()) == []


def test_a_receipt_that_says_something_else_is_named_by_its_entry() -> None:
    assert compare_receipt(receipt(lr=0.2), receipt()) == ["receipt.json and the run folder differ: config.optim.lr"]
    changed = receipt()
    changed["chain"][1]["train_loss"] = 0.5
    assert compare_receipt(sealed(changed), receipt()) == [
        "receipt.json and the run folder differ: chain[1].train_loss"
    ]


def test_a_damaged_receipt_is_told() -> None:
    damaged = with_proof(receipt(), {"verdict": "FAIL"})
    damaged["proved"][0]["verdict"] = "PASS"
    assert compare_receipt(damaged, receipt()) == ["receipt.json was changed: its entries do not have its SHA-256"]
