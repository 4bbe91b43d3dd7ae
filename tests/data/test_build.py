from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.console.command import run_command
from signs_dist.data import images
from signs_dist.data.build import build, main
from signs_dist.data.photos import conversion
from signs_dist.data.photos.build_plan import BuildRequest, plan_images
from signs_dist.data.photos.part_folder import part_folder_of
from signs_dist.data.photos.sources import arrange, list_source
from signs_dist.errors import UserError
from tests.data.photo_files import content_of, encoded, jpeg, photo, signs_files, write_files, write_zip


def run(*arguments: object) -> int:
    return run_command(main, [str(argument) for argument in arguments])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def signs_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    side_files = {"__MACOSX/SIGNS/._x.jpg": b"x", "SIGNS/.DS_Store": b"x"}
    return write_zip(tmp_path_factory.mktemp("source") / "SIGNS.zip", signs_files() | side_files)


@pytest.fixture(scope="module")
def built(signs_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(BuildRequest(signs_zip, tmp_path_factory.mktemp("built") / "64x64_SIGNS", size=24))


def test_real_photos_come_out_in_the_published_split(real_photos: Path, tmp_path: Path) -> None:
    for path in sorted(real_photos.glob("*/*.jpg")):
        (tmp_path / "SIGNS/train_signs").mkdir(parents=True, exist_ok=True)
        (tmp_path / "SIGNS/train_signs" / path.name).symlink_to(path)
    out = build(BuildRequest(tmp_path / "SIGNS", tmp_path / "out"))
    for folder in ("train_signs", "val_signs"):
        assert names_in(out / folder) == names_in(real_photos / folder)
    record = json.loads((out / "build.json").read_text())
    assert record["splits"]["val"]["images"] == 216
    pairs = record["same_picture_in_two_splits"]
    assert ["train_signs/0_IMG_5967.jpg", "val_signs/0_IMG_5967 (1).jpg"] in pairs
    assert len(pairs) == 15


def test_output(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir()) == ["build.json", "test_signs", "train_signs", "val_signs"]
    with Image.open(built / "train_signs" / "0_IMG_5000.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (24, 24))
    record = json.loads((built / "build.json").read_text())
    assert {split: row["images"] for split, row in record["splits"].items()} == {"train": 48, "val": 12, "test": 12}
    assert record["splits"]["test"]["per_class"] == {"0": 4, "1": 4, "2": 4}
    assert (record["source"], record["size"], record["seed"], record["left_out"]) == ("SIGNS.zip", 24, 230, [])


@pytest.mark.slow
def test_number_of_processes_and_zip_or_folder_change_no_pixel(built: Path, tmp_path: Path) -> None:
    folder = write_files(tmp_path / "photos", signs_files())
    one = content_of(build(BuildRequest(folder, tmp_path / "one", size=24, processes=1)))
    three = content_of(build(BuildRequest(folder, tmp_path / "three", size=24, processes=3)))
    assert one == three
    del one["build.json"]  # names the source
    assert {name: data for name, data in content_of(built).items() if name != "build.json"} == one


def test_repeated_says_already_built_and_other_settings_are_refused(
    signs_zip: Path, built: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = content_of(built)
    assert run("--source", signs_zip, "--out", built, "--size", 24) == 0
    assert "already built" in capsys.readouterr().out
    for flags, words in [(["--size", 32], "--size 24, not 32"), (["--size", 24, "--seed", 1], "--seed 230, not 1")]:
        assert run("--source", signs_zip, "--out", built, *flags) == 2
        assert words in capsys.readouterr().err
    other = write_zip(tmp_path / "SIGNS.zip", signs_files(57))
    assert run("--source", other, "--out", built, "--size", 24) == 2
    assert "the source's files" in capsys.readouterr().err
    assert content_of(built) == before


def test_folder_that_is_something_else_is_left_alone(
    signs_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    assert run("--source", signs_zip, "--out", tmp_path / "mine") == 2
    assert "was not made by this command" in capsys.readouterr().err
    assert names_in(tmp_path / "mine") == ["thesis.txt"]


def test_class_folders_without_splits_of_all_kinds_of_files(tmp_path: Path) -> None:
    files = {f"cat/{i}.png": encoded(photo(i), "PNG") for i in range(10)}
    files |= {f"dog/deep/{i}.JPG": jpeg(20 + i) for i in range(10)}
    out = build(BuildRequest(write_files(tmp_path / "pets", files), tmp_path / "out", size=8))
    names = [name for name in content_of(out) if name.endswith(".jpg")]
    assert len(names) == 20
    assert sum(name.startswith("val/") for name in names) == 4
    assert {"/".join(name.split("/")[1:3]) for name in names} >= {"dog/deep"}


def test_own_val_split_is_kept(tmp_path: Path) -> None:
    files = {f"{split}/{label}/a.jpg": jpeg(1) for split in ("train", "val") for label in "ab"}
    out = build(BuildRequest(write_files(tmp_path / "in", files), tmp_path / "out", size=8))
    record = json.loads((out / "build.json").read_text())
    assert (record["seed"], record["val_share"]) == (None, None)
    assert record["same_picture_in_two_splits"] == [["train/a/a.jpg", "train/b/a.jpg", "val/a/a.jpg", "val/b/a.jpg"]]


def test_orientation_is_applied_once_and_nothing_is_written_along(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.new("RGB", (60, 60), "white")
    wide.paste("red", (0, 0, 60, 20))
    files = {
        f"{split}/{label}/a.jpg": encoded(wide, "JPEG", exif=exif, comment="me")
        for split in ("train", "val")
        for label in "ab"
    }
    out = build(BuildRequest(write_files(tmp_path / "in", files), tmp_path / "out", size=30))
    with Image.open(out / "train/a/a.jpg") as image:
        assert not image.getexif()
        assert "comment" not in image.info
        assert image.getpixel((28, 15))[1] < 60  # turned clockwise: the red edge is at the right
        assert image.getpixel((2, 15))[1] > 200


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train/a/1.jpg": b"", "train/a/1.png": b"", "val/b/1.jpg": b""}, "would both become train/a/1.jpg"),
        ({f"train_signs/0_{i}.jpg": b"" for i in range(9)}, "all images are of the single class 0"),
        ({f"train_signs/{i}_a.jpg": b"" for i in range(5)}, "no (train|val)"),
        ({**{f"train_signs/{i % 2}_{i}.jpg": b"" for i in range(40)}, "test_signs/7_a.jpg": b""}, "image of class 7"),
        ({"train_signs/a.jpg": b""}, "no image can be used"),
        ({"notes.txt": b""}, "holds no images"),
    ],
)
def test_sources_that_cannot_be_built(
    files: dict[str, bytes], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--source", write_files(tmp_path / "in", files), "--out", tmp_path / "out") == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags",
    [
        *(["--size", 0], ["--size", 9999], ["--val-share", 0], ["--val-share", 1.5]),
        *(["--quality", 0], ["--processes", 0]),
    ],
)
def test_values_that_make_no_sense(flags: list[object], signs_zip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--source", signs_zip, *flags) == 2
    assert f"{flags[0]} {flags[1]:g} is not between" in capsys.readouterr().err


def test_output_inside_the_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_files(tmp_path, signs_files(6))
    assert run("--source", source, "--out", source / "out") == 2
    assert "lies inside the source" in capsys.readouterr().err


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    files = signs_files()
    files["SIGNS/train_signs/0_IMG_empty.jpg"] = b""
    files["SIGNS/test_signs/1_IMG_cut.jpg"] = jpeg(3, 300)[:3000]
    files["SIGNS/train_signs/nolabel.jpg"] = jpeg(4)
    return write_zip(tmp_path / "spoiled.zip", files)


def test_bad_images_stop_the_build_and_are_all_named(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--source", spoiled, "--out", tmp_path / "out", "--size", 16) == 2
    told = capsys.readouterr().err
    assert "3 images of" in told
    for words in ("0_IMG_empty.jpg: the file has 0 bytes", "1_IMG_cut.jpg: truncated", "nolabel.jpg: no label"):
        assert words in told
    assert not (tmp_path / "out").exists()


def test_bad_images_are_skipped_or_kept_in_quarantine(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--source", spoiled, "--size", 16]
    assert run(*flags, "--out", tmp_path / "s", "--bad-images", "skip", "--quiet") == 0
    assert "0_IMG_empty.jpg" in capsys.readouterr().out
    assert not (tmp_path / "s.quarantine").exists()
    assert not (tmp_path / "s/train_signs/0_IMG_empty.jpg").exists()
    assert run(*flags, "--out", tmp_path / "q", "--bad-images", "quarantine") == 0
    kept = content_of(tmp_path / "q.quarantine")
    assert sorted(kept) == [
        "SIGNS/test_signs/1_IMG_cut.jpg",
        "SIGNS/train_signs/0_IMG_empty.jpg",
        "SIGNS/train_signs/nolabel.jpg",
    ]
    assert kept["SIGNS/test_signs/1_IMG_cut.jpg"] == jpeg(3, 300)[:3000]
    left_out = json.loads((tmp_path / "q/build.json").read_text())["left_out"]
    assert [row["path"] for row in left_out] == sorted(kept)
    assert run(*flags, "--out", tmp_path / "q", "--bad-images", "skip") == 0
    assert run(*flags, "--out", tmp_path / "q") == 2
    assert "already built, without 3 bad images" in capsys.readouterr().err


def test_mended_and_changed_photos_are_made_again_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = signs_files()
    source = write_files(tmp_path / "in", files)
    broken = source / "SIGNS/train_signs/1_IMG_5001.jpg"
    broken.write_bytes(b"broken")
    request = BuildRequest(source, tmp_path / "out", size=16, processes=1)
    with pytest.raises(UserError, match=r"1_IMG_5001\.jpg"):
        build(request)
    broken.write_bytes(files["SIGNS/train_signs/1_IMG_5001.jpg"])
    (source / "SIGNS/test_signs/0_IMG_7000.jpg").write_bytes(jpeg(77))
    converted: list[str] = []
    original = images.load_rgb
    monkeypatch.setattr(conversion, "load_rgb", lambda *a, **k: converted.append(k["name"]) or original(*a, **k))
    build(request)
    assert sorted(converted) == ["SIGNS/test_signs/0_IMG_7000.jpg", "SIGNS/train_signs/1_IMG_5001.jpg"]


def test_image_left_half_by_a_power_cut_is_made_again(signs_zip: Path, built: Path, tmp_path: Path) -> None:
    request = BuildRequest(signs_zip, tmp_path / built.name, size=24, processes=1)
    stop_after(request, 40)
    victim = next(part_folder_of(tmp_path / built.name).glob("train_signs/*.jpg"))
    victim.write_bytes(b"\0" * 500)
    (victim.parent / ".x.jpg.abc.part").write_bytes(b"half")
    assert content_of(build(request)) == content_of(built)


def stop_after(request: BuildRequest, num_images: int) -> None:
    done = []

    def load(*arguments: object, **keywords: object) -> Image.Image:
        done.append(1)
        if len(done) > num_images:
            raise KeyboardInterrupt
        return images.load_rgb(*arguments, **keywords)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "load_rgb", load)
        with pytest.raises(KeyboardInterrupt):
            build(request)


def test_full_disk_is_told_and_the_build_goes_on_later(
    signs_zip: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / built.name
    num_written = []
    original = Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        if path.parent.parent == part_folder_of(out):
            num_written.append(1)
            if len(num_written) > 30:
                raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    flags = ["--source", signs_zip, "--out", out, "--size", 24, "--processes", 1]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        assert run(*flags) == 2
    told = capsys.readouterr().err
    assert "no space left" in told
    assert "To continue, repeat the command" in told
    assert not out.exists()
    assert run(*flags) == 0
    assert content_of(out) == content_of(built)


@pytest.mark.slow
def test_full_disk_in_worker_processes(signs_zip: Path, tmp_path: Path) -> None:
    # A file size limit stands in for the full disk: the same system call fails, in another process.
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (14000, 14000));"
        "from signs_dist.data.build import main; from signs_dist.console.command import run_command;"
        "sys.exit(run_command(main, sys.argv[1:]))"
    )
    source = write_zip(tmp_path / "noise.zip", {f"{i % 2}_{i}.png": noise_png(i) for i in range(64)})
    flags = ["--source", source, "--out", tmp_path / "out", "--size", "128", "--processes", "2", "--quality", "100"]
    done = subprocess.run([sys.executable, "-c", script, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "File too large. This session limits a file to 14,000 bytes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def noise_png(seed: int) -> bytes:
    import numpy

    values = numpy.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=numpy.uint8)
    return encoded(Image.fromarray(values), "PNG")


def test_two_builds_at_once_make_one(signs_zip: Path, built: Path, tmp_path: Path) -> None:
    request = BuildRequest(signs_zip, tmp_path / built.name, size=24, processes=1)
    threads = [threading.Thread(target=build, args=[request]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content_of(tmp_path / built.name) == content_of(built)


def test_split_is_made_before_bad_images_are_left_out(tmp_path: Path) -> None:
    files = signs_files(60, 0, top="")
    whole = plan_images(
        arrange(list_source(write_files(tmp_path / "in", files)), tmp_path), "published", seed=230, val_share=0.2
    )
    (tmp_path / "in/train_signs/0_IMG_5000.jpg").write_bytes(b"")
    out = build(BuildRequest(tmp_path / "in", tmp_path / "out", size=8, bad_images="skip", processes=1))
    expected = {image.output for image in whole if not image.output.endswith("0_IMG_5000.jpg")}
    assert set(content_of(out)) - {"build.json"} == expected


@pytest.mark.parametrize("command", ["build", "audit", "download"])
def test_help_loads_nothing_heavy(command: str) -> None:
    script = (
        f"import sys; from signs_dist.data.{command} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'torchvision', 'numpy', 'PIL', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
