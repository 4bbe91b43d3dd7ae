"""The command that evaluates: photos that are not split, weights that are no numbers, and where its cache is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.console.command import run_command
from signs_dist.evaluate import main as evaluate
from tests.data.photo_files import jpeg, write_files
from tests.inference.runs import make_run
from tests.test_predict import fill_with_nan


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the classes 0, 1 and 2, started in the folder above it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("trained")
        patch.chdir(folder)
        return make_run(folder, "train.epochs=1", "data.cache=cache")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


def typed(*arguments: object) -> int:
    return run_command(evaluate, [str(argument) for argument in arguments])


CLASS_FOLDERS = {f"{label}/{number}.jpg": jpeg(3 * label + number) for label in range(3) for number in range(3)}
FLAT = {f"{label}_{number}.jpg": jpeg(3 * label + number) for label in range(3) for number in range(3)}


@pytest.mark.parametrize(
    ("files", "num_images", "told"),
    [
        (CLASS_FOLDERS, 9, ""),
        (FLAT, 9, ""),
        ({f"top/{name}": data for name, data in CLASS_FOLDERS.items()}, 9, ""),
        ({"1/deep/er/a.png": jpeg(1), "2/b.JPG": jpeg(2)}, 2, ""),
        ({"1/a.jpg": jpeg(1)}, 1, ""),
    ],
)
def test_photos_that_are_not_split_are_one_set(
    run: Path, tmp_path: Path, files: dict[str, bytes], num_images: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_files(tmp_path / "photos", files)
    out = tmp_path / "out.json"
    assert typed(run, "--data", photos, "--json", out) == 0
    printed = capsys.readouterr().out
    assert f"{photos} is not split: all its images are one set" in printed
    assert f"/{num_images} {photos} images" in printed
    numbers = json.loads(out.read_text())
    assert (numbers["split"], numbers["all_images"]) == ("all", num_images)
    by_class = [sum(row) for row in numbers["all_confusion"]]
    expected = [sum(name.removeprefix("top/").startswith(str(label)) for name in files) for label in range(3)]
    assert by_class == expected


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (CLASS_FOLDERS | {"owl/1.jpg": jpeg(50)}, "class owl is not among the model's classes 0, 1, 2 (1 image)"),
        (
            {"a.jpg": jpeg(1), "b.jpg": jpeg(2)},
            "2 images have no class, such as a.jpg. Put them into a folder for each",
        ),
        (FLAT | {"x.jpg": jpeg(1)}, "1 image has no class, such as x.jpg"),
        ({"notes.txt": b"x"}, "holds no images"),
        ({}, "holds no images"),
    ],
)
def test_photos_that_cannot_be_evaluated_are_refused_with_what_to_do(
    run: Path, tmp_path: Path, files: dict[str, bytes], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    assert typed(run, "--data", write_files(tmp_path / "photos", files)) == 2
    assert words in capsys.readouterr().err


def test_the_folder_of_one_class_names_the_folder_above(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_files(tmp_path / "photos", {"1/a.jpg": jpeg(1)})
    assert typed(run, "--data", photos / "1") == 2
    assert f"give the folder above, {photos}" in capsys.readouterr().err


def test_a_split_of_photos_that_are_not_split_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_files(tmp_path / "photos", CLASS_FOLDERS)
    assert typed(run, "--data", photos, "--split", "test") == 2
    assert "To evaluate all of them, omit --split." in capsys.readouterr().err


@pytest.mark.parametrize("data", ["~/x", "~nobody_here/x", "{missing}"])
def test_a_folder_that_is_not_there_is_told(
    run: Path, tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", fail)
    data = data.format(missing=tmp_path / "missing")
    assert typed(run, "--data", data) == 2
    assert f"error: there is no folder {data}" in capsys.readouterr().err


def test_weights_that_are_not_numbers_are_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    fill_with_nan(broken / "model.pt")
    assert typed(broken, "--json", tmp_path / "out.json") == 1
    told = capsys.readouterr()
    assert "the loss of 12 of 12 images is not a finite number" in told.err
    assert "loss nan" in told.out
    assert json.loads((tmp_path / "out.json").read_text())["val_loss"] is None


def test_nothing_is_made_in_the_current_folder(run: Path, tmp_path: Path) -> None:
    assert typed(run, "--quiet") == 0
    assert not list(Path.cwd().iterdir())
    assert not (tmp_path / "user_cache").exists()  # the run's own cache is used


def test_where_the_runs_folders_are_gone_the_cache_of_the_user_is_used(run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    manifest = json.loads((moved / "manifest.json").read_text())
    (moved / "manifest.json").write_text(json.dumps(manifest | {"working_folder": str(tmp_path / "gone")}))
    assert typed(moved, "--quiet") == 0
    assert not list(Path.cwd().iterdir())
    assert [path.name for path in (tmp_path / "user_cache").iterdir()] == ["signs_dist"]


def test_drawn_images_are_not_drawn_in_the_current_folder(tmp_path: Path) -> None:
    counts = ("data.synthetic.train=12", "data.synthetic.val=6", "data.synthetic.test=6")
    home = tmp_path / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run = make_run(home, "data.root=null", *counts, "train.epochs=1", "data.cache=data/cache")
    assert typed(run, "--quiet") == 0
    assert not list(Path.cwd().iterdir())
    home.rename(tmp_path / "moved")
    assert typed(tmp_path / "moved" / run.name, "--quiet") == 0
    assert not list(Path.cwd().iterdir())
    assert not home.exists()
    assert list((tmp_path / "user_cache/signs_dist").glob("data/synthetic-*"))


def test_the_limit_on_pixels(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_files(tmp_path / "photos", CLASS_FOLDERS)
    Image.new("RGB", (100, 100)).save(photos / "1/large.png")
    assert typed(run, "--data", photos, "--max-megapixels", "0.005") == 2
    assert "100 x 100 pixels, more than 0.005 megapixels" in capsys.readouterr().err
    assert typed(run, "--data", photos) == 0


@pytest.mark.parametrize("target", ["/proc/x.json", "{folder}"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    run: Path, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signs_dist.inference.trained_model.load_model", lambda *_, **__: pytest.fail("it began"))
    assert typed(run, "--json", target.format(folder=tmp_path)) == 2
    assert "error: cannot write" in capsys.readouterr().err
