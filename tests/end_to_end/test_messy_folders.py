"""A folder with every known kind of litter, link and name gives the weights of the same photos in a clean folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import features

import signs_dist
from signs_dist.console.command import run_command
from signs_dist.data.build import build
from signs_dist.data.listing import NEVER_IMAGES
from signs_dist.data.litter import LITTER_FILES, LITTER_FOLDERS, LITTER_PARTS, LITTER_PREFIXES, LITTER_SUFFIXES
from signs_dist.data.photos.build_plan import BuildRequest
from signs_dist.evaluate import main as evaluate
from signs_dist.predict import main as predict
from tests.data.photo_files import content_of, encoded, jpeg, photo, write_files

AVIF = "AVIF" if features.check("avif") else "WEBP"  # Pillow reads it since 11.3
NFC, NFD = "caf\u00e9", "cafe\u0301"


def photos_of(split: str, num_photos: int) -> dict[str, bytes]:
    files = {}
    for number in range(num_photos):
        seed = 100 * number + len(split)
        files |= {
            f"{split}/cat/{number}.jpg": jpeg(seed),
            f"{split}/cat/deep/{number}.jfif": jpeg(seed + 1),
            f"{split}/cat/linked/{number}.png": encoded(photo(seed + 2), "PNG"),
            f"{split}/dog/IMG_{number}": jpeg(seed + 3),
            f"{split}/dog/{number}.avif": encoded(photo(seed + 4), AVIF),
            f"{split}/{NFC}/{number} (1).JPG": encoded(photo(seed + 5), "PNG"),
        }
    return files


def litter_of(folder: str) -> dict[str, bytes]:
    names = [
        *(f"{name}/0.jpg" for name in (*LITTER_FOLDERS, "FOUND.017", ".git", ".ipynb_checkpoints")),
        *(f"{name.upper()}/0.jpg" for name in ("@eaDir", "$Recycle.Bin")),
        *LITTER_FILES,
        *(f"{beginning}_0.jpg" for beginning in LITTER_PREFIXES),
        *(f"0.jpg{end}" for end in LITTER_SUFFIXES),
        *(f"0 {part} 1.jpg" for part in LITTER_PARTS),
        *(f"0{suffix}" for suffix in NEVER_IMAGES),
    ]
    return {f"{folder}/{name}": jpeg(9) for name in names} | {f"{folder}/notes": b"hello", f"{folder}/0.svg": b"<svg/>"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("clean"), photos_of("train", 4) | photos_of("val", 1))


@pytest.fixture(scope="module")
def messy(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("messy") / "photos"
    for split, name in (("train", "Training/training"), ("val", "valid")):
        shutil.copytree(clean / split, root / name)
        for folder in ("", "/cat", "/dog"):
            write_files(root, litter_of(name + folder))
        (root / name / "bird").mkdir()
        (root / name / NFC / "0 (1).JPG").rename(write_files(root / name / NFD, {".x": b""}) / "0 (1).JPG")
        elsewhere = root.parent / f"elsewhere_{split}"
        (root / name / "cat/linked").rename(elsewhere)
        (elsewhere / "back").symlink_to(root / name)
        for link, target in {
            "cat/linked": elsewhere,
            "cat/linked_again": elsewhere,
            "cat/shallow": root / name / "cat/deep",
            "cat/all": root,
            "cat/above": root.parent.parent,
            "cat/self": Path("self"),
            "gone": root / "nowhere",
        }.items():
            (root / name / link).symlink_to(target)
    return write_files(root, {"extra/0.jpg": jpeg(1), "cover.jpg": jpeg(2), "README.md": b"", ".DS_Store": b""})


def weights(root: Path, run_dir: Path) -> str:
    settings = ["data.image_size=16", "model.name=signs_net", "model.args={channels: 4}", "exact=true"]
    settings += ["train.epochs=1", "train.global_batch=8", "train.micro_batch=4", "train.precision=float32"]
    config = signs_dist.load_config(None, [f"data.root={root}", f"data.cache={run_dir}.cache", *settings])
    return str(signs_dist.fit(config, run_dir=run_dir, quiet=True)["weights_sha256"])


@pytest.mark.slow
def test_in_place_and_built(clean: Path, messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "messy"
    assert weights(messy, run) == weights(clean, tmp_path / "clean")
    log = (run / "logs/rank0.log").read_text(encoding="utf-8")
    for words in ("files and folders of other programs", "files without a readable image", "links that lead nowhere"):
        assert words in log
    for words in ("links to folders that are read already", "extra/, photos that lie in no folder", f"class {NFC}: "):
        assert words in log

    builds = [build(BuildRequest(root, tmp_path / "out" / root.parent.name, size=16)) for root in (clean, messy)]
    contents = [{name: data for name, data in content_of(out).items() if name != "build.json"} for out in builds]
    assert contents[0] == contents[1]
    assert weights(builds[1], tmp_path / "built_messy") == weights(builds[0], tmp_path / "built_clean")

    assert run_command(evaluate, [str(run)]) == 0
    assert "links that lead nowhere (valid/cat/self, valid/gone)" in capsys.readouterr().out
    assert run_command(predict, [str(run), str(messy / "valid"), "--json", str(tmp_path / "p.json")]) == 0
    predicted = json.loads((tmp_path / "p.json").read_text())["predictions"]
    assert len(predicted) == len(photos_of("val", 1))
    assert "files and folders of other programs" in capsys.readouterr().out
