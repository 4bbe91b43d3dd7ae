"""Fixtures for all tests."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from slurm.cluster_plan import ClusterPlan
from slurm.dev_cluster import DevCluster
from tests import warm_processes
from tests.processes import environment
from tests.schedule import FilesTogether, in_order
from tests.shared import shared_folder
from tests.slurm_cluster import Site, short_folder

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from the tests that know nothing of them: some imitate GPUs, all expect a run on the CPU.

    The tests train hundreds of times: only those of the report let a training write its report.
    """
    os.environ["SIGNS_DIST_REPORT"] = "0"
    _let_torch_log_to_the_root()
    if "gpu" not in config.option.markexpr.replace("not gpu", "") and torch.cuda.device_count():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _let_torch_log_to_the_root() -> None:
    """pytest adds two handlers to each logger that does not propagate, three times a test: torch has dozens of them."""
    for logger in logging.getLogger().manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.startswith("torch"):
            logger.propagate = True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether | None:
    """With `--dist loadfile`, as `make test` has it, tests go to the workers as tests/schedule.py says."""
    if config.option.dist != "loadfile":
        return None
    config.option.loadscopereorder = False  # by number of tests
    return FilesTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests first, those that wait between the others: see tests/schedule.py."""
    _leave_out_longer(config, items)

    def is_slow(item: pytest.Item) -> bool:
        """Without those of a GPU, which are skipped."""
        return item.get_closest_marker("slow") is not None and item.get_closest_marker("gpu") is None

    items[:] = [items[place] for place in in_order([(item.path.stem, is_slow(item)) for item in items])]


def _leave_out_longer(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests with the mark `longer` take minutes each: they run only where the marks to run name it."""
    if "longer" in config.option.markexpr:
        return
    longer = [item for item in items if item.get_closest_marker("longer") is not None]
    if longer:
        config.hook.pytest_deselected(items=longer)
        items[:] = [item for item in items if item not in longer]


def pytest_collection_finish() -> None:
    """Leave thousands of tests, and torch, out of later garbage collections: tests ask for those again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The published SIGNS photos at 64 x 64 pixels: train_signs (864) and val_signs (216)."""
    folder = REPOSITORY.parent / "shared" / "data" / "64x64_SIGNS"
    if not folder.is_dir():
        pytest.skip(f"the real SIGNS photos are not in {folder}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _control_c_works() -> None:
    """A shell's background job ignores Ctrl-C, and a job of `nohup` SIGHUP; so would all that it starts."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _one_thread_each() -> Iterator[None]:
    """Tests run side by side: more than one thread each, here and in what they start, would only take turns.

    For the whole session, as fixtures of a module start processes too. OpenMP's threads wait by spinning: on a busy
    machine a second one costs more than it computes.
    """
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def _warm_processes(_one_thread_each: None, _control_c_works: None) -> Iterator[None]:
    """Commands that tests start are forks of an interpreter that has imported PyTorch: see tests/warm_processes.py."""
    warm_processes.install()
    yield
    warm_processes.uninstall()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tests with the mark `cold`, and the fixtures that are made for them, start new interpreters."""
    with warm_processes.cold() if item.get_closest_marker("cold") else contextlib.nullcontext():
        return (yield)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """A test that leaves a process, an environment variable or exact mode's kernels behind fails."""
    variables, before = dict(os.environ), _children()
    yield
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(mode=False)  # for the tests after this one
        raise AssertionError("the test left torch's deterministic kernels on: use exactness.arithmetic_kept")
    deadline = time.monotonic() + 5
    while (left := _children() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"the test left processes running: {left}"
    if (now := dict(os.environ)) != variables:
        changed = {name for name in {*variables, *now} if variables.get(name) != now.get(name)}
        # pytest's own, and what torch and the OpenMP library note down for their children.
        assert not {name for name in changed if not name.startswith(("PYTEST_", "KMP_", "TORCH"))}, changed


def _children() -> set[tuple[int, str]]:
    """(process id, command line) of this process's children, without helpers that are to stay: see `_is_helper`."""
    found = set()
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208  (thousands of times: without objects of pathlib)
        for child in _read(f"/proc/self/task/{thread}/children").split():
            command = _read(f"/proc/{child}/cmdline").replace("\0", " ").strip()
            if command and not _is_helper(int(child), command):
                found.add((int(child), command))
    return found


def _is_helper(pid: int, command: str) -> bool:
    """Whether a child is one of multiprocessing's helpers, or the server of warm processes."""
    return pid == warm_processes.server_pid() or "resource_tracker" in command or "forkserver" in command


def _read(path: str) -> str:
    """The text of a file in /proc, empty when the thread or process it tells of has ended meanwhile."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture(scope="session")
def cluster() -> Iterator[DevCluster]:
    """One for all tests of a worker: each takes back what it changes, and `site` ends its jobs."""
    with short_folder() as folder:
        cluster = DevCluster(folder)
        cluster.up(ClusterPlan(Path(), num_nodes=4, num_gpus=2))
        try:
            yield cluster
        finally:
            cluster.down()


@pytest.fixture
def site(cluster: DevCluster, tmp_path: Path, real_photos: Path) -> Iterator[Site]:
    yield Site(cluster, tmp_path, real_photos)
    cluster.run("scancel", "--user", str(os.getuid()))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory, real_photos: Path) -> str:
    """The weights of plain python, trained once for all workers of a test run."""
    with shared_folder(tmp_path_factory, "one_process") as shared:
        site = Site(DevCluster(Path("/nowhere")), shared, real_photos)
        if not (shared / "run" / "result.json").exists():
            command = [sys.executable, "-m", "signs_dist.train", "--run-dir", "run", *site.settings()]
            ended = subprocess.run(command, cwd=shared, env=environment(), capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
    return str(site.result("run")["weights_sha256"])


@pytest.fixture
def some_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs by SLURM's names: submitit looks whether they are there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "sbatch"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder
