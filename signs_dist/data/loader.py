"""DataLoaders whose batches follow the plan."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from signs_dist.config.settings import DataConfig
from signs_dist.data.batches import Batch
from signs_dist.data.loader_wait import BatchWait, explain_failure, explain_start, send_errors
from signs_dist.data.plan import BatchKey, EpochPlan, Shard
from signs_dist.data.samplers import EvaluationSampler, PlanBatchSampler, PlanSampler
from signs_dist.errors import LoadingError, UserError
from signs_dist.monitoring.signals import end_for_parent_only, sigterm_blocked

OnStuck = Callable[[LoadingError], None]
"""Called in another thread when the main thread hangs in a read, which nothing can interrupt."""


@dataclasses.dataclass(frozen=True)
class LoaderSettings:
    """How a DataLoader works.

    Attributes:
        num_workers: worker processes; 0: the main process loads.
        prefetch: batches that each worker loads ahead.
        pin_memory: whether batches are copied to page-locked memory, for a GPU.
        timeout_seconds: how long a batch may take until the loader gives up.
    """

    num_workers: int
    prefetch: int
    pin_memory: bool
    timeout_seconds: float = DataConfig.model_fields["timeout_seconds"].default


def choose_loader_settings(
    config: DataConfig, *, usable_cores: int, on_gpu: bool, per_sample_work: bool
) -> LoaderSettings:
    """Settle the `auto` values of the config.

    Args:
        config: the data section.
        usable_cores: CPU cores this process may use.
        on_gpu: whether the model is on a GPU.
        per_sample_work: whether fetching decodes or transforms each image, so that workers have something to do.
    """
    if config.storage == "device":  # nothing is left to a worker, and nothing to be copied from page-locked memory
        return LoaderSettings(0, config.prefetch, pin_memory=False, timeout_seconds=config.timeout_seconds)
    if config.num_workers != "auto":
        num_workers = config.num_workers
    else:
        # On a CPU the main process computes too, and keeps one core.
        spare = usable_cores if on_gpu else max(1, usable_cores - 1)
        num_workers = min(spare, 16) if per_sample_work else 0
    pin_memory = on_gpu and config.pin_memory is not False  # without a GPU it has no use, and torch warns
    return LoaderSettings(num_workers, config.prefetch, pin_memory, config.timeout_seconds)


class TrainLoader:
    """The training batches of one shard: `loader.epoch(3)` iterates over epoch 3, from any of its steps.

    Args:
        dataset: gives a batch by its `BatchKey`.
        plan: which samples at which step.
        shard: which of them this process loads.
        settings: how to load.

    Attributes:
        rank: of this process.
        on_stuck: called when this process itself loads and a batch takes longer than the limit. With worker processes
            the loader raises `LoadingError` instead.
    """

    def __init__(self, dataset: Dataset[Any], plan: EpochPlan, shard: Shard, settings: LoaderSettings) -> None:
        self.plan = plan
        self.on_stuck: OnStuck | None = None
        self._settings, self.rank = settings, shard.index
        self._sampler = PlanSampler(dataset, plan, shard)
        self._loader: DataLoader[Any] | None = _data_loader(dataset, PlanBatchSampler(self._sampler), settings)
        self._pass = _no_batches()

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Any, None, None]:
        """The batches of an epoch, one a step, from `start_step` on. No batch before it is loaded."""
        assert self._loader is not None, "the loader is closed"
        self._sampler.set_epoch(epoch, start_step)
        wait = BatchWait(
            lambda number: f"epoch {epoch + 1}, step {start_step + number}",
            rank=self.rank,
            timeout_seconds=self._settings.timeout_seconds,
            on_stuck=self.on_stuck,
        )
        self._pass = _unwrapped(_begin(self._loader), wait)
        return self._pass

    def close(self) -> None:
        """End the worker processes. They end when nothing refers to the DataLoader and its iterator any more."""
        self._loader = None
        self._pass.close()


class EvaluationLoader:
    """Every image of a split exactly once over all shards."""

    def __init__(
        self, dataset: Dataset[Batch], num_samples: int, batch: int, shard: Shard, settings: LoaderSettings
    ) -> None:
        sampler = EvaluationSampler(num_samples, batch, shard)
        self.on_stuck: OnStuck | None = None  # as in TrainLoader
        self._settings, self._rank = settings, shard.index
        self._loader: DataLoader[Any] | None = _data_loader(dataset, sampler, settings)
        self._pass = _no_batches()

    def __iter__(self) -> Iterator[Batch]:
        assert self._loader is not None, "the loader is closed"
        wait = BatchWait(
            lambda number: f"batch {number} of the evaluation",
            rank=self._rank,
            timeout_seconds=self._settings.timeout_seconds,
            on_stuck=self.on_stuck,
        )
        self._pass = _unwrapped(_begin(self._loader), wait)
        return self._pass

    def close(self) -> None:
        """End the worker processes, as `TrainLoader.close`."""
        self._loader = None
        self._pass.close()


class _ErrorsAsValues(Dataset[Any]):
    """Returns a `UserError` instead of raising it.

    If a worker raises an error, torch raises a RuntimeError with the text of a traceback in the main process. A
    returned error arrives unchanged, with the name of the broken image.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: BatchKey) -> Any:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


def _no_batches() -> Generator[Any, None, None]:
    yield from ()


def _begin(loader: DataLoader[Any]) -> Iterator[Any]:
    """A pass over the data. The first one starts the worker processes."""
    try:
        with sigterm_blocked():  # workers inherit it, and so do the threads that torch starts in them first
            return iter(loader)
    except OSError as error:
        raise explain_start(error, loader.num_workers) from error


def _unwrapped(results: Iterator[Any] | None, wait: BatchWait) -> Generator[Any, None, None]:
    assert results is not None
    result: Any = None
    workers = getattr(results, "_workers", [])  # torch has no public name for them
    try:
        while True:
            try:
                with wait.waiting([worker.pid for worker in workers]):
                    result = next(results)
            except StopIteration:
                return
            except RuntimeError as error:
                explained = explain_failure(error, workers, wait.timeout_seconds)
                if explained is None:
                    raise
                raise explained from error.with_traceback(None)  # its frames would keep the workers
            if isinstance(result, (UserError, LoadingError)):
                raise result
            yield result
    finally:
        wait.close()
        # The traceback of an error keeps this frame. If the frame kept the error, or the workers, they would end by
        # garbage collection only, and slowly: five seconds each.
        result = results = None
        workers = []


def _data_loader(
    dataset: Dataset[Any], sampler: PlanBatchSampler | EvaluationSampler, settings: LoaderSettings
) -> DataLoader[Any]:
    return DataLoader(
        _ErrorsAsValues(dataset),
        sampler=sampler,
        batch_size=None,  # each key of the sampler is a whole batch
        num_workers=settings.num_workers,
        prefetch_factor=settings.prefetch if settings.num_workers else None,
        persistent_workers=settings.num_workers > 0,
        pin_memory=settings.pin_memory,
        timeout=settings.timeout_seconds if settings.num_workers else 0,
        worker_init_fn=_start_worker if settings.num_workers else None,
        generator=torch.Generator(),  # without it, a pass over the data would draw from the caller's generator
        collate_fn=_as_is,
    )


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    """Set up a worker: one thread, stop signals ignored. It needs no seed: randomness depends on the sample.

    Stop signals to a whole job reach its workers too. The main process ends them itself, after it has saved.
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    end_for_parent_only()
    send_errors()
    torch.set_num_threads(1)
