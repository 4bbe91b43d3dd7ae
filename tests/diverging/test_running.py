"""Training two sides step by step: faults of one process each are named, and what is told of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.distributed.step_sync import ExactSync
from signs_dist.diverging.orders import read_words
from signs_dist.diverging.running import compare_images, describe_before
from signs_dist.learning.weight_average import WeightAverage
from tests.diverging.faults import BY_SETTINGS, IN_LAYERS, Fault, base_settings, net
from tests.diverging.offline import Recorded, find_place, record
from tests.sets import write_colour_set

SOME = [
    *(fault for fault in IN_LAYERS if fault.processes == (1, 1) and fault.step == 2),
    Fault(net("shaky@conv2", 2, 5), "forward", 2, 5, "conv2", unsteady=True),
    Fault(net("reduction@bn1.weight", 2), "reduction", 2, None, "bn1", "bn1.weight"),
    Fault(net("average@fc.bias", 2), "average", 2),
    *(
        fault
        for fault in BY_SETTINGS
        if fault.processes == (1, 1) and fault.right in ("optim.lr=0.05", "loss.label_smoothing=0.2")
    ),
]
NUM_STEPS = 2
WANTED = (None, 0, 1, 5)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 8, "val": 2})


@pytest.fixture(autouse=True)
def toolkit_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some faults change the toolkit in this process."""
    monkeypatch.setattr(ExactSync, "finish", ExactSync.finish)
    monkeypatch.setattr(WeightAverage, "update", WeightAverage.update)


@pytest.fixture(scope="module")
def right_side(colours: Path) -> Recorded:
    return record(base_settings(colours), NUM_STEPS, WANTED)


@pytest.mark.parametrize("fault", SOME, ids=lambda fault: fault.name)
def test_a_fault_is_named(fault: Fault, colours: Path, right_side: Recorded) -> None:
    settings = [*base_settings(colours), *read_words(fault.right, "--right")[1]]
    place = find_place(right_side, record(settings, NUM_STEPS, WANTED))
    assert place is not None
    assert (place.direction, place.number, place.micro_batch) == (fault.direction, fault.step, fault.micro_batch)
    assert not fault.layer or place.layer == fault.layer
    assert not fault.entry or fault.entry in place.entries
    assert bool(place.unsteady) == fault.unsteady
    assert not place.vanished


def test_a_run_repeats_its_bits_also_after_a_step_was_done_again(colours: Path, right_side: Recorded) -> None:
    plain = record(base_settings(colours), NUM_STEPS, ())
    assert find_place(right_side, plain) is None
    assert plain.script.details == {}
    assert describe_before(right_side.start, plain.start).weights == []


def test_images_that_differ() -> None:
    ours = [["a.jpg", 0, "1"], ["b.jpg", 1, "2"], ["c.jpg", 1, "3"]]
    theirs = [["b.jpg", 2, "2"], ["c.jpg", 1, "x"], ["d.jpg", 0, "4"]]
    assert compare_images(ours, theirs) == [
        "a.jpg: only in A",
        "b.jpg: class 1 in A, 2 in B",
        "c.jpg: other contents",
        "d.jpg: only in B",
    ]
