"""The fixed micro-batch: what its digest depends on, and what it leaves behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.distributed.arithmetic import Fingerprint
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.training.arithmetic_probe import (
    find_subject,
    fixed_images,
    fixed_labels,
    name_only,
    probe_arithmetic,
    tell_of_ranks,
)
from tests.training.parts import make_process, make_stepper, shown

EXACT = ("exact=true", "train.precision=float32", "model.name=signs_net")


def probe(folder: Path, *settings: str) -> Fingerprint:
    stepper, _ = make_stepper(folder, *settings)
    return probe_arithmetic(stepper.make_trial(), stepper.prepared)


@pytest.mark.parametrize(
    ("settings", "is_comparable", "is_same"),
    [
        (("train.micro_batch=2",), True, True),
        (("train.micro_batch=4", "train.global_batch=4", "optim.lr=0.5"), True, True),
        (("train.micro_batch=4", "augment.flip=0.5"), True, True),
        (("train.micro_batch=4", "seed=1"), False, False),
        (("train.micro_batch=4", "train.precision=bfloat16"), False, False),
        (("train.micro_batch=4", "train.channels_last=false"), False, False),
        (("train.micro_batch=4", "loss.label_smoothing=0.2"), False, False),
    ],
)
def test_only_what_is_computed_changes_it(
    tmp_path: Path, settings: tuple[str, ...], is_comparable: bool, is_same: bool
) -> None:
    names = {setting.partition("=")[0] for setting in settings}
    common = [setting for setting in EXACT if setting.partition("=")[0] not in names]
    one, other = probe(tmp_path, *EXACT, "train.micro_batch=4"), probe(tmp_path, *common, *settings)
    assert one.is_comparable(other) == is_comparable
    assert (one.digest == other.digest) == is_same


def test_it_leaves_weights_buffers_draws_and_gradients_as_they_were(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *EXACT, "train.micro_batch=4", "model.args={dropout: 0.5}")
    trial, model = stepper.make_trial(), stepper.state.model
    before, draws = weights_sha256(plain_weights(model)), torch.get_rng_state()
    first = probe_arithmetic(trial, stepper.prepared)
    assert weights_sha256(plain_weights(model)) == before  # with the running averages of BatchNorm
    assert torch.equal(torch.get_rng_state(), draws)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert probe_arithmetic(trial, stepper.prepared) == first


def test_other_arithmetic_gives_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, _ = make_stepper(tmp_path, *EXACT, "train.micro_batch=4")
    trial = stepper.make_trial()
    right = probe_arithmetic(trial, stepper.prepared)
    # A kernel that rounds the last bit of one gradient otherwise.
    weight = next(iter(stepper.state.model.parameters()))
    handle = weight.register_hook(lambda gradient: torch.nextafter(gradient, gradient + 1))
    wrong = probe_arithmetic(trial, stepper.prepared)
    handle.remove()
    assert right.is_same(wrong) is False


def test_images_by_whole_numbers_alone() -> None:
    images = fixed_images(8, torch.device("cpu"))
    assert images.shape == (4, 3, 8, 8)
    assert images.dtype == torch.float32
    assert images.flatten()[:3].tolist() == [-1.0, 0.236053466796875, -0.52789306640625]
    assert -1 <= images.min() < -0.9 < 0.9 < images.max() < 1


def test_labels_in_the_form_of_the_run() -> None:
    assert fixed_labels(3, torch.zeros(2, dtype=torch.int64)).tolist() == [0, 1, 2, 0]
    assert fixed_labels(2, torch.zeros(2, 2)).tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_fast_mode_has_names_only(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path)
    found = name_only(stepper.prepared, process.strategy.device)
    assert found.names["threads"] == str(stepper.prepared.way.num_threads)
    assert (found.subject, found.digest) == ("", "")
    assert find_subject(stepper.prepared, are_shares=False) != find_subject(stepper.prepared, are_shares=True)


def test_in_fast_mode_other_machines_are_told_of() -> None:
    class Neighbours(SingleProcess):
        def gather_values(self, value: Any, phase: str) -> list[Any]:
            other = Fingerprint({"torch": "2.11.0"}).as_dict()
            return [value, {**value, "host": "n2", "fingerprint": other}]

    process = make_process(quiet=False)
    own = Fingerprint({"torch": "2.14.1"})
    tell_of_ranks(own, process)
    assert shown(process) == ""
    tell_of_ranks(own, dataclasses.replace(process, strategy=Neighbours(torch.device("cpu"))))
    text = " ".join(shown(process).split())
    assert "rank 1 on n2 (cpu): torch 2.14.1 → 2.11.0. exact=true refuses other bits" in text
