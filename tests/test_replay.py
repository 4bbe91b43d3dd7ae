"""The command replay: its flags, and real runs that are replayed on several processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import signs_dist as sd
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.errors import UserError
from signs_dist.replay import build_parser
from signs_dist.replay import main as replay
from tests.processes import rank_environment, run, run_ranks, torchrun_command, train_command
from tests.replaying.test_run import bytes_of
from tests.sets import small_run, write_colour_set


def test_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["run"], ["run", "--step", "3", "--failure"], ["run", "--step", "x"]):
        with pytest.raises(SystemExit) as caught:
            build_parser().parse_args(arguments)
        assert caught.value.code == 2
    assert "not allowed with argument --step" in capsys.readouterr().err


def test_processes_of_a_launcher_start_no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rank_environment(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="replay starts its own processes"):
        replay(["run", "--step", "3"])


def tensors_of(value: Any, place: str = "") -> dict[str, Tensor]:
    """All tensors in nested dicts and lists, by their places."""
    if isinstance(value, Tensor):
        return {place: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: tensor for key, item in items for name, tensor in tensors_of(item, f"{place}/{key}").items()}


def replayed(path: Path, folder: Path, num_processes: int, *arguments: str) -> tuple[str, dict[str, Tensor], Any]:
    """Output, saved tensors and JSON of a replay."""
    folder.mkdir()
    flags = ["--processes", str(num_processes), "--save", "t.pt", "--json", "n.json", "--images", "p.png", *arguments]
    ended = run([sys.executable, "-m", "signs_dist.replay", str(path), *flags], folder)
    assert ended.code == 0, ended.err
    content = torch.load(folder / "t.pt", weights_only=True)
    return ended.out, tensors_of(content), json.loads((folder / "n.json").read_text())


@pytest.mark.slow
def test_an_exact_run_has_the_same_bits_on_any_number_of_processes(tmp_path: Path, real_photos: Path) -> None:
    settings = [
        *(f"data.root={real_photos}", f"data.cache={tmp_path}/cache", "data.image_size=32", "exact=true"),
        *("train.global_batch=48", "train.micro_batch=8", "train.epochs=2", "train.epoch_steps=4", "log.samples=true"),
        *("checkpoint.every_steps=5", "model.args={width: 8}", "train.precision=float32"),
    ]
    ended = run_ranks(2, train_command("--run-dir", "run", *settings), tmp_path)
    assert [each.code for each in ended] == [0, 0], ended[0].err
    before = bytes_of(tmp_path / "run")
    tensors, values = [], []
    for number in (1, 2, 3):
        where = tmp_path / str(number)
        out, found, value = replayed(tmp_path / "run", where, number, "--step", "6", "--until", "7", "--check")
        assert (
            "steps 6 to 7: the bits are those of the run: the samples of step 6, 7 are those in the run's logs" in out
        )
        assert "the state after step 5, 8 has the SHA-256" in out
        assert f"on {number} process" in out
        assert "the run used 2" in out
        tensors.append(found)
        values.append(value | {"processes": 0})
    assert tensors[0].keys() == tensors[1].keys() == tensors[2].keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in tensors[0].items() for other in tensors[1:])
    assert values[0] == values[1] == values[2]
    assert (tmp_path / "1" / "p.png").read_bytes() == (tmp_path / "3" / "p.png").read_bytes()
    assert bytes_of(tmp_path / "run") == before


@pytest.mark.slow
def test_a_fast_run_of_two_processes_has_the_same_samples_and_its_numbers_to_rounding(
    tmp_path: Path, real_photos: Path
) -> None:
    settings = [
        *(f"data.root={real_photos}", f"data.cache={tmp_path}/cache", "data.image_size=32", "log.samples=true"),
        *("train.global_batch=48", "train.micro_batch=8", "train.epochs=1", "train.epoch_steps=6", "log.every_steps=2"),
        *("model.name=signs_net", "model.args={channels: 4, dropout: 0.3}", "train.shard_optimizer=true"),
    ]
    ended = run(torchrun_command(2, "--run-dir", "run", *settings), tmp_path)
    assert ended.code == 0, ended.err
    out, one, value = replayed(tmp_path / "run", tmp_path / "1", 1, "--step", "3")
    assert (
        "step 3: the samples and random draws are those of the run, the numbers equal to rounding: the samples" in out
    )
    assert "the run is not exact" in out
    assert "the training loss in " in out
    assert sum(name.endswith("/images") for name in one) == 6
    assert value["verdict"] == "same samples"


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 12, "val": 4})


VARIANTS: dict[str, list[str]] = {
    "thaw": ["model.name=mlp", "model.freeze=backbone", "model.thaw_after_epochs=1"],
    "features": ["model.name=mlp", "model.freeze=backbone", "model.cache_features=true", "augment.backend=none"],
    "mixing": ["augment.mixup=0.5", "augment.cutmix=0.5"],
    "sizes": ["model.name=signs_fast", "model.args={width: 8}", "train.progressive_sizes=[[0.75, 0.5]]"],
    "bfloat16": ["train.precision=bfloat16", "optim.name=adamw", "optim.clip_norm=null"],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_run_is_replayed_with_its_bits(
    name: str, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = VARIANTS[name]
    named = {setting.partition("=")[0] for setting in own} | ({"model.args"} if name != "mixing" else set())
    settings = [each for each in small_run(colours, epochs=2, global_batch=8) if each.partition("=")[0] not in named]
    if name == "bfloat16":
        settings.append("model.args={channels: 4}")
    with arithmetic_kept():
        sd.fit(sd.load_config(None, [*settings, "exact=true", *own]), run_dir=tmp_path / "run", quiet=True)
    # Step 5 begins the second epoch: with its thaw, its size of images.
    assert replay(["run", "--step", "4", "--until", "5", "--check"]) == 0
    out = capsys.readouterr().out
    assert "steps 4 to 5: the bits are those of the run" in out
    assert "the state after step 4, 8 has the SHA-256 that the run wrote" in out
