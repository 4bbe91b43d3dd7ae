"""The command that shows and verifies checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from signs_dist.checkpoint import find_files, verify
from signs_dist.checkpoint import main as checkpoint
from signs_dist.console.command import run_command
from signs_dist.run_folder.digest import digest_path, file_sha256
from signs_dist.train import main as train
from tests.sets import write_colour_set


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    photos = write_colour_set(folder / "photos", counts={"train": 8, "val": 3})
    arguments = ["--run-dir", str(folder / "my run"), f"data.root={photos}", f"data.cache={folder / 'cache'}"]
    small = ["data.image_size=16", "model.name=signs_net", "model.args={channels: 4}", "train.global_batch=4"]
    assert run_command(train, [*arguments, *small, "train.micro_batch=2", "train.epochs=2", "ema.decay=0.9"]) == 0
    return folder / "my run"


def test_show_tells_what_made_it(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(checkpoint, ["show", str(finished)]) == 0
    told = capsys.readouterr().out
    for words in (
        f"file  {finished / 'checkpoints' / 'epoch-0002.pt'}",
        "its SHA-256 matches the SHA-256 beside it",
        "place  end of epoch 2; 48 images seen",
        "and their average",
        f"command  python -m signs_dist.train --run-dir {finished}",
        f"torch {torch.__version__.split('+')[0]}",
        "3 classes; train ",
        "batch  4, micro-batches of 2",
        "attempts  1; processes of each: 1",
    ):
        assert words in told, words
    config = yaml.safe_load(told.partition("\nconfig:\n")[2])
    assert config == yaml.safe_load((finished / "config.yaml").read_text())


def test_show_as_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished / "checkpoints" / "epoch-0001.pt"
    assert run_command(checkpoint, ["show", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cursor"] == {"epoch": 1, "step": 0}
    assert (told["file"], told["damage"]) == (str(path), "")
    assert told["model"]["conv1.weight"].startswith("tensor [4, 3, 3, 3] torch.float32")


def test_verify_names_each_file_and_what_is_wrong(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = (finished / "checkpoints" / f"epoch-000{epoch}.pt" for epoch in (1, 2))
    assert run_command(checkpoint, ["verify", str(finished)]) == 0
    assert capsys.readouterr().out == f"{good}: OK\n{bad}: OK\n"
    content = bad.read_bytes()
    try:
        bad.write_bytes(content[:-1])
        assert run_command(checkpoint, ["verify", str(bad), str(good)]) == 1
        assert capsys.readouterr().out == f"{bad}: BROKEN: its SHA-256 differs from the SHA-256 beside it\n{good}: OK\n"
    finally:
        bad.write_bytes(content)
    assert run_command(checkpoint, ["verify", str(finished / "model.pt")]) == 1
    assert "model.pt.sha256 does not exist" in capsys.readouterr().out


def test_the_checkpoints_of_a_run_without_a_config_are_found(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "epoch-0001.pt"
    file.touch()
    assert find_files(tmp_path) == [file]


def test_what_is_no_checkpoint(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["show", str(finished / "model.pt")], "model.pt is no checkpoint of a run: it holds "),
        (
            ["show", str(tmp_path / "none.pt")],
            "none.pt: no such file. Give a run folder, or a file in its folder checkpoints/",
        ),
        (["verify", str(tmp_path)], f"{tmp_path} holds no checkpoint"),
        (["show", str(finished / "config.yaml")], "config.yaml cannot be read as a checkpoint"),
    ):
        assert run_command(checkpoint, arguments) == 2
        assert told in capsys.readouterr().err


def test_names_are_printed_without_control_characters(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a\x1b[2J\nb.pt"
    path.write_bytes((finished / "checkpoints" / "epoch-0001.pt").read_bytes())
    assert run_command(checkpoint, ["verify", str(path)]) == 1
    out = capsys.readouterr().out
    assert "a\\x1b[2J\\nb.pt: BROKEN" in out
    assert len(out.splitlines()) == 1
    assert run_command(checkpoint, ["show", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_checkpoint_that_a_run_deletes_meanwhile_is_not_broken(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / path.name for path in find_files(finished)]
    shutil.copytree(finished / "checkpoints", tmp_path, dirs_exist_ok=True)
    files[0].unlink()
    assert verify(files) == 0
    assert capsys.readouterr().out.count(": OK") == len(files) - 1


@pytest.mark.parametrize(("target", "told"), [("a.pt", "a loop of links"), ("nothing", "a link to nothing")])
def test_a_link_that_leads_nowhere_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, told: str
) -> None:
    path = tmp_path / "a.pt"
    path.symlink_to(target)
    assert run_command(checkpoint, ["verify", str(path)]) == 1
    assert capsys.readouterr().out == f"{path}: BROKEN: it is {told}, not a file\n"
    assert run_command(checkpoint, ["show", str(path)]) == 2
    assert f"a.pt cannot be read as a checkpoint: it is {told}, not a file." in capsys.readouterr().err


def test_what_no_run_can_have_saved(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(finished / "checkpoints" / "epoch-0002.pt", weights_only=True)
    for change, told in (
        ({"cursor": {"epoch": 7, "step": 0}}, "48 images are not those of 7 epochs and 0 steps of 4, and 1 more"),
        ({"optimizer": []}, "optimizer is a list of 0, and must hold state, param_groups"),
        ({"format": 999}, "has format 999, and this release of signs_dist reads format 2. Resume with the release"),
    ):
        crafted = tmp_path / "crafted.pt"
        torch.save({**content, **change}, crafted)
        digest_path(crafted).write_text(f"{file_sha256(crafted)}  crafted.pt\n")
        assert run_command(checkpoint, ["verify", str(crafted)]) == 1
        assert f"{crafted}: BROKEN: {told}" in capsys.readouterr().out
        assert run_command(checkpoint, ["show", str(crafted)]) == 2
        assert told in capsys.readouterr().err


def test_notes_of_another_program_are_shown_as_far_as_they_go(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(finished / "checkpoints" / "epoch-0002.pt", weights_only=True)
    forged = {"host": "here\n      commit  forged", "command": ["a\nb"]}
    for run in ({}, {"data": {}, "code": None, "versions": [1]}, {"world_sizes": 3, "command": "x"}, forged):
        torch.save({**content, "run": run}, tmp_path / "a.pt")
        assert run_command(checkpoint, ["show", str(tmp_path / "a.pt")]) == 0
        assert "place  end of epoch 2; 48 images seen" in capsys.readouterr().out


def test_checkpoints_are_listed_by_their_place(tmp_path: Path) -> None:
    names = ["epoch0001-step000000.pt", "epoch-0002-step-000003.pt", "epoch-0002.pt", "epoch0010-step000000.pt"]
    names += ["epoch-9999.pt", "epoch-10000.pt"]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [file.name for file in find_files(tmp_path)] == names
