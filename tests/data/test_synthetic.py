"""The drawn data set: the same files however it is drawn, whole or not there, and pictures of hands."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.data import synthetic
from signs_dist.data.synthetic import default_root, encode_image, main, plan_set, write_synthetic_set
from signs_dist.errors import EXIT_OK, EXIT_USAGE, UserError

SMALL = {"train": 36, "val": 6, "test": 6}


def draw(
    root: Path, *, counts: dict[str, int] = SMALL, seed: int = 0, image_size: int = 16, processes: int = 1
) -> Path:
    write_synthetic_set(root, image_size=image_size, counts=counts, seed=seed, num_processes=processes)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn") / "hands")


def test_layout_names_and_balance(drawn: Path) -> None:
    names = [path.relative_to(drawn).as_posix() for path in sorted(drawn.glob("*/*.jpg"))]
    assert Counter(name.split("/")[0] for name in names) == {"train_signs": 36, "val_signs": 6, "test_signs": 6}
    assert Counter(name.split("/")[1][0] for name in names if name.startswith("train")) == dict.fromkeys("012345", 6)
    ids = [name.split("_IMG_")[1] for name in names]
    assert sorted(ids) == [f"{number:04d}.jpg" for number in range(48)]
    assert json.loads((drawn / "synthetic.json").read_text()) == {
        "drawing_version": synthetic.DRAWING_VERSION,
        "image_size": 16,
        "counts": SMALL,
        "seed": 0,
    }
    assert sorted(path.name for path in drawn.parent.iterdir() if path.suffix != ".lock") == ["hands"]


@pytest.mark.slow
def test_processes_do_not_change_a_byte(drawn: Path, tmp_path: Path) -> None:
    assert contents(draw(tmp_path / "two", processes=2)) == contents(drawn)


def test_seed_split_and_index_change_the_picture() -> None:
    images = plan_set({"train": 12, "val": 6})
    zero, next_zero, val_zero = (images[i] for i in (0, 6, 12))
    encoded = [encode_image(image, image_size=32, seed=0) for image in (zero, next_zero, val_zero)]
    encoded.append(encode_image(zero, image_size=32, seed=1))
    assert len(set(encoded)) == 4
    assert encode_image(zero, image_size=32, seed=0) == encoded[0]


def test_an_equal_set_is_left_alone(drawn: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [drawn, *drawn.rglob("*")]}
    write_synthetic_set(
        drawn, image_size=16, counts=SMALL, seed=0, num_processes=1, on_progress=lambda *_: pytest.fail("draws")
    )
    assert {path: path.stat().st_mtime_ns for path in [drawn, *drawn.rglob("*")]} == before


def test_another_set_is_refused(drawn: Path) -> None:
    before = contents(drawn)
    with pytest.raises(UserError, match=r"another drawn set: seed is 0, not 1\. .* rm -r "):
        draw(drawn, seed=1)
    assert contents(drawn) == before


def test_a_set_with_a_missing_image_is_refused(tmp_path: Path) -> None:
    root = draw(tmp_path / "hands", counts={"train": 6})
    (root / "train_signs" / "0_IMG_0000.jpg").unlink()
    with pytest.raises(UserError, match="was changed: it has 5 images, and 6 were drawn"):
        draw(root, counts={"train": 6})


def test_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not a drawn set: it has no synthetic\.json\. .*--out"):
        draw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hands").write_text("mine")
    with pytest.raises(UserError, match="is not a folder"):
        draw(tmp_path / "hands")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(contents(draw(tmp_path / "empty", counts={"val": 6}))) == 7


@pytest.mark.slow
def test_a_killed_drawing_leaves_no_set_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    root = tmp_path / "my hands"
    flags = ["--out", str(root), "--size", "16", "--train", "6000", "--val", "6", "--test", "6", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "signs_dist.data.synthetic", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any(tmp_path.rglob("*.jpg")))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not root.exists()
    wait_until(lambda: not is_growing(tmp_path))  # the workers end with it
    assert len(list(tmp_path.glob(".my hands.*.part"))) == 1
    draw(root, counts={"train": 6})
    assert list(tmp_path.glob(".my hands.*.part")) == []
    assert len(list(root.glob("*/*.jpg"))) == 6


def wait_until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_growing(folder: Path) -> bool:
    before = sum(1 for _ in folder.rglob("*"))
    time.sleep(1)
    return sum(1 for _ in folder.rglob("*")) != before


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    flags = ["--out", str(tmp_path / "hands"), "--size", "16", "--train", "6000", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "signs_dist.data.synthetic", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: any(tmp_path.rglob("*.jpg")))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_two_at_once_draw_one_set(tmp_path: Path) -> None:
    flags = ["--out", str(tmp_path / "hands"), "--size", "16", "--train", "60", "--val", "6", "--test", "6"]
    command = [sys.executable, "-m", "signs_dist.data.synthetic", *flags, "--processes", "1"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("drawn hands in" in output for output in outputs)
    assert len(list((tmp_path / "hands").glob("*/*.jpg"))) == 72


def test_a_full_disk_is_a_user_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(path: Path, content: bytes) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"no space left while writing .*hands"):
        draw(tmp_path / "hands")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "8"], "image size 8: hands are drawn with 16 to 1024 pixels per side."),
        (["--train", "3"], "3 drawn train images: give 6 or more"),
        (["--train", "0", "--val", "0", "--test", "0"], "a drawn set of 0 images"),
        (["--seed", "-1"], "seed -1 of the drawn set"),
        (["--processes", "0"], "0 processes cannot draw. Give 1 or more."),
    ],
)
def test_wrong_requests_end_with_code_2(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(main, ["--out", str(tmp_path / "hands"), *flags]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_where_the_hands_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "hands"
    flags = ["--out", str(root), "--size", "16", "--train", "12", "--val", "6", "--test", "0", "--processes", "1"]
    assert run_command(main, flags) == EXIT_OK
    assert f"drawn hands in {root}: train 12, val 6\n" in capsys.readouterr().out
    assert sorted(path.name for path in root.iterdir()) == ["synthetic.json", "train_signs", "val_signs"]


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from signs_dist.data.synthetic import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "print(sorted({'torch', 'torchvision', 'numpy', 'PIL', 'rich', 'pydantic'} & set(sys.modules)))\n"
    )
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")
    assert time.monotonic() - started < 3  # generous: the machine may be busy; alone it takes 0.1 s


def test_default_folder_is_named_after_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = default_root(64, SMALL, 0)
    assert folder.parent == Path("data")
    assert folder.name.startswith("synthetic-64-")
    assert len(folder.name) == len("synthetic-64-") + 10
    monkeypatch.setattr(synthetic, "DRAWING_VERSION", synthetic.DRAWING_VERSION + 1)
    others = [default_root(64, SMALL, 0), default_root(64, SMALL, 1), default_root(64, {**SMALL, "val": 12}, 0)]
    assert len({folder, *others}) == 4
