from __future__ import annotations

import dataclasses
import gc
import itertools
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from signs_dist.config.settings import DataConfig
from signs_dist.data.batches import Batch, FileBatches, PackedBatches
from signs_dist.data.folder import ImageIndex, index_split
from signs_dist.data.images import BadImageError
from signs_dist.data.loader import EvaluationLoader, LoaderSettings, TrainLoader, choose_loader_settings
from signs_dist.data.packed import open_packed
from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.distributed.exactness import threads_kept
from tests.sets import write_colour_set

pytestmark = [
    # Python 3.12 and later warn of any fork in a process with threads; torch's loader forks.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    # More workers than cores are meant here.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

HERE = LoaderSettings(num_workers=0, prefetch=2, pin_memory=False)


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    return index_split(write_colour_set(tmp_path / "photos", counts={"train": 10}), "train")  # 30 images


@pytest.fixture(params=["packed", "files"])
def source(request: pytest.FixtureRequest, index: ImageIndex) -> Dataset[Batch]:
    if request.param == "files":
        return FileBatches(index, 16)
    return PackedBatches(open_packed(index, 16, index.root.parent / "cache", num_threads=1))


def contents(batches: Iterator[Batch]) -> list[tuple[Any, ...]]:
    return [(batch.images.tolist(), batch.labels.tolist(), batch.samples.tolist(), *batch[3:]) for batch in batches]


def with_workers(num_workers: int) -> LoaderSettings:
    return dataclasses.replace(HERE, num_workers=num_workers)


def workers() -> list[Any]:
    gc.collect()
    return multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_are_the_same_with_workers_and_in_both_storages(
    index: ImageIndex, source: Dataset[Batch], num_workers: int
) -> None:
    plan = EpochPlan(30, 8, seed=0)
    reference = TrainLoader(FileBatches(index, 16), plan, Shard(), HERE)
    loader = TrainLoader(source, plan, Shard(), with_workers(num_workers))
    expected = [contents(reference.epoch(epoch)) for epoch in (0, 1)]
    assert [contents(loader.epoch(epoch)) for epoch in (0, 1)] == expected
    assert [batch[2:] for batch in expected[0]] == [
        (plan.samples(0, step, Shard()).tolist(), 0, step) for step in range(3)
    ]
    assert expected[0] != expected[1]
    assert contents(loader.epoch(1, start_step=2)) == expected[1][2:]
    assert contents(loader.epoch(1, start_step=3)) == []
    next(loader.epoch(0))  # left in the middle
    assert contents(loader.epoch(1)) == expected[1]
    del loader
    assert workers() == []


def test_shards_together_see_what_one_process_sees(source: Dataset[Batch]) -> None:
    plan = EpochPlan(30, 7, seed=0, micro_batch=1)
    alone = [batch.samples.tolist() for batch in TrainLoader(source, plan, Shard(), HERE).epoch(2)]
    parts = [
        [batch.samples.tolist() for batch in TrainLoader(source, plan, Shard(i, 3), HERE).epoch(2)] for i in range(3)
    ]
    assert [list(itertools.chain(*step)) for step in zip(*parts, strict=True)] == alone


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_sees_every_image_once_and_again_at_the_next_pass(source: Dataset[Batch], num_workers: int) -> None:
    loaders = [EvaluationLoader(source, 30, 4, Shard(index, 4), with_workers(num_workers)) for index in range(4)]
    for _ in range(2):
        samples = [sample for loader in loaders for batch in loader for sample in batch.samples.tolist()]
        assert samples == list(range(30))
    del loaders
    assert workers() == []


def test_a_shard_without_a_sample_evaluates_nothing(source: Dataset[Batch]) -> None:
    assert list(EvaluationLoader(source, 2, 4, Shard(3, 4), HERE)) == []


@pytest.mark.parametrize("in_the_middle", [False, True])
def test_workers_end_when_the_loader_goes(source: Dataset[Batch], in_the_middle: bool) -> None:
    loader = TrainLoader(source, EpochPlan(30, 2, 0), Shard(), with_workers(2))
    batches = loader.epoch(0)
    next(batches)
    assert len(workers()) == 2
    if not in_the_middle:
        assert len(list(batches)) == 14
        assert len(workers()) == 2  # they stay for the next epoch
    del loader, batches
    deadline = time.monotonic() + 10
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers() == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_photo_is_named_the_same_from_a_worker(index: ImageIndex, num_workers: int) -> None:
    broken = index.root / index.paths[13]
    broken.write_bytes(b"")
    loader = TrainLoader(FileBatches(index, 16), EpochPlan(30, 10, 0), Shard(), with_workers(num_workers))
    with pytest.raises(BadImageError) as caught:
        list(loader.epoch(0))
    assert str(caught.value) == (
        f"cannot read the image {broken}: the file has 0 bytes. Replace the file or remove it from the data set."
    )
    started = time.monotonic()
    del loader
    assert workers() == []
    assert time.monotonic() - started < 4  # workers that are only garbage-collected take 5 s each


class Breaking(Dataset[Batch]):
    def __getitem__(self, key: Any) -> Batch:
        raise ZeroDivisionError("a bug")

    def __len__(self) -> int:
        return 30


def test_a_bug_stays_an_error_of_its_kind() -> None:
    loader = TrainLoader(Breaking(), EpochPlan(30, 10, 0), Shard(), HERE)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(loader.epoch(0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, memory is page-locked")
@pytest.mark.parametrize("pin_memory", ["auto", True])
def test_page_locked_memory_without_a_gpu_is_left_out_without_a_warning(
    source: Dataset[Batch], pin_memory: Any
) -> None:
    config = DataConfig(pin_memory=pin_memory, num_workers=0)
    settings = choose_loader_settings(config, usable_cores=2, on_gpu=False, per_sample_work=True)
    batch = next(TrainLoader(source, EpochPlan(30, 8, 0), Shard(), settings).epoch(0))  # warnings are errors
    assert not batch.images.is_pinned()


@pytest.mark.parametrize(
    ("num_workers", "usable_cores", "on_gpu", "per_sample_work", "expected"),
    [
        ("auto", 8, False, False, 0),  # packed: nothing to do for workers
        ("auto", 8, True, False, 0),
        ("auto", 8, False, True, 7),  # the main process computes on one
        ("auto", 8, True, True, 8),
        ("auto", 1, False, True, 1),
        ("auto", 1, True, True, 1),
        ("auto", 96, True, True, 16),
        ("auto", 96, False, True, 16),
        (0, 8, True, True, 0),  # what is given is taken
        (3, 1, False, False, 3),
        (40, 8, True, True, 40),
    ],
)
def test_how_many_workers(
    num_workers: Any, usable_cores: int, on_gpu: bool, per_sample_work: bool, expected: int
) -> None:
    config = DataConfig(num_workers=num_workers, prefetch=5)
    settings = choose_loader_settings(config, usable_cores=usable_cores, on_gpu=on_gpu, per_sample_work=per_sample_work)
    assert (settings.num_workers, settings.prefetch) == (expected, 5)


@pytest.mark.parametrize(
    ("pin_memory", "on_gpu", "expected"),
    [
        ("auto", True, True),
        (True, True, True),
        (False, True, False),
        ("auto", False, False),
        (True, False, False),
        (False, False, False),
    ],
)
def test_when_memory_is_page_locked(pin_memory: Any, on_gpu: bool, expected: bool) -> None:
    config = DataConfig(pin_memory=pin_memory)
    settings = choose_loader_settings(config, usable_cores=4, on_gpu=on_gpu, per_sample_work=True)
    assert settings.pin_memory is expected


def test_signals_to_the_whole_job_leave_the_workers_alone(source: Dataset[Batch]) -> None:
    # A scheduler sends SIGTERM to all of a job: without its workers the main process could not finish its step.
    # With several threads, torch starts threads in a worker before it calls the function that sets it up.
    with threads_kept(4):
        loader = TrainLoader(source, EpochPlan(30, 2, 0), Shard(), with_workers(2))
        batches = loader.epoch(0)
        for _ in range(2):  # a batch of each worker: both have begun
            next(batches)
        pids = [worker.pid for worker in workers()]
        sender = "import os, sys; [os.kill(int(pid), int(sys.argv[1])) for pid in sys.argv[2:]]"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            subprocess.run([sys.executable, "-c", sender, str(int(number)), *map(str, pids)], check=True)
        assert len(list(batches)) == 13
        assert [worker.pid for worker in workers()] == pids
        # From the process that started them it is meant for them.
        for worker in workers():
            worker.terminate()
            worker.join(5)
            assert worker.exitcode == 0
    del batches
