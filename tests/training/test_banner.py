"""The banner of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from signs_dist.training.banner import banner_lines
from signs_dist.training.graph_choice import GraphChoice
from tests.sets import write_colour_set
from tests.training.parts import make_prepared, make_process


def lines(tmp_path: Path, *settings: str, run: str = "runs/a") -> dict[str, str]:
    process = make_process()
    prepared = make_prepared(tmp_path, "train.precision=float32", *settings, process=process)
    return dict(banner_lines(prepared, process, Path(run)))


def test_the_whole_banner(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, "train.precision=float32")
    assert banner_lines(prepared, make_process(), Path("runs/a"), [("again", "attempt 2"), ("from", "x.pt")]) == [
        ("run", "runs/a"),
        ("again", "attempt 2"),
        ("from", "x.pt"),
        (
            "data",
            f"{tmp_path}/colours: 36 train, 12 val, 12 test images of 16 x 16, 3 classes; loaded in this process",
        ),
        (
            "note",
            "few photos: 36 give 8 steps in all, from which the network learns little; "
            "type train.epochs=225 optim.lr=0.02",
        ),
        ("model", "mlp, 106,883 parameters"),
        ("on", "cpu, 1 thread a process, float32"),
        (
            "batch",
            "8 = 1 micro-batch of 8 on 1 process; 4 steps an epoch, each with 32 of 36 images, others the next time",
        ),
        ("plan", "2 epochs = 8 steps = 64 images, seed 0"),
        ("learn", "cross_entropy, sgd with lr 0.1 (as written, no scaling), one_cycle"),
    ]


@pytest.mark.parametrize(
    ("settings", "word", "text"),
    [
        (
            ("train.epochs=10", "train.progressive_sizes=[[0.5, 0.4], [0.75, 0.7]]", "model.name=signs_fast"),
            "plan",
            "10 epochs = 40 steps = 320 images, seed 0; 8 x 8 until epoch 4, 12 x 12 until epoch 7, then 16 x 16",
        ),
        (("train.epochs=1",), "plan", "1 epoch = 4 steps = 32 images, seed 0"),
        (("train.epochs=1", "train.global_batch=32"), "plan", "1 epoch = 1 step = 32 images, seed 0"),
        (("train.global_batch=12",), "batch", "12 = 1 micro-batch of 12 on 1 process; 3 steps an epoch"),
        (("data.num_workers=1",), "data", "1 loader worker"),
        (("data.num_workers=3",), "data", "3 loader workers"),
        (("data.storage=device", "data.num_workers=auto"), "data", "3 classes; all on the device, 0.0 MB"),
        (("train.num_threads=2",), "on", "cpu, 2 threads a process, float32"),
        (("optim.name=adamw", "optim.lr=0.001"), "learn", "adamw with lr 0.001"),
    ],
)
def test_one_line(tmp_path: Path, settings: tuple[str, ...], word: str, text: str) -> None:
    assert text in lines(tmp_path, *settings)[word]


def test_what_was_passed_over_is_told_below_the_data(tmp_path: Path) -> None:
    make_prepared(tmp_path)
    (tmp_path / "colours/train_signs/@eaDir").mkdir()
    (tmp_path / "colours/val_signs/notes.txt").touch()
    told = banner_lines(make_prepared(tmp_path, "train.epochs=100"), make_process(), Path("runs/a"))
    assert [word for word, _ in told[:5]] == ["run", "data", "note", "note", "model"]
    assert [text for word, text in told if word == "note"] == [
        "passed over: 1 file or folder of other programs (@eaDir/)",
        "passed over: 1 file without a readable image (val_signs/notes.txt)",
    ]


@pytest.mark.parametrize(
    ("stored", "settings", "note"),
    [
        (None, (), None),
        (16, (), None),
        (96, (), "colours holds images of 96 x 96, resized to 16 x 16; to train at their size: data.image_size=96"),
        (4096, (), "colours holds images of 4096 x 4096, resized to 16 x 16"),
    ],
)
def test_another_size_than_that_of_the_stored_images_is_told(
    tmp_path: Path, stored: int | None, settings: tuple[str, ...], note: str | None
) -> None:
    enough = ("train.epochs=100", *settings)
    assert "note" not in lines(tmp_path, *enough)
    if stored is not None:
        (tmp_path / "colours/build.json").write_text(f'{{"size": {stored}}}')
    found = lines(tmp_path, *enough).get("note")
    assert found is None if note is None else str(found).endswith(note)


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [((), True), (("train.epochs=75",), False), (("train.epochs=74",), True), (("train.global_batch=2",), False)],
)
def test_few_photos_are_told(tmp_path: Path, settings: tuple[str, ...], is_told: bool) -> None:
    assert ("note" in lines(tmp_path, *settings)) == is_told


def test_exact_mode_says_on_how_many_processes_the_bits_are_the_same(tmp_path: Path) -> None:
    process = make_process()
    prepared = make_prepared(tmp_path, "train.micro_batch=2", process=process)
    assert "exact" not in dict(banner_lines(prepared, process, Path("a")))
    exact = dataclasses.replace(prepared, config=prepared.config.model_copy(update={"exact": True}))
    assert dict(banner_lines(exact, process, Path("a")))["exact"] == "bit for bit the same for 1 to 4 processes"


def test_several_processes_say_how_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make_process()
    prepared = make_prepared(tmp_path, process=process)
    assert "by" not in dict(banner_lines(prepared, process, Path("a")))
    monkeypatch.setattr(process.strategy, "describe", lambda: "DistributedDataParallel, 2 processes over gloo")
    monkeypatch.setattr(process.strategy, "world_size", 2)
    assert dict(banner_lines(prepared, process, Path("a")))["by"] == "DistributedDataParallel, 2 processes over gloo"


@pytest.mark.parametrize(
    ("settings", "one", "several"),
    [
        (
            ("train.shard_optimizer=true",),
            "1 process: train.shard_optimizer=true without effect",
            "DDP; each process keeps a part of the optimizer",
        ),
        (
            ("train.gradient_compression=bfloat16", "train.shard_optimizer=true"),
            "1 process: train.gradient_compression=bfloat16 and train.shard_optimizer=true without effect",
            "DDP; gradients are sent as bfloat16; each process keeps a part of the optimizer",
        ),
        (
            ("train.gradient_compression=powersgd",),
            "1 process: train.gradient_compression=powersgd without effect",
            "DDP; gradients are sent whole: the run ends after 8 steps, before train.powersgd_start_step=1000",
        ),
    ],
)
def test_settings_for_several_processes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], one: str, several: str
) -> None:
    process = make_process()
    prepared = make_prepared(tmp_path, *settings, process=process)
    assert dict(banner_lines(prepared, process, Path("a")))["by"] == one
    monkeypatch.setattr(process.strategy, "describe", lambda: "DDP")
    monkeypatch.setattr(process.strategy, "world_size", 2)
    assert dict(banner_lines(prepared, process, Path("a")))["by"] == several


def test_frozen_parameters_are_told(tmp_path: Path) -> None:
    process = make_process()
    prepared = make_prepared(tmp_path, process=process)
    next(prepared.model.parameters()).requires_grad_(False)
    text = dict(banner_lines(prepared, process, Path("a")))["model"]
    assert text.startswith("mlp, 106,883 parameters, ")
    assert text.endswith(" of them trainable")


@pytest.mark.parametrize(
    ("num_of_class_0", "settings", "text"),
    [
        (12, (), None),
        (5, (), None),
        (
            4,
            (),
            "class imbalance: 1 has 12 training images, 0 has 4; data.order=balanced draws each class equally often, "
            "loss.class_weights=balanced weighs rare ones more",
        ),
        (4, ("data.order=balanced",), "balanced: each class equally often, from 4 to 12 images a class"),
        (12, ("data.order=balanced",), "balanced: each class equally often, from 12 to 12 images a class"),
    ],
)
def test_class_imbalance_is_told(
    tmp_path: Path, num_of_class_0: int, settings: tuple[str, ...], text: str | None
) -> None:
    root = write_colour_set(tmp_path / "colours", counts={"train": 12, "val": 4})
    for path in sorted((root / "train_signs").glob("0_*"))[num_of_class_0:]:
        path.unlink()
    assert lines(tmp_path, *settings).get("order") == text


def test_class_weights_are_told(tmp_path: Path) -> None:
    told = lines(tmp_path, "loss.class_weights={2: 3.0, 0: 0.25}")
    assert told["classes"] == "weigh in the loss from 0.25 (0) to 3 (2)"
    assert "order" not in told


def test_a_gpu_says_whether_a_step_is_a_cuda_graph(tmp_path: Path) -> None:
    process = make_process()
    prepared = make_prepared(tmp_path, process=process)
    assert "step" not in dict(banner_lines(prepared, process, Path("a")))
    graphed = dataclasses.replace(prepared, graph=GraphChoice("step", averages=True))
    process.strategy.device = torch.device("cuda", 0)
    told = dict(banner_lines(graphed, process, Path("a")))["step"]
    assert told == "one CUDA graph: forward, loss, backward, optimizer, moving average"
    plain = dataclasses.replace(prepared, graph=GraphChoice("nothing", "train.graph=false"))
    assert dict(banner_lines(plain, process, Path("a")))["step"] == "no CUDA graph: train.graph=false"


@pytest.mark.parametrize(("mode", "told"), [("true", "default"), ("max-autotune", "max-autotune")])
def test_a_compiled_network_is_told_on_any_device(tmp_path: Path, mode: str, told: str) -> None:
    assert lines(tmp_path, f"train.compile={mode}")["step"] == f"network through torch.compile, mode {told}"


def test_busy_cores_are_told_beside_the_device(tmp_path: Path) -> None:
    process = make_process()
    prepared = make_prepared(tmp_path, "train.precision=float32", process=process)
    told = dict(banner_lines(prepared, process, Path("a"), busy="other programs keep 2.0 of the 2 cores busy"))
    assert told["on"] == "cpu, 1 thread a process, float32; other programs keep 2.0 of the 2 cores busy"
