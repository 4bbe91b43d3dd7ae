"""Wrong input of every kind: exit code 2, a message that says what to do, and nothing half-written."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from signs_dist.console.command import run_command
from signs_dist.evaluate import main as evaluate
from signs_dist.predict import main as predict
from signs_dist.train import main as train
from tests.sets import write_colour_set

Refused = Callable[..., str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_colour_set(tmp_path / "photos", counts={"train": 4, "val": 2})


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Start a run that must be refused; returns the message, having checked that nothing is left."""

    def start(root: Path | str, *more: str) -> str:
        run_dir = tmp_path / "run"
        cache = tmp_path / "cache"
        small = ["data.image_size=16", "model.name=signs_net", "train.epochs=1", "train.global_batch=4"]
        arguments = ["--run-dir", str(run_dir), f"data.root={root}", f"data.cache={cache}", *small, *more]
        assert run_command(train, arguments) == 2
        assert not run_dir.exists()
        # A split that was packed before the broken one was met is whole and may stay; parts may not.
        assert [path for path in cache.glob("*") if path.name.endswith(".part") or path.name.startswith(".")] == []
        assert [path for path in cache.glob("train-*") if path.is_dir() and not (path / "packed.json").is_file()] == []
        output = capsys.readouterr()
        assert output.err.startswith("error: ")
        assert "Traceback" not in output.err
        return output.err

    return start


def test_a_missing_folder(refused: Refused, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(tmp_path / "nowhere")


def test_a_given_folder_is_not_replaced_by_the_synthetic_set(refused: Refused, tmp_path: Path) -> None:
    message = refused(tmp_path / "nowhere")
    assert "drawing" not in message
    assert "nowhere" in message


def test_an_empty_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = refused(tmp_path / "empty")
    assert str(tmp_path / "empty") in message
    assert "train_signs" in message or "signs_dist.data.build" in message


def test_an_empty_split(refused: Refused, photos: Path) -> None:
    for file in (photos / "val_signs").iterdir():
        file.unlink()
    assert f"{photos / 'val_signs'} holds no images" in refused(photos)


def test_a_class_missing_from_val(refused: Refused, photos: Path) -> None:
    for file in (photos / "val_signs").glob("1_*"):
        file.unlink()
    assert "has no image of class 1" in refused(photos)


def test_a_label_outside_the_classes(refused: Refused, photos: Path) -> None:
    (photos / "val_signs" / "0_IMG_0000.jpg").rename(photos / "val_signs" / "7_IMG_0000.jpg")
    message = refused(photos)
    assert "class 7 is not among the classes 0, 1, 2" in message
    assert "7_IMG_0000.jpg" in message


def test_a_name_without_a_label(refused: Refused, photos: Path) -> None:
    (photos / "train_signs" / "0_IMG_0000.jpg").rename(photos / "train_signs" / "hand.jpg")
    assert "hand.jpg" in refused(photos)


@pytest.mark.parametrize("storage", ["packed", "files"])
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:200]), "truncated"),
        (lambda file: file.write_bytes(b""), "empty"),
        (lambda file: file.write_bytes(b"this is text" * 50), "text"),
        (lambda file: (file.unlink(), file.symlink_to("/nonexistent")), "dangling link"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_broken_photo_is_named(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    name: str,
    storage: str,
) -> None:
    file = photos / "train_signs" / "1_IMG_0002.jpg"
    damage(file)
    arguments = ["--run-dir", str(tmp_path / "run"), f"data.root={photos}", f"data.cache={tmp_path / 'cache'}"]
    more = [
        f"data.storage={storage}",
        "data.num_workers=0",
        "data.image_size=16",
        "model.name=signs_net",
        "train.global_batch=4",
    ]
    assert run_command(train, [*arguments, *more]) == 2
    message = capsys.readouterr().err
    assert str(file) in message
    assert "Traceback" not in message
    assert not (tmp_path / "run" / "result.json").exists()
    if storage == "packed":
        assert not (tmp_path / "run").exists()
        assert not [path for path in (tmp_path / "cache").glob("train*") if path.is_dir()]


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder of a user who, unlike root, may not read every file; for the test this process is that user."""
    for name in ("signs_dist.training.start", "encodings.ascii"):  # Python's own files may be for root only
        importlib.import_module(name)
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="signs_dist-test-"))
    is_root = os.geteuid() == 0
    if is_root:
        nobody = 65534
        os.chown(folder, nobody, nobody)
        os.seteuid(nobody)
    yield folder
    if is_root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_an_unreadable_photo_is_named(ordinary_user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_colour_set(ordinary_user / "photos", counts={"train": 4, "val": 2})
    file = photos / "train_signs" / "1_IMG_0002.jpg"
    file.chmod(0)
    arguments = ["--run-dir", str(ordinary_user / "run"), f"data.root={photos}", f"data.cache={ordinary_user}/cache"]
    assert run_command(train, [*arguments, "data.image_size=16", "model.name=signs_net", "train.global_batch=4"]) == 2
    assert str(file) in capsys.readouterr().err
    assert not (ordinary_user / "run").exists()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 512 KiB: the manifest of a run within pytest names each module of the tests."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    # Lazily: a traceback kept by a failing test may hold a file open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_under_the_cache(refused: Refused, photos: Path, full_disk: Path) -> None:
    (full_disk / "filler").write_bytes(b"x" * 510_000)
    message = refused(photos, f"data.cache={full_disk}", "data.image_size=64")
    assert "no space left" in message
    assert str(full_disk) in message
    assert [path.name for path in full_disk.iterdir() if path.is_dir()] == []


def test_a_full_disk_under_the_run(
    photos: Path, full_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run-dir", str(full_disk / "run"), f"data.root={photos}", f"data.cache={tmp_path / 'cache'}"]
    more = ["data.image_size=16", "model.name=signs_net", "train.global_batch=4", "train.epochs=2"]
    assert run_command(train, [*arguments, *more]) == 74
    message = capsys.readouterr().err
    assert f"no space left while writing {full_disk / 'run' / 'checkpoints' / 'epoch-0001.pt'}" in message
    assert re.search(r"[\d,]+ bytes are free there: free some space\. A checkpoint needs [\d,]+ bytes", message)
    assert not (full_disk / "run" / "result.json").exists()
    assert [path.name for path in (full_disk / "run" / "checkpoints").iterdir()] == []


def test_a_typo_in_a_config(refused: Refused, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("train:\n  epochs: 3\n  global_btach: 8\n")
    message = refused(photos, "--config", str(config))
    assert f"{config}:3: unknown key train.global_btach. Did you mean train.global_batch?" in message


def test_a_run_folder_that_exists(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    assert run_command(train, ["--run-dir", str(tmp_path / "run"), f"data.root={photos}"]) == 2
    assert f"--run-dir {tmp_path / 'run'} exists" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("signs_nte", "signs_net"),
        ("resnet18", "torchvision:resnet18"),
        ("torchvision:resnet19", "torchvision:resnet18"),
    ],
)
def test_a_model_that_does_not_exist(refused: Refused, photos: Path, name: str, nearest: str) -> None:
    message = refused(photos, f"model.name={name}")
    assert name in message
    assert nearest in message


def test_a_batch_larger_than_the_set(refused: Refused, photos: Path) -> None:
    message = refused(photos, "train.global_batch=100")
    assert "train.global_batch=100 is more than the 12 training images" in message


@pytest.fixture
def finished(photos: Path, tmp_path: Path) -> Path:
    small = [
        "data.image_size=16",
        "model.name=signs_net",
        "train.epochs=1",
        "train.global_batch=4",
        "model.args={channels: 4}",
    ]
    arguments = ["--run-dir", str(tmp_path / "done"), f"data.root={photos}", f"data.cache={tmp_path / 'cache'}", *small]
    assert run_command(train, arguments) == 0
    return tmp_path / "done"


def test_a_checkpoint_of_another_model(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    other = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.zeros(3, 4)}, other)
    capsys.readouterr()
    assert run_command(evaluate, [str(finished), "--weights", str(other)]) == 2
    assert f"{other} holds the weights of another model" in capsys.readouterr().err
    assert str(other) in refused(photos, f"model.weights={other}")


def test_evaluating_what_is_no_run_or_no_split(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run_command(evaluate, [str(photos)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert run_command(evaluate, [str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert run_command(evaluate, [str(finished), "--split", "test"]) == 2
    assert "has no split test. Choose the split train or val." in capsys.readouterr().err
    assert run_command(evaluate, [str(finished), "--weights", "bset"]) == 2
    assert "weights bset: no such file. The weights are final, best, last or the path of a file" in (
        capsys.readouterr().err
    )


def test_predicting_a_broken_photo(
    finished: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = photos / "val_signs" / "0_IMG_0001.jpg"
    broken.write_bytes(b"")
    out = tmp_path / "out.json"
    arguments = [str(finished), str(photos / "val_signs"), "--json", str(out)]
    assert run_command(predict, [*arguments, "--bad-images", "stop"]) == 2
    assert str(broken) in capsys.readouterr().err
    assert not out.exists()
    assert run_command(predict, arguments) == 1
    told = capsys.readouterr()
    assert f"{broken}  skipped" in told.out
    assert "1 of 6 photos has no prediction" in told.err
    assert str(broken) in out.read_text()
    assert run_command(predict, [str(finished), str(tmp_path / "none.jpg")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
