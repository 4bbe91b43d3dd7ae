"""A whole measurement of a small config in this process."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from signs_dist.benching import run
from signs_dist.benching.run import bench, with_whole_images
from signs_dist.environment.core_wait import CoreWait
from signs_dist.errors import UserError
from signs_dist.tuning.rounds import Timing
from tests.training.parts import make_config, make_prepared, make_process


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where checkpoints are written that nobody keeps."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    within = functools.partial(tempfile.TemporaryDirectory, dir=folder)
    monkeypatch.setattr(run, "tempfile", SimpleNamespace(TemporaryDirectory=within))
    return folder


def test_all_is_measured_and_nothing_is_left(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The network of this config takes whole images only.
    settings = ("train.precision=float32", "train.num_threads=1", "train.progressive_sizes=[[0.5, 0.5]]")
    config = make_config(tmp_path, *settings)
    monkeypatch.setattr(run, "fitting_batch", lambda batch, *_: batch)  # on a busy machine a step may take long
    figures = bench(config, make_process(usable_cores=1), seconds=0.01)
    assert (figures.setup.batch, figures.setup.wanted_batch, figures.setup.automatic) == (8, 8, [])
    assert figures.setup.has_sizes
    assert figures.setup.chosen in figures.variants
    assert {variant.channels_last for variant in figures.variants} == {True, False}
    assert {variant.num_threads for variant in figures.variants} == {1}
    assert list(figures.loading) == [0, 1]
    assert list(figures.parts) == ["forward and loss", "backward", "optimizer", "images, augmented"]
    assert figures.saving.steps_between == 4
    assert figures.sums is None
    assert figures.trace.num_steps == 3
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "colours", "temporary"]


def test_images_on_the_device_are_loaded_without_workers(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, "train.precision=float32", "data.storage=device", "data.num_workers=auto")
    monkeypatch.setattr(run, "fitting_batch", lambda batch, *_: batch)
    figures = bench(config, make_process(usable_cores=2), seconds=0.01)
    assert list(figures.loading) == [0]
    assert (figures.setup.storage, figures.setup.device_bytes) == ("device", None)


def test_images_have_one_size_for_the_network_alone_and_in_training(tmp_path: Path) -> None:
    config = make_config(tmp_path, "train.progressive_sizes=[[0.5, 0.5]]", "data.image_size=16")
    whole = with_whole_images(config)
    assert (whole.train.progressive_sizes, whole.data) == ((), config.data)
    assert whole.train.epochs == config.train.epochs


def test_an_error_leaves_nothing(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure_loading", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench(make_config(tmp_path, "data.num_workers=1"), make_process(), seconds=0.01)
    assert list(temporary.iterdir()) == []


def test_a_signal_that_ends_the_process_at_once_removes_the_folder(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Callable[[int], None]] = []
    monkeypatch.setattr(run, "call_at_end", called.append)
    monkeypatch.setattr(run, "no_call_at_end", called.remove)
    with run._passing_folder() as folder:
        (folder / "checkpoints").mkdir()
        called[0](130)
        assert list(temporary.iterdir()) == []
    assert called == []


def test_a_batch_that_takes_too_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "seconds_per_image", lambda *_: 0.01)
    figures = bench(make_config(tmp_path), make_process(usable_cores=1), seconds=0.09)
    assert (figures.setup.batch, figures.setup.wanted_batch) == (2, 8)
    assert figures.saving.steps_between == 16  # 4 steps of 8 images


def test_data_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.global_batch=64 is more than the 36 training images"):
        bench(make_config(tmp_path, "train.global_batch=64"), make_process(), seconds=0.01)


def timing(seconds: float, num_steps: int) -> Timing:
    return Timing(seconds, seconds, seconds, num_steps, 5)


def test_the_cost_of_a_save_is_what_a_round_takes_longer(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, "checkpoint.every_steps=3")
    saving = run._cost_of_saves(timing(0.1, 10), timing(0.14, 5), prepared)
    assert (saving.seconds, saving.steps_between) == (pytest.approx(0.2), 3)
    assert run._cost_of_saves(timing(0.1, 10), timing(0.09, 5), prepared).seconds == 0.0


def test_the_wait_for_cores_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoreWait, "read", lambda: CoreWait(20.0, {1: 5.0}))
    assert run._core_wait_share(CoreWait(10.0, {1: 2.5})) == pytest.approx(0.25)
    assert run._core_wait_share(None) is None
