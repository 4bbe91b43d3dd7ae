"""HEIC photos come out with known colours, and without the extra they are named with what to type."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy
import pytest
from PIL import Image

from signs_dist.config.settings import DataConfig
from signs_dist.data import heic
from signs_dist.data.build import build
from signs_dist.data.heic import HOW_TO_READ_HEIC
from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.photos.build_plan import BuildRequest
from signs_dist.data.plan import BatchKey
from signs_dist.data.sets import open_data_set, open_split
from tests.data.photo_files import photo


def heic_of(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (255, 0, 0), (255, 0, 0)),
        ("RGB", (10, 200, 90), (10, 200, 90)),
        ("L", 100, (100, 100, 100)),
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 0x8000, (128, 128, 128)),
    ],
)
def test_known_colours(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    loaded = load_rgb(heic_of(Image.new(mode, (16, 16), colour)), name="x", size=None)  # type: ignore[arg-type]
    assert (loaded.mode, loaded.size) == ("RGB", (16, 16))
    assert numpy.abs(numpy.asarray(loaded).astype(int) - expected).max() <= 3


def test_upright_by_its_orientation_and_resized(tmp_path: Path) -> None:
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste((255, 0, 0), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.heic").write_bytes(heic_of(upright.transpose(Image.Transpose.ROTATE_90), exif=exif.tobytes()))
    loaded = load_rgb(tmp_path / "a.heic", name="a.heic", size=None)
    assert loaded.size == (64, 32)
    assert numpy.abs(numpy.asarray(loaded).astype(int) - numpy.asarray(upright)).mean() < 3
    assert load_rgb(tmp_path / "a.heic", name="a.heic", size=8).size == (8, 8)


def test_several_threads_get_the_same_pixels() -> None:
    files = [heic_of(photo(seed)) for seed in range(4)]
    expected = [load_rgb(data, name="x", size=16).tobytes() for data in files]
    found: list[list[bytes]] = []
    threads = [
        threading.Thread(target=lambda: found.append([load_rgb(d, name="x", size=16).tobytes() for d in files]))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6


def test_a_broken_photo_is_a_bad_image() -> None:
    whole = heic_of(photo(1))
    for data in (whole[: len(whole) // 2], whole[:40], whole[:-20]):
        with pytest.raises(BadImageError, match=r"HEIC that is broken|truncated|broken \("):
            load_rgb(data, name="x", size=16)


def test_without_the_extra_it_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic_of(photo(1))
    monkeypatch.setattr(heic, "is_installed", lambda module: False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(BadImageError) as caught:
        load_rgb(data, name="a.heic", size=16)
    assert caught.value.reason == HOW_TO_READ_HEIC
    assert "pip install 'signs_dist[heic]'" in str(caught.value)


def test_build_packing_and_reading_of_files_take_it(tmp_path: Path) -> None:
    colours = {"cat": (200, 40, 40), "dog": (40, 40, 200)}
    for name, (red, green, blue) in colours.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):  # all different, or they would be copies
            image = Image.new("RGB", (16, 16), (red, green + number, blue))
            (tmp_path / "photos" / name / f"{number}.heic").write_bytes(heic_of(image))
    built = build(BuildRequest(tmp_path / "photos", out=tmp_path / "built", size=16, processes=1))
    assert sorted(path.parent.name for path in built.rglob("*.jpg")) == ["cat"] * 5 + ["dog"] * 5
    config = DataConfig(root=str(tmp_path / "photos"), image_size=16, cache=str(tmp_path / "cache"))
    config = config.model_copy(update={"split_folder": str(tmp_path / "splits")})
    index = open_data_set(config, num_processes=1, report=lambda *_: None).splits["train"]
    for storage in ("packed", "files"):
        stored = config.model_copy(update={"storage": storage})
        batches, _ = open_split(index, stored, num_threads=2, report=lambda *_: None)
        batch = batches[BatchKey(0, 0, numpy.arange(len(index)))]
        for image, label in zip(batch.images.permute(0, 2, 3, 1).numpy(), batch.labels.tolist(), strict=True):
            expected = colours[index.classes[label]]
            assert numpy.abs(image.astype(int).mean(axis=(0, 1)) - expected).max() <= 8, storage


def test_other_photos_do_not_import_the_package() -> None:
    script = (
        "import io, sys; from PIL import Image; from signs_dist.data.images import load_rgb\n"
        "stream = io.BytesIO(); Image.new('RGB', (8, 8)).save(stream, 'JPEG')\n"
        "load_rgb(stream.getvalue(), name='x', size=8)\n"
        "assert 'pillow_heif' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
