"""From a config to the parts of a run."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Literal

import pytest
import torch

from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.config.reading import load_config
from signs_dist.data.images import BadImageError
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import UserError
from signs_dist.models.weights import named_weights
from signs_dist.training import prepare as parts_of_a_run
from signs_dist.training.prepare import build_model, choose_num_threads, prepare, require_same_images
from tests.training.parts import make_config, make_prepared, make_process


def test_the_parts_of_a_run(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path)
    assert {name: len(index) for name, index in prepared.data.splits.items()} == {"train": 36, "val": 12, "test": 12}
    assert prepared.sources.keys() == prepared.fingerprints.keys() == {"train", "val", "test"}
    assert all(len(fingerprint) == 64 for fingerprint in prepared.fingerprints.values())
    assert (prepared.plan.num_steps, prepared.plan.num_left_out) == (4, 4)
    assert prepared.plan.micro_batches.size == 8
    assert prepared.way.num_threads == torch.get_num_threads() == 1  # OMP_NUM_THREADS of the tests


def test_the_micro_batches_of_a_process_are_told_to_what_refuses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(parts_of_a_run, "require_one_pass", lambda *given: asked.append(given))
    make_prepared(tmp_path, "train.compile=reduce-overhead", "train.micro_batch=4")
    assert asked == [("reduce-overhead", "cpu", 2)]


def test_what_the_manifest_tells_of_the_data(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path)
    assert prepared.about_data() == {
        "name": str(tmp_path / "colours"),
        "root": str((tmp_path / "colours").resolve()),
        "sources": [str((tmp_path / "colours").resolve())],
        "classes": ["0", "1", "2"],
        "fingerprints": dict(prepared.fingerprints),
    }


def test_processes_that_read_other_images_are_told(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path)
    require_same_images(prepared, SingleProcess(torch.device("cpu")))
    strategy = SingleProcess(torch.device("cpu"))
    other = dict(prepared.fingerprints) | {"val": "0" * 64}
    strategy.gather_values = lambda value, phase: [value, value, other]  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"process 2 reads other images of .*colours than process 0 for val"):
        require_same_images(prepared, strategy)


def test_a_broken_image_is_told_with_the_command_that_leaves_it_out(tmp_path: Path) -> None:
    make_prepared(tmp_path)
    image = next((tmp_path / "colours").rglob("*.jpg"))
    image.write_bytes(b"no image")
    command = (
        f"To find all such files, and train without them, type: python -m signs_dist.inspect {tmp_path / 'colours'} "
    )
    with pytest.raises(BadImageError, match=f"{re.escape(command)}--write config.yaml") as caught:
        make_prepared(tmp_path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_a_network_for_one_size_refuses_progressive_sizes(tmp_path: Path) -> None:
    sizes = "train.progressive_sizes=[[0.5, 0.5]]"
    make_prepared(tmp_path, sizes, "model.name=signs_fast")
    with pytest.raises(
        UserError, match=r"model.name=mlp fails for images \[2, 3, 8, 8\].*type train.progressive_sizes="
    ):
        make_prepared(tmp_path, sizes)


def test_a_short_epoch_and_a_balanced_order(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, "train.epoch_steps=3", "data.order=balanced")
    assert prepared.plan.num_steps == 3
    assert prepared.plan.order is not None
    assert make_prepared(tmp_path).plan.order is None


@pytest.mark.parametrize(
    ("earlier", "settings", "world_size", "size"),
    [
        (None, (), 1, 8),
        (4, (), 1, 4),  # kept
        (4, ("train.micro_batch=2",), 1, 2),  # the config says more
        (3, (), 1, 8),  # does not divide the global batch any more
        (4, (), 2, 4),  # just enough of them
        (4, (), 4, 2),  # two micro-batches of 4 are too few for four processes
    ],
)
def test_the_micro_batch_of_an_earlier_attempt_is_kept_where_it_can_be(
    tmp_path: Path, earlier: int | None, settings: tuple[str, ...], world_size: int, size: int
) -> None:
    process = make_process()
    process.strategy.world_size = world_size
    prepared = prepare(make_config(tmp_path, *settings), process, micro_batch=earlier)
    assert prepared.plan.micro_batches.size == size


@pytest.mark.parametrize(
    ("wanted", "exact", "num_threads"),
    [
        ("auto", False, 6),
        (3, False, 3),
        ("auto", True, 1),  # the same on every machine
        (3, True, 3),
    ],
)
def test_threads_of_one_operation(wanted: int | Literal["auto"], exact: bool, num_threads: int) -> None:
    assert choose_num_threads(wanted, 6, exact=exact) == num_threads


class ChoosesThreads(torch.nn.Linear):
    """A network whose constructor changes what exact mode sets."""

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__(3 * image_size**2, num_classes)
        torch.set_num_threads(3)
        torch.use_deterministic_algorithms(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.flatten(1))


def test_the_code_of_a_model_does_not_change_what_exact_mode_sets(tmp_path: Path) -> None:
    name = f"model.name={__name__}:ChoosesThreads"
    with arithmetic_kept():
        prepare(make_config(tmp_path, "exact=true", "train.micro_batch=8", name), make_process())
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()


def test_initial_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    def digest(seed: int) -> str:
        torch.rand(seed + 1)  # the generator is somewhere else each time
        model = build_model(make_config(tmp_path, f"seed={seed}"), 3, torch.device("cpu"))
        return weights_sha256(named_weights(model))

    assert digest(0) == digest(0) != digest(1)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_order_of_the_model(tmp_path: Path, channels_last: bool) -> None:
    config = make_config(tmp_path, "model.name=signs_net", f"train.channels_last={str(channels_last).lower()}")
    weight = next(value for value in build_model(config, 3, torch.device("cpu")).parameters() if value.ndim == 4)
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("data.root=/nowhere",), "/nowhere"),
        (("train.global_batch=64",), "train.global_batch=64 is more than the 36 training images"),
        (("train.micro_batch=3",), "train.global_batch=8 does not divide into micro-batches of 3"),
        (("train.sync_batchnorm=true",), "train.sync_batchnorm=true is for several processes on GPUs"),
        (("model.args={wrong: 1}",), "wrong"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_prepared(tmp_path, *settings)


def test_images_that_do_not_fit_on_the_device_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, process = ("data.storage=device", "data.num_workers=auto"), make_process(local_world_size=2)
    needed = 60 * 3 * 16 * 16 * 2  # of both processes
    monkeypatch.setattr(parts_of_a_run, "find_free_bytes", lambda device: 2 * needed - 2)
    with pytest.raises(UserError, match=r"needs 0.0 MB in each of 2 processes for 60 images of 16 x 16\."):
        make_prepared(tmp_path, *settings, process=process)
    assert not list((tmp_path / "cache").glob("train-*"))
    monkeypatch.setattr(parts_of_a_run, "find_free_bytes", lambda device: 2 * needed)
    assert make_prepared(tmp_path, *settings, process=process).loading.num_workers == 0


@pytest.mark.parametrize(
    ("settings", "num_workers"),
    [
        (("data.num_workers=2",), 2),
        (("data.num_workers=auto",), 0),
        (("data.num_workers=auto", "data.storage=files"), 3),
    ],
)
def test_workers_are_started_where_images_are_decoded(
    tmp_path: Path, settings: tuple[str, ...], num_workers: int
) -> None:
    process = make_process(usable_cores=4, num_sharing_cores=1)
    assert make_prepared(tmp_path, *settings, process=process).loading.num_workers == num_workers


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.name=resnt18", "model.name=resnt18 is not a network"),
        ("model.args.chanels=3", "chanels"),
        ("model.weights=nope.pt", "nope.pt"),
        ("train.global_batch=64", "train.global_batch=64 is more than the 32 training images"),
        ("train.micro_batch=3", "does not divide into micro-batches of 3"),
    ],
)
def test_what_needs_no_image_is_refused_before_hands_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["data.synthetic.train=32", "train.global_batch=8", setting])
    with pytest.raises(UserError, match=re.escape(told)):
        prepare(config, make_process())
    assert not (tmp_path / "data").exists()


def test_a_cuda_graph_that_cannot_be_is_refused_before_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.graph=true: it needs a GPU"):
        make_prepared(tmp_path, "train.graph=true", f"data.root={tmp_path}/nothing")
    assert make_prepared(tmp_path, "train.graph=auto").graph.describe() == "no CUDA graph: it needs a GPU"


def test_a_compiled_network_is_not_copied_to_several_gpus(tmp_path: Path) -> None:
    process = make_process()
    process.strategy.num_replicas = 2
    with pytest.raises(UserError, match=r"--dp copies it to each GPU\. Set train\.compile=false, or type torchrun"):
        make_prepared(tmp_path, "train.compile=true", process=process)
