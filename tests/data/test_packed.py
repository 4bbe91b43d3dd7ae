from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from signs_dist.data.folder import ImageIndex, index_split
from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.packed import PackedSplit, cache_key, open_packed, pixel_digest
from signs_dist.errors import UserError
from signs_dist.monitoring import waiting
from tests.sets import write_colour_set

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_colour_set(tmp_path / "photos", counts={"train": 4, "val": 2})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a cache"


def pack(photos: Path, cache: Path, side: int = 16) -> tuple[PackedSplit, int]:
    """The packed train split, and how many images were decoded for it."""
    done: list[int] = []
    index = index_split(photos, "train")
    split = open_packed(index, side, cache, num_threads=2, on_progress=lambda now, _: done.append(now))
    return split, len(done)


def folders(cache: Path) -> list[Path]:
    """All that is in the cache, but for locks, which stay."""
    return [path for path in cache.iterdir() if path.suffix != ".lock"] if cache.exists() else []


def decoded(index: ImageIndex, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.asarray(load_rgb(index.root / path, name=path, size=side)) for path in index.paths])


@pytest.mark.parametrize("side", [16, 24])
def test_pixels_are_the_decoded_images_and_labels_the_indexs(photos: Path, cache: Path, side: int) -> None:
    split, num_decoded = pack(photos, cache, side)
    index = index_split(photos, "train")
    assert num_decoded == len(index) == 12
    assert np.array_equal(split.pixels, decoded(index, side))
    assert split.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert split.classes == ("0", "1", "2")
    assert split.digest == pixel_digest(split.pixels)


def test_the_real_photos_pack_to_their_own_pixels(real_photos: Path, cache: Path) -> None:
    index = index_split(real_photos, "val")
    split = open_packed(index, 64, cache, num_threads=2)
    assert split.pixels.shape == (216, 64, 64, 3)
    with Image.open(real_photos / index.paths[77]) as image:  # a file of the right size is not resampled
        assert np.array_equal(split.pixels[77], np.asarray(image))


def test_the_array_is_memory_mapped_and_read_only(photos: Path, cache: Path) -> None:
    split, _ = pack(photos, cache)
    assert isinstance(split.pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        split.pixels[0] = 0


def test_a_second_time_nothing_is_decoded(photos: Path, cache: Path) -> None:
    first, _ = pack(photos, cache)
    second, num_decoded = pack(photos, cache)
    assert num_decoded == 0
    assert second.digest == first.digest
    assert pack(photos, cache, side=8)[1] == 12  # another size is another pack


def replace_pixels(path: Path) -> None:
    Image.new("RGB", (16, 16), (1, 2, 3)).save(path)


def replace_keeping_size_and_time(path: Path) -> None:
    before, contents = path.stat(), bytearray(path.read_bytes())
    contents[-20] ^= 1  # in the compressed pixels
    path.write_bytes(bytes(contents))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("change", [replace_pixels, replace_keeping_size_and_time])
def test_a_changed_photo_is_packed_anew(photos: Path, cache: Path, change: Callable[[Path], None]) -> None:
    before, _ = pack(photos, cache)
    time.sleep(0.02)  # the file system's clock has ticks of some milliseconds
    change(photos / "train_signs" / "1_IMG_0002.jpg")
    after, num_decoded = pack(photos, cache)
    assert num_decoded == 12
    assert np.array_equal(after.pixels, decoded(index_split(photos, "train"), 16))
    assert after.digest != before.digest


def test_a_photo_that_is_taken_away_or_renamed_is_seen(photos: Path, cache: Path) -> None:
    pack(photos, cache)
    (photos / "train_signs" / "1_IMG_0002.jpg").rename(photos / "train_signs" / "2_IMG_9999.jpg")
    split, num_decoded = pack(photos, cache)
    assert num_decoded == 12
    assert split.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 5


def change_byte(position: int) -> Callable[[bytes], bytes]:
    def change(contents: bytes) -> bytes:
        place = position % len(contents)
        return contents[:place] + bytes([contents[place] ^ 0x40]) + contents[place + 1 :]

    return change


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("pixels.npy", change_byte(-1)),
        ("pixels.npy", change_byte(200)),
        ("pixels.npy", lambda contents: b""),
        ("pixels.npy", lambda contents: contents[:60]),
        ("pixels.npy", lambda contents: contents[:-1]),
        ("pixels.npy", lambda contents: b"PK\x03\x04" + contents[4:]),
        ("pixels.npy", None),
        ("packed.json", lambda contents: contents[: len(contents) // 2]),
        ("packed.json", lambda contents: b""),
        ("packed.json", lambda contents: b"[]"),
        ("packed.json", lambda contents: b"\xff\xfe"),
        ("packed.json", lambda contents: b'{"sha256": 5}'),
        ("packed.json", None),
    ],
)
def test_damage_of_any_kind_is_packed_anew(
    photos: Path, cache: Path, name: str, damage: Callable[[bytes], bytes] | None
) -> None:
    before, _ = pack(photos, cache)
    digest = before.digest
    [folder] = folders(cache)
    contents = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage is not None:
        (folder / name).write_bytes(damage(contents))
    after, num_decoded = pack(photos, cache)
    assert num_decoded == 12
    assert after.digest == digest
    assert np.array_equal(after.pixels, decoded(index_split(photos, "train"), 16))
    assert folders(cache) == [folder]


def test_damage_of_every_byte_of_the_header_is_packed_anew(photos: Path, cache: Path) -> None:
    pack(photos, cache)
    [folder] = folders(cache)
    for position in range(128):
        path = folder / "pixels.npy"
        contents = path.read_bytes()
        path.write_bytes(change_byte(position)(contents))
        assert pack(photos, cache)[1] == 12, position


def test_the_digest_does_not_depend_on_where_or_when_the_photos_lie(photos: Path, cache: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where" / "copy"
    shutil.copytree(photos, elsewhere)
    here, there = pack(photos, cache)[0], pack(elsewhere, cache)[0]
    assert here.digest == there.digest
    replace_pixels(elsewhere / "train_signs" / "0_IMG_0000.jpg")
    assert pack(elsewhere, cache)[0].digest != here.digest


def test_names_need_not_be_utf8(photos: Path, cache: Path) -> None:
    source = photos / "train_signs" / "0_IMG_0000.jpg"
    strange = os.fsencode(photos / "train_signs") + b"/0_caf\xe9 \xff.jpg"
    try:
        source.rename(os.fsdecode(strange))
    except OSError as error:
        pytest.skip(f"the file system refuses such names: {error}")
    assert pack(photos, cache)[1] == 12
    assert pack(photos, cache)[1] == 0


def test_fingerprint_of_a_missing_photo_names_it(photos: Path) -> None:
    index = index_split(photos, "train")
    (photos / index.paths[3]).unlink()
    with pytest.raises(UserError, match=r"cannot read .*0_IMG_0003.jpg: No such file"):
        cache_key(index)


@pytest.mark.parametrize(("target", "reason"), [("nowhere.jpg", "a link that leads nowhere"), ("0_9.jpg", "symbolic")])
def test_a_link_to_no_file_is_a_bad_image(photos: Path, target: str, reason: str) -> None:
    (photos / "train_signs" / "0_9.jpg").symlink_to(target)
    with pytest.raises(BadImageError, match=rf"0_9.jpg: .*{reason}"):
        cache_key(index_split(photos, "train"))


@pytest.mark.parametrize("kind", ["corrupt", "truncated", "empty"])
def test_one_bad_photo_is_named_and_nothing_is_left(photos: Path, cache: Path, kind: str) -> None:
    path = photos / "train_signs" / "1_IMG_0001.jpg"
    contents = path.read_bytes()
    path.write_bytes({"corrupt": b"no image", "truncated": contents[:400], "empty": b""}[kind])
    with pytest.raises(BadImageError, match=r"1_IMG_0001\.jpg") as caught:
        pack(photos, cache)
    assert isinstance(caught.value, UserError)
    assert folders(cache) == []
    path.write_bytes(contents)
    assert pack(photos, cache)[1] == 12


@pytest.fixture
def no_root() -> Iterator[None]:
    """Root reads everything: be nobody while this is in use."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter and write to; pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="signs dist ") as folder:
        Path(folder).chmod(0o777)
        write_colour_set(Path(folder) / "photos", counts={"train": 4})
        (Path(folder) / "photos" / "train_signs" / "1_IMG_0001.jpg").chmod(0)
        yield Path(folder)


def test_one_unreadable_photo_is_named_and_nothing_is_left(open_folder: Path, no_root: None) -> None:
    with pytest.raises(BadImageError, match=r"1_IMG_0001\.jpg: permission denied"):
        pack(open_folder / "photos", open_folder / "cache")
    assert folders(open_folder / "cache") == []
    shutil.rmtree(open_folder / "cache")


def test_a_set_or_a_cache_in_a_folder_that_may_not_be_entered_is_named(open_folder: Path, no_root: None) -> None:
    private = open_folder / "private"
    private.mkdir()
    private.chmod(0)
    with pytest.raises(UserError, match=r"cannot open .*private/set: Permission denied"):
        index_split(private / "set", "train")
    with pytest.raises(UserError, match=r"cannot write .*private/cache/.*: Permission denied.*Type: data.cache=FOLDER"):
        pack(open_folder / "photos", private / "cache")


def test_an_interrupt_leaves_nothing(photos: Path, cache: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_packed(index_split(photos, "train"), 16, cache, num_threads=2, on_progress=interrupt)
    assert folders(cache) == []


def test_a_cache_that_is_a_file_or_below_one_is_refused(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"data.cache=.*file is a file. Choose a folder"):
        pack(photos, file)
    with pytest.raises(UserError, match=r"cannot write .*: Not a directory"):
        pack(photos, file / "cache")


PACKING = """
import sys, time
from pathlib import Path
from signs_dist.data.folder import index_split
from signs_dist.data.packed import open_packed

def report(done, total):
    if done == 1:
        print("packing", flush=True)
    if done == 3:
        time.sleep(float(sys.argv[3]))

index = index_split(Path(sys.argv[1]), "train")
split = open_packed(index, int(sys.argv[4]), Path(sys.argv[2]), num_threads=1, on_progress=report)
print(split.digest, int(split.pixels.sum()))
"""


def start_packing(photos: Path, cache: Path, pause_seconds: float, side: int = 16) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PACKING, str(photos), str(cache), str(pause_seconds), str(side)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_at_once_one_packs(photos: Path, cache: Path) -> None:
    processes = [start_packing(photos, cache, 0.7) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split("\n") for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(len(lines) for lines in outputs) == [2, 3]  # one said "packing"
    assert outputs[0][-2] == outputs[1][-2]
    assert len(folders(cache)) == 1


def test_a_kill_while_packing_leaves_nothing_that_is_used_and_the_next_run_cleans_up(photos: Path, cache: Path) -> None:
    process = start_packing(photos, cache, 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "packing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    [leftover] = folders(cache)
    assert leftover.suffix == ".part"
    split, num_decoded = pack(photos, cache)
    assert num_decoded == 12
    assert np.array_equal(split.pixels, decoded(index_split(photos, "train"), 16))
    [folder] = folders(cache)
    assert json.loads((folder / "packed.json").read_text())["num_images"] == 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 KiB, too small for 256 x 256 pixels."""
    mount_point = tmp_path / "small disk"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(mount_point)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield mount_point
    subprocess.run(["umount", "-l", str(mount_point)], check=True)


def test_a_full_disk_is_said_and_nothing_is_left(photos: Path, small_disk: Path) -> None:
    # In a process of its own: writing to a memory map on a full disk ends the process with SIGBUS.
    process = start_packing(photos, small_disk / "cache", 0, side=256)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "UserError: no space left while writing" in error
    assert "bytes are free there: free some space. Or choose another folder. Type: data.cache=FOLDER" in error
    assert folders(small_disk / "cache") == []
    assert pack(photos, small_disk / "cache", side=8)[1] == 12  # what fits is packed


def test_a_limit_on_file_sizes_is_said(photos: Path, cache: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .* File too large\. This session limits a file to 100,000"):
            pack(photos, cache, side=256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folders(cache) == []


def test_a_lock_that_another_process_holds_is_waited_for_aloud(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.05)
    index, told = index_split(photos, "train"), []
    pack(photos, cache)
    shutil.rmtree(folders(cache)[0])  # a whole pack needs no lock
    lock = FileLock(next(cache.glob("*.lock")), thread_local=False)
    lock.acquire()

    def release(line: str) -> None:
        told.append(line)
        lock.release()

    split = open_packed(index, 16, cache, num_threads=1, tell=release)
    assert len(split.labels) == 12
    assert "packs these images" in told[0]
