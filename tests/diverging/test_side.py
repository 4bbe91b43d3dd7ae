"""The program of a side: what it opens, and what it tells before its first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.folder import index_data_set
from signs_dist.diverging import side
from signs_dist.diverging.orders import SideOrder
from signs_dist.diverging.side import list_images, open_run
from signs_dist.retraining.recorded_run import BEGINNING
from tests.diverging.faults import base_settings
from tests.diverging.offline import record
from tests.sets import write_colour_set


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 6, "val": 2})


def test_a_config_begins_at_its_beginning_without_what_hides_layers(colours: Path) -> None:
    settings = [*base_settings(colours), "exact=false", "train.compile=true", "train.autotune=true"]
    order = SideOrder("A", ("", 0), "", None, None, settings, None, "cpu", 0, 20)
    config, run, start, notes = open_run(order)
    assert (config.train.compile, config.train.graph, config.train.autotune) == (False, False, False)
    assert (run.micro_batch, start, notes) == (2, BEGINNING, [])


def test_what_a_side_tells_before_its_first_step(colours: Path) -> None:
    start = record(base_settings(colours), 1, ()).start
    assert (start.is_exact, start.precision, start.steps_done) == (True, "float32", 0)
    assert start.plan == {"images": 18, "global_batch": 16, "micro_batch": 2, "steps": 1}
    assert start.settings["ema.decay"] == 0.9
    assert Path(start.toolkit) == Path(side.__file__).resolve().parents[2]
    assert list(start.weights)[1:3] == ["conv1.weight", "conv1.bias"]
    assert start.arithmetic["digest"]


def test_images_are_listed_with_their_contents(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_data_set(colours)["train"]
    listed = list_images(index)
    assert listed is not None
    assert [name for name, _, _ in listed] == list(index.paths)
    assert len({content for _, _, content in listed}) == len(index)
    monkeypatch.setattr(side, "MOST_READ", 3)
    assert {content for _, _, content in list_images(index) or ()} == {""}
    monkeypatch.setattr(side, "MOST_LISTED", 3)
    assert list_images(index) is None
