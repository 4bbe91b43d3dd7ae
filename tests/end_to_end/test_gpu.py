"""What only a GPU can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from signs_dist.config.settings import AugmentConfig, DataConfig, LossConfig, OptimConfig
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.batches import Batch, PackedBatches
from signs_dist.data.device_batches import DeviceBatches, bytes_that_fit, find_free_bytes
from signs_dist.data.loader import TrainLoader, choose_loader_settings
from signs_dist.data.mixing import BatchMixer
from signs_dist.data.packed import PackedSplit
from signs_dist.data.plan import BatchKey, EpochPlan, MicroBatches, Shard
from signs_dist.distributed.rendezvous import join
from signs_dist.distributed.strategy import DataParallel, DistributedProcesses, SingleProcess, Summing
from signs_dist.environment.context import read_context
from signs_dist.errors import NonFiniteLossError
from signs_dist.export import main as export
from signs_dist.inference.trained_model import load_model
from signs_dist.learning.losses import build_loss
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.precision import Precision
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.loop import ForwardWithLoss, TrainingState, train_epoch
from tests.inference.runs import make_run
from tests.processes import REPOSITORY, finish, free_port, run, started, torchrun_command, train_command, wait_for
from tests.sets import write_colour_set

NUM_GPUS = torch.cuda.device_count()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(NUM_GPUS == 0, reason="needs a CUDA device"),
]
several_gpus = pytest.mark.skipif(NUM_GPUS < 2, reason="needs two CUDA devices")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 40, "val": 5})


def settings(root: Path, *more: str) -> list[str]:
    return [
        f"data.root={root}",
        f"data.cache={root}/cache",
        "data.image_size=32",
        "model.name=signs_net",
        "model.args={channels: 8, dropout: 0.3}",
        "train.epochs=2",
        "train.global_batch=16",
        "train.micro_batch=4",
        "--quiet",
        *more,
    ]


def result_of(command: list[str], folder: Path, name: str) -> dict[str, Any]:
    ended = run(command, folder, timeout=200)
    assert ended.code == 0, ended.err
    value = json.loads((folder / name / "result.json").read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
def test_one_gpu_in_exact_mode_repeats_bit_for_bit(colours: Path, tmp_path: Path, precision: str) -> None:
    arguments = settings(colours, "exact=true", f"train.precision={precision}")
    first, again = (result_of(train_command("--run-dir", name, *arguments), tmp_path, name) for name in ("a", "b"))
    assert first["weights_sha256"] == again["weights_sha256"]
    assert first["device"].startswith("cuda:0")


def test_a_loop_of_ones_own_repeats_bit_for_bit(tmp_path: Path) -> None:
    example = str(REPOSITORY / "examples" / "own_loop.py")
    first, again = (run([sys.executable, example, name], tmp_path) for name in ("a", "b"))
    assert first.code == 0, first.err
    assert first.out.startswith("36 steps, weights ")
    assert first.out == again.out


LOOP_WITH_A_BAD_LOSS = """
import torch, signs_dist as sd
from signs_dist.errors import NonFiniteLossError
with sd.connect(exact=True) as processes:
    assert processes.device.type == "cuda"
    model = torch.nn.Linear(2, 1).to(processes.device)
    step = sd.ExactStep(model, sd.EpochPlan(8, 4, seed=0, micro_batch=2), processes)
    state = torch.cuda.get_rng_state(processes.device)
    for part in step.parts(torch.ones(4, 2, device=processes.device)):
        part.backward(model(part.data).mean() * (float("nan") if part.number == 1 else 1))
    assert torch.equal(torch.cuda.get_rng_state(processes.device), state)
    try:
        step.finish()
    except NonFiniteLossError as error:
        print([row["step"] for row in error.found])
"""


def test_a_loss_that_is_not_finite_is_told_at_once_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    # In a new process: cuBLAS takes exact mode's setting before the first matrix product of a process only.
    ended = run([sys.executable, "-c", LOOP_WITH_A_BAD_LOSS], tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out == "[1]\n"


@pytest.mark.parametrize("at_once", ["log.every_steps=1", "checkpoint.every_steps=1", "log.every_steps=100"])
def test_a_loss_that_is_no_number_is_told(colours: Path, tmp_path: Path, at_once: str) -> None:
    arguments = settings(colours, "optim.lr=1e30", "train.precision=float32", at_once)
    ended = run(train_command("--run-dir", "run", *arguments), tmp_path)
    assert ended.code == 1
    rows = json.loads((tmp_path / "run" / "non_finite_loss.json").read_text())["micro_batches"]
    assert rows[0]["epoch"] == 1


@several_gpus
def test_any_number_of_gpus_gives_one_result(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "exact=true")
    one = result_of(train_command("--run-dir", "one", *arguments), tmp_path, "one")
    two = result_of(torchrun_command(2, "--run-dir", "two", *arguments), tmp_path, "two")
    assert one["weights_sha256"] == two["weights_sha256"]


@several_gpus
def test_data_parallel_trains_on_two(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "train.precision=float32")
    alone = result_of(train_command("--run-dir", "alone", *arguments), tmp_path, "alone")
    on_device = ("--dp", "--run-dir", "both", "data.storage=device")
    both = result_of(train_command(*on_device, *arguments), tmp_path, "both")
    assert both["strategy"] == "data_parallel"
    assert both["val_loss"] == pytest.approx(alone["val_loss"], rel=0.2)
    weights = torch.load(tmp_path / "both" / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in weights)


@several_gpus
def test_the_local_launcher_gives_each_process_its_gpu(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.local", "--gpus", "1,0", "--", "--run-dir", "run", *settings(colours)]
    result_of(command, tmp_path, "run")
    processes = json.loads((tmp_path / "run" / "manifest.json").read_text())["processes"]
    assert "physical 1" in processes[0]["device"]
    assert "physical 0" in processes[1]["device"]


# One process of the run, in this process.

GPU = torch.device("cuda", 0)
NUM_CLASSES = 5
NUM_IMAGES = 12
AUGMENTATIONS = AugmentConfig(
    flip=0.5,
    rotate_degrees=20,
    shift=0.1,
    scale=0.1,
    brightness=0.2,
    contrast=0.2,
    cutout=0.3,
    crop_scale=(0.5, 1.0),
    policy="randaugment",
    erase=0.5,
    erase_fill="noise",
    mixup=0.2,
    cutmix=1.0,
)
SLEEP_CYCLES = 2 * 10**9
"""A second or so on any GPU."""


def network(*, norm: bool = True, dropout: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * 36, NUM_CLASSES)).to(GPU)


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (NUM_IMAGES, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(NUM_IMAGES) % NUM_CLASSES
    return Batch(images.pin_memory(), labels.pin_memory(), torch.arange(NUM_IMAGES), 0, step)


def pinned_batches(num_steps: int) -> list[Batch]:
    return [batch(step) for step in range(num_steps)]


def state_of(
    strategy: SingleProcess,
    *,
    exact: bool = False,
    precision: str = "float32",
    optimizer: str = "adamw",
    lr: float = 0.01,
    norm: bool = True,
    dropout: float = 0.5,
) -> TrainingState:
    model, arithmetic = network(norm=norm, dropout=dropout), Precision(precision, "cuda")  # type: ignore[arg-type]
    forward = ForwardWithLoss(model, build_loss(LossConfig(), NUM_CLASSES), arithmetic)
    wrapped = strategy.wrap(forward, for_training=True, summing=Summing(exact=exact))
    return TrainingState(
        model=model,
        forward=wrapped,
        sync=strategy.sync(model, wrapped, MicroBatches(4, 3), (lambda: False, lambda: False), Summing(exact=exact)),
        num_classes=NUM_CLASSES,
        optimizer=build_optimizer(model, OptimConfig(name=optimizer, lr=lr)),  # type: ignore[arg-type]
        scaler=arithmetic.scaler(),
        learning_rate=lambda images_seen: lr,
        clip_norm=1.0,
        average=WeightAverage(model, 0.99),
        seed=3,
        pulse=Pulse(),
    )


def steps_of(state: TrainingState, batches: Iterable[Batch]) -> Iterator[Any]:
    augmenter = BatchAugmenter(AUGMENTATIONS, seed=3)
    mixer = BatchMixer(AUGMENTATIONS, 3, num_classes=NUM_CLASSES, micro_batch=2)
    prepare = ImagePreparer.create(DataConfig(), GPU, channels_last=True, augment=augmenter, mix=mixer)
    return train_epoch(state, batches, prepare, first_step=0, first_run_step=0)


def weights_after(state: TrainingState, num_steps: int = 3) -> list[Tensor]:
    list(steps_of(state, pinned_batches(num_steps)))
    state.sync.settle()
    return [tensor.detach().cpu() for tensor in state.model.state_dict().values()]


@pytest.fixture(scope="module")
def alone() -> Iterator[DistributedProcesses]:
    """A run of one process that talks to itself over NCCL, as several do."""
    context = dataclasses.replace(read_context(), master_address="127.0.0.1", master_port=free_port())
    group = join(context, GPU, rendezvous_seconds=20, timeout_seconds=30, pulse=Pulse())
    yield DistributedProcesses(GPU, group)
    group.close()


@pytest.fixture(params=["single", "data_parallel", "distributed"])
def strategy(request: pytest.FixtureRequest) -> SingleProcess:
    if request.param == "single":
        return SingleProcess(GPU)
    if request.param == "data_parallel":
        return DataParallel([GPU])
    found: SingleProcess = request.getfixturevalue("alone")
    return found


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [("float32", "adamw"), ("bfloat16", "sgd"), ("float32", "rmsprop")],  # float16's scaler may look at its infinities
)
def test_a_step_does_not_wait_for_the_gpu(strategy: SingleProcess, exact: bool, precision: str, optimizer: str) -> None:
    if exact and isinstance(strategy, DataParallel):
        pytest.skip("refused: see test_strategy")
    state = state_of(strategy, exact=exact, precision=precision, optimizer=optimizer)
    steps = steps_of(state, pinned_batches(8))
    for _ in range(4):  # memory, kernels and libraries are there after that
        next(steps)
    require_no_wait(steps)


def require_no_wait(steps: Iterator[Any]) -> None:
    """Do three steps, and fail if one makes the host wait for the GPU."""
    torch.cuda.synchronize()
    with waiting_is_an_error():
        for _ in range(2):
            next(steps)
    torch.cuda.synchronize()
    # Copies from memory that the driver has to stage wait too, and that mode does not tell of them.
    torch.cuda._sleep(SLEEP_CYCLES)  # type: ignore[no-untyped-call]
    begun = time.perf_counter()
    next(steps)
    queued = time.perf_counter() - begun
    torch.cuda.synchronize()
    slept = time.perf_counter() - begun
    assert slept > 0.2
    assert queued < slept / 4


# Images on the device.


def random_split(num_images: int = 4 * NUM_IMAGES) -> PackedSplit:
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (num_images, 8, 8, 3), np.uint8)
    return PackedSplit(pixels, np.arange(num_images) % NUM_CLASSES, tuple("abcde"), "")


def loaded(source: Dataset[Batch], plan: EpochPlan, num_epochs: int) -> Iterator[Batch]:
    config = DataConfig(storage="device" if isinstance(source, DeviceBatches) else "packed")
    settings = choose_loader_settings(config, usable_cores=1, on_gpu=True, per_sample_work=False)
    loader = TrainLoader(source, plan, Shard(), settings)
    for epoch in range(num_epochs):
        yield from loader.epoch(epoch)


def test_images_gathered_on_the_gpu_are_those_of_the_host() -> None:
    split, plan = random_split(), EpochPlan(4 * NUM_IMAGES, NUM_IMAGES, seed=5, micro_batch=4)
    here, there = (loaded(source, plan, 2) for source in (PackedBatches(split), DeviceBatches(split, GPU)))
    for expected, found in zip(here, there, strict=True):
        assert found.images.device == found.labels.device == GPU
        assert found.samples.device.type == "cpu"
        assert torch.equal(found.images.cpu(), expected.images)
        assert found.images.stride() == expected.images.stride()
        assert found.labels.tolist() == expected.labels.tolist()
        assert found.samples.tolist() == expected.samples.tolist()
        assert found[3:] == expected[3:]


def test_a_step_with_images_on_the_gpu_does_not_wait_for_it() -> None:
    split, plan = random_split(), EpochPlan(4 * NUM_IMAGES, NUM_IMAGES, seed=5, micro_batch=4)
    steps = steps_of(state_of(SingleProcess(GPU)), loaded(DeviceBatches(split, GPU), plan, 2))
    for _ in range(4):
        next(steps)
    require_no_wait(steps)


def test_a_batch_of_the_gpu_is_not_changed_by_a_later_one() -> None:
    data = DeviceBatches(random_split(), GPU)
    torch.cuda._sleep(SLEEP_CYCLES)  # type: ignore[no-untyped-call]  # copies are queued behind it
    found = [data[BatchKey(0, number, np.array([number, 2 * number]))] for number in range(20)]
    for number, batch in enumerate(found):
        assert torch.equal(batch.images, data.pixels[[number, 2 * number]].permute(0, 3, 1, 2))


def test_the_memory_of_the_gpu_is_known_and_used() -> None:
    torch.cuda.empty_cache()
    free = find_free_bytes(GPU)
    assert free is not None
    assert 0 < free <= torch.cuda.get_device_properties(GPU).total_memory
    pixels = np.zeros((1, 2048, 2048, 3), np.uint8)
    before = torch.cuda.memory_allocated(GPU)
    data = DeviceBatches(PackedSplit(pixels, np.zeros(1, np.int64), ("a",), ""), GPU)
    assert torch.cuda.memory_allocated(GPU) - before >= data.pixels.nbytes == 3 * 2048 * 2048
    assert bytes_that_fit(1, 2048, GPU) == 3 * 2048 * 2048
    assert bytes_that_fit(10**9, 2048, GPU) is None


@pytest.mark.parametrize("exact", [False, True])
def test_over_nccl_a_step_gives_what_one_process_computes(
    alone: DistributedProcesses, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # as exact mode does
    expected = weights_after(state_of(SingleProcess(GPU), exact=exact))
    found = weights_after(state_of(alone, exact=exact))
    for mine, theirs in zip(found, expected, strict=True):
        if exact:
            assert torch.equal(mine, theirs)
        else:
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_values_travel_beside_nccl(alone: DistributedProcesses) -> None:
    assert alone.share_value({"a": 1}, "share") == {"a": 1}
    assert alone.gather_values("b", "gather") == ["b"]
    assert alone.all_succeed(lambda: 3, "try") == 3
    assert alone.total({"count": torch.tensor([5], device=GPU)})["count"].tolist() == [5]


def test_replicas_on_one_gpu_give_what_one_process_computes() -> None:
    # Without dropout, since these two would draw from one generator.
    expected = weights_after(state_of(SingleProcess(GPU), dropout=0))
    found = weights_after(state_of(DataParallel([GPU, GPU]), dropout=0))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_optimizer_leaves_out_a_step_whose_loss_is_no_number(optimizer: str) -> None:
    state = state_of(SingleProcess(GPU), optimizer=optimizer, norm=False)
    bad_step = 2

    def spoil(numbers: range, part: Batch, images: Tensor, loss: Tensor) -> None:
        if part.step == bad_step:
            loss.data.fill_(float("nan"))

    state.observe = spoil
    steps = steps_of(state, pinned_batches(5))
    for _ in range(bad_step):
        next(steps)
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    next(steps)
    assert all(torch.equal(now, then) for now, then in zip(state.model.parameters(), before, strict=True))
    with pytest.raises(NonFiniteLossError) as caught:
        next(steps)
    assert [(row["step"], row["micro_batch"]) for row in caught.value.found] == [(bad_step + 1, n) for n in range(3)]


# Whole runs.


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_stopped_run_goes_on_to_the_same_weights(colours: Path, tmp_path: Path, precision: str) -> None:
    arguments = settings(
        colours, "exact=true", f"train.precision={precision}", "train.epochs=20", "log.every_steps=1", "ema.decay=0.9"
    )
    whole = result_of(train_command("--run-dir", "whole", *arguments), tmp_path, "whole")
    command = train_command("--run-dir", "run", *arguments)
    with started(command, tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"epoch": 3')
        process.terminate()
        assert finish(process).code == 75
    again = result_of(command, tmp_path, "run")
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert again["val_loss"] == whole["val_loss"]


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
def test_images_on_the_gpu_give_the_weights_of_packed_ones(colours: Path, tmp_path: Path, precision: str) -> None:
    augmentation = ("augment.mixup=0.4", "augment.policy=randaugment", "augment.crop_scale=[0.5, 1]")
    arguments = settings(colours, "exact=true", f"train.precision={precision}", *augmentation)
    results = [
        result_of(train_command("--run-dir", storage, f"data.storage={storage}", *arguments), tmp_path, storage)
        for storage in ("packed", "device")
    ]
    for name in ("weights_sha256", "val_loss", "val_confusion"):
        assert results[0][name] == results[1][name], name


def test_a_run_of_packed_images_goes_on_with_images_on_the_gpu(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "exact=true", "train.epochs=20", "log.every_steps=1")
    whole = result_of(train_command("--run-dir", "whole", *arguments), tmp_path, "whole")
    with started(train_command("--run-dir", "run", *arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"epoch": 3')
        process.terminate()
        assert finish(process).code == 75
    again = result_of(train_command("--run-dir", "run", "data.storage=device", *arguments), tmp_path, "run")
    assert again["weights_sha256"] == whole["weights_sha256"]


def test_a_run_moves_between_gpu_and_cpu(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "train.precision=float32", "train.epochs=20", "log.every_steps=1")
    with started(train_command("--run-dir", "run", *arguments), tmp_path) as process:
        wait_for(tmp_path / "run" / "metrics.jsonl", '"epoch": 3')
        process.terminate()
        assert finish(process).code == 75
    on_cpu = result_of(train_command("--run-dir", "run", "--device", "cpu", *arguments), tmp_path, "run")
    assert on_cpu["device"] == "cpu"
    assert on_cpu["val_accuracy"] > 0.9


def test_one_process_of_torchrun_and_of_the_launcher_give_the_same_weights(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "exact=true")
    plain = result_of(train_command("--run-dir", "plain", *arguments), tmp_path, "plain")
    one = result_of(torchrun_command(1, "--run-dir", "one", *arguments), tmp_path, "one")
    launch = [sys.executable, "-m", "launch.local", "--gpus", "0", "--", "--run-dir", "launched", *arguments]
    launched = result_of(launch, tmp_path, "launched")
    assert plain["weights_sha256"] == one["weights_sha256"] == launched["weights_sha256"]


def test_more_processes_than_gpus_are_refused(colours: Path, tmp_path: Path) -> None:
    ended = run(torchrun_command(NUM_GPUS + 1, "--run-dir", "run", *settings(colours)), tmp_path)
    assert ended.code != 0
    assert f"Type torchrun --nproc_per_node={NUM_GPUS}" in ended.err + ended.out


def test_data_parallel_over_one_gpu_is_no_wrapper(colours: Path, tmp_path: Path) -> None:
    command = train_command("--dp", "--device-ids", "0", "--run-dir", "run", *settings(colours))
    assert result_of(command, tmp_path, "run")["strategy"] == "single"


def test_a_gpu_is_chosen_by_its_uuid(colours: Path, tmp_path: Path) -> None:
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=True
    )
    name = listed.stdout.split()[0]
    ended = run(train_command("--run-dir", "run", *settings(colours)), tmp_path, {"CUDA_VISIBLE_DEVICES": name})
    assert ended.code == 0, ended.err
    assert f"cuda:0 = physical {name}" in json.loads((tmp_path / "run" / "result.json").read_text())["device"]


def test_no_visible_gpu_means_the_cpu(colours: Path, tmp_path: Path) -> None:
    command = train_command("--run-dir", "run", *settings(colours))
    ended = run(command, tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["device"] == "cpu"


def test_predictions_on_the_gpu_are_the_runs_own(colours: Path, tmp_path: Path) -> None:
    result = result_of(train_command("--run-dir", "run", *settings(colours)), tmp_path, "run")
    ended = run(
        [sys.executable, "-m", "signs_dist.evaluate", "run", "--split", "val", "--json", "score.json"], tmp_path
    )
    assert ended.code == 0, ended.err
    score = json.loads((tmp_path / "score.json").read_text())
    assert score["val_confusion"] == result["val_confusion"]


def test_memory_that_does_not_suffice_is_told_with_what_helps(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "train.precision=float32", "train.epochs=1")
    limited = (
        "import sys, torch; total = torch.cuda.get_device_properties(0).total_memory; "
        "torch.cuda.set_per_process_memory_fraction(3e7 / total); "
        "from signs_dist.train import main; sys.exit(main(sys.argv[1:]))"
    )
    large = ["data.image_size=256", "train.global_batch=64", "train.micro_batch=64"]
    ended = run([sys.executable, "-c", limited, "--run-dir", "run", *arguments, *large], tmp_path)
    assert ended.code == 1, ended.err
    assert "A smaller train.micro_batch needs less memory" in ended.err + ended.out


@pytest.mark.parametrize("form", ["onnx", "torch", "safetensors"])
def test_an_export_predicts_on_a_gpu(form: str, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, "train.precision=float32", "evaluate.flip_average=true")
    assert export([str(run_dir), "--format", form, "--out", str(tmp_path / form), "--quiet"]) == 0
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    expected = load_model(run_dir, device="cpu")(images)
    found = load_model(tmp_path / form, device="cuda")(images)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=1e-2)  # convolutions in TF32
