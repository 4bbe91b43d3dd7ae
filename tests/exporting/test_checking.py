"""Whether an export gives what the run's own model gives."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from signs_dist.errors import ExportDiffersError
from signs_dist.exporting import checking
from signs_dist.exporting.checking import Agreement, PhotoSet, _save, check, compare, program
from signs_dist.inference.export_record import ExportRecord
from tests.inference.exports import make_record

EXPECTED = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]], dtype=np.float32)
IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


def photo_set(tolerance: float = 1e-4) -> PhotoSet:
    return PhotoSet("2 val photos", IMAGES, EXPECTED, tolerance)


@pytest.mark.parametrize(
    ("found", "tolerance", "num_other_class", "is_good"),
    [
        ([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]], 1e-4, 0, True),
        ([[0.70005, 0.19995, 0.1], [0.4, 0.35, 0.25]], 1e-4, 0, True),
        ([[0.701, 0.199, 0.1], [0.4, 0.35, 0.25]], 1e-4, 0, False),
        ([[0.7, 0.2, 0.1], [0.35, 0.4, 0.25]], 1e-4, 1, False),
        ([[0.7, 0.2, 0.1], [0.37, 0.38, 0.25]], 0.06, 0, True),  # a tie, up to the tolerance
        ([[0.2, 0.7, 0.1], [0.4, 0.35, 0.25]], 0.06, 1, False),
        ([[np.nan, 0.2, 0.1], [0.4, 0.35, 0.25]], 1e-4, 0, False),
        ([[0.7, 0.3], [0.4, 0.6]], 1e-4, 2, False),
    ],
)
def test_what_counts_as_the_same(
    found: list[list[float]], tolerance: float, num_other_class: int, is_good: bool
) -> None:
    agreement = compare(photo_set(tolerance), np.array(found, dtype=np.float32))
    assert (agreement.num_other_class, agreement.is_good) == (num_other_class, is_good)


@pytest.mark.parametrize(
    ("agreement", "line"),
    [
        (
            Agreement("216 val photos", 216, 0, 4.2e-7, 1e-4),
            "216 val photos: same class on all, probabilities to 4.2e-07 (allowed: 0.0001)",
        ),
        (
            Agreement("64 of them at 160 x 112 pixels", 64, 3, 0.5, 0.02),
            "64 of them at 160 x 112 pixels: another class on 3, probabilities to 5.0e-01 (allowed: 0.02)",
        ),
    ],
)
def test_the_line_for_people(agreement: Agreement, line: str) -> None:
    assert agreement.line() == line


class NumpyFormat:
    """A format whose model is numpy alone."""

    IS_INSIDE = True

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)

    def packages(self, record: ExportRecord) -> tuple[str, ...]:
        return ("numpy",)

    def load_lines(self, record: ExportRecord, folder: Path) -> list[str]:
        return ["shares = numpy.load('model.npy')"]

    def classify_lines(self, record: ExportRecord) -> list[str]:
        return ["def classify(images):", *(f"    {line}" for line in self.lines)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that is a table, by the first value of an image."""
    table = np.zeros((256, 3), dtype=np.float32)
    table[IMAGES[:, 0, 0, 0]] = EXPECTED
    np.save(tmp_path / "model.npy", table)
    return tmp_path


def test_an_export_that_agrees(folder: Path) -> None:
    form = NumpyFormat("return shares[images[:, 0, 0, 0]]")
    agreements, versions = check(form, folder, make_record(), [photo_set(), photo_set(0.1)])
    assert [(each.is_good, each.tolerance) for each in agreements] == [(True, 1e-4), (True, 0.1)]
    assert versions == {"numpy": np.__version__}
    assert [path.name for path in folder.iterdir()] == ["model.npy"]


def test_an_export_that_differs_is_told(folder: Path) -> None:
    form = NumpyFormat("return shares[images[:, 0, 0, 0]][:, ::-1]")
    with pytest.raises(ExportDiffersError) as caught:
        check(form, folder, make_record(), [photo_set()])
    assert str(caught.value).splitlines() == [
        "the export differs from the run, and was not kept:",
        "  2 val photos: another class on 2, probabilities to 6.0e-01 (allowed: 0.0001)",
    ]
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("import signs_dist", "ModuleNotFoundError: import of signs_dist halted"),
        ("raise ValueError('of the model')", "ValueError: of the model"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "the process was killed by signal 9; 9 comes when memory runs out"),
    ],
)
def test_an_export_that_cannot_be_run_is_told(folder: Path, line: str, told: str) -> None:
    with pytest.raises(ExportDiffersError) as caught:
        check(NumpyFormat(line), folder, make_record(), [photo_set()])
    assert "the export cannot be run without signs_dist, and was not kept" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("line", ["raise OSError(28, 'No space left on device')", "return shares[images[:, 0, 0, 0]]"])
def test_a_full_disk_is_no_difference(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if line.startswith("return"):  # in this process already

        def save(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(checking, "_save", save)
    with pytest.raises(OSError, match="No space left") as caught:
        check(NumpyFormat(line), folder, make_record(), [photo_set()])
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in folder.iterdir()] == ["model.npy"]


def test_photos_are_written_as_numpy_writes_them(tmp_path: Path) -> None:
    _save(tmp_path / "some.npy", IMAGES.transpose(0, 2, 1, 3))
    assert np.array_equal(np.load(tmp_path / "some.npy"), IMAGES.transpose(0, 2, 1, 3))
    with pytest.raises(OSError, match="No space left") as caught:
        _save(Path("/dev/full"), np.zeros((2000, 32, 32, 3), dtype=np.uint8))
    assert caught.value.errno == errno.ENOSPC


def test_modules_of_the_user_are_found_wherever_the_run_finds_them(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path_factory.mktemp("own")
    (own / "my_part.py").write_text("def first(images):\n    return images[:, 0, 0, 0]\n")
    monkeypatch.syspath_prepend(str(own))
    form = NumpyFormat("import my_part", "return shares[my_part.first(images)]")
    agreements, _ = check(form, folder, make_record(), [photo_set()])
    assert agreements[0].is_good


def test_the_program_is_python_for_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "it's {here}").mkdir()
    monkeypatch.chdir(tmp_path / "it's {here}")
    compile(program(NumpyFormat("return images"), tmp_path, make_record()), "program", "exec")
