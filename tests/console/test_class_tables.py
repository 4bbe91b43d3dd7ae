"""The confusion matrix and its parts fit the screen, whatever the number and the length of the names."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len

from signs_dist.console.class_tables import class_tables, count_table, most_confused, shortened
from signs_dist.console.screen import Screen


def printed(classes: list[str], confusion: list[list[int]], width: int) -> list[str]:
    """The lines of the tables, as `Screen` prints them."""
    stream = io.StringIO()
    screen = Screen(is_terminal=False, file=stream)
    accuracies = [row[place] / sum(row) if sum(row) else float("nan") for place, row in enumerate(confusion)]
    screen.tables(lambda _: class_tables("val of photos", classes, confusion, accuracies, width))
    return stream.getvalue().splitlines()


def some_confusion(num_classes: int, largest: int = 7) -> list[list[int]]:
    """Most images are right; class i is sometimes taken for the next class, the more often the larger i is."""
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for row in range(num_classes):
        matrix[row][row] = largest
        matrix[row][(row + 1) % num_classes] = row
    return matrix


def test_the_matrix_names_its_classes() -> None:
    rows = [line.split() for line in printed(["cat", "dog"], [[5, 2], [0, 9]], 80)]
    assert ["class", "cat", "dog", "images", "right"] in rows
    assert ["cat", "5", "2", "7", "71.4", "%"] in rows
    assert ["dog", "·", "9", "9", "100.0", "%"] in rows
    assert rows[-1] == ["rows:", "true", "class,", "columns:", "predicted"]


def test_columns_have_numbers_where_names_are_too_wide() -> None:
    names = [f"golden retriever {place}" for place in range(6)]
    lines = printed(names, some_confusion(6), 80)
    rows = [line.split() for line in lines]
    assert ["#", "class", "1", "2", "3", "4", "5", "6", "images", "right"] in rows
    assert ["3", "golden", "retriever", "2", "·", "·", "7", "2", "·", "·", "9", "77.8", "%"] in rows
    assert rows[-1] == ["rows:", "true", "class,", "columns:", "predicted", "class", "by", "its", "number"]


def test_many_classes_become_the_most_confused_pairs() -> None:
    lines = printed([f"class{place}" for place in range(40)], some_confusion(40, largest=100), 80)
    rows = [line.split() for line in lines]
    assert rows[1:4] == [
        ["class", "taken", "for", "images", "of", "its", "images"],
        ["class39", "class0", "39", "28.1", "%"],
        ["class38", "class39", "38", "27.5", "%"],
    ]
    assert ["10", "most", "confused", "pairs", "of", "39"] in rows
    assert ["class39", "139", "71.9", "%"] in rows
    assert rows[-1] == ["10", "lowest", "accuracies", "of", "40", "classes"]
    assert len(lines) < 30


def test_classes_without_images_are_counted() -> None:
    confusion = some_confusion(30)
    confusion[3] = [0] * 30
    assert printed([str(place) for place in range(30)], confusion, 80)[-1].strip() == (
        "10 lowest accuracies of 30 classes; 1 without images"
    )


def test_no_mistake_at_all_is_said() -> None:
    confusion = [[5 if row == column else 0 for column in range(25)] for row in range(25)]
    assert "no image was taken for another class" in [
        line.strip() for line in printed(list("abcdefghijklmnopqrstuvwxy"), confusion, 80)
    ]


NAMES = {
    "digits": lambda place: str(place),
    "short": lambda place: f"class{place}",
    "long": lambda place: f"{place}-Nymphalidae-Vanessa-atalanta-with-open-wings-{place}",
    "wide": lambda place: f"蝶{place}" * 12,
    "control": lambda place: f"\x1b[31m{place}\n",
    "markup": lambda place: f"[bold]{place}[/bold]",
    "combining": lambda place: "e\u0301" * 40 + str(place),
}


@pytest.mark.parametrize("width", [60, 80, 110])
@pytest.mark.parametrize("num_classes", [2, 6, 10, 20, 21, 150])
@pytest.mark.parametrize("kind", NAMES)
def test_every_line_fits(kind: str, num_classes: int, width: int) -> None:
    names = [NAMES[kind](place) for place in range(num_classes)]
    lines = printed(names, some_confusion(num_classes, largest=12_345), width)
    assert [line for line in lines if cell_len(line) > width] == []
    assert not [line for line in lines if line.strip() in ("%", "…")]
    assert len(lines) <= max(num_classes if num_classes <= 20 else 0, 24) + 4


@pytest.mark.parametrize(
    ("name", "space", "text"),
    [
        ("cat", 10, "cat"),
        ("golden retriever", 16, "golden retriever"),
        ("golden retriever", 9, "gold…ever"),
        ("golden retriever", 8, "gold…ver"),
        ("蝶蝶蝶蝶蝶蝶", 7, "蝶蝶…蝶"),
        ("a\nb", 5, "a\\nb"),
    ],
)
def test_a_long_name_loses_its_middle(name: str, space: int, text: str) -> None:
    assert shortened(name, space).plain == text
    assert shortened(name, space).cell_len <= space


def counted(counts: dict[str, dict[str, int]], width: int = 80) -> list[str]:
    """The lines of a table of counts, as `Screen` prints them."""
    stream = io.StringIO()
    Screen(is_terminal=False, file=stream).tables(lambda _: [count_table(counts, width)])
    return stream.getvalue().splitlines()


def test_the_table_of_counts_shows_a_class_name_as_it_is() -> None:
    lines = counted({"train": {"x[y]": 3, "[red]": 4}})
    assert "x[y]  [red]  all" in lines[0]
    assert lines[1].split() == ["train", "3", "4", "7"]


def test_a_wide_table_of_counts_has_its_classes_in_rows() -> None:
    names = [f"golden retriever {place}" for place in range(8)]
    lines = counted({split: {name: 1000 + place for place, name in enumerate(names)} for split in ("train", "val")})
    assert lines[0].split() == ["images", "train", "val", "all"]
    assert lines[2].split() == ["golden", "retriever", "1", "1,001", "1,001", "2,002"]
    assert lines[-1].split() == ["all", "8,028", "8,028", "16,056"]


def test_of_many_classes_the_smallest_are_counted() -> None:
    lines = counted({"train": {f"class{place}": 100 - place for place in range(60)}})
    assert lines[1].split() == ["class59", "41", "41"]
    assert lines[-2].split() == ["all", "4,230", "4,230"]
    assert lines[-1].split() == ["the", "10", "smallest", "of", "60", "classes"]


@pytest.mark.parametrize("width", [60, 80, 110])
@pytest.mark.parametrize("num_classes", [1, 6, 20, 21, 150])
@pytest.mark.parametrize("kind", NAMES)
def test_every_line_of_counts_fits(kind: str, num_classes: int, width: int) -> None:
    counts = {NAMES[kind](place): 1_234_567 for place in range(num_classes)}
    lines = counted({"train": counts, "val": counts, "test": counts}, width)
    assert [line for line in lines if cell_len(line) > width] == []
    assert len(lines) <= 23


def test_the_most_confused_pairs_come_first_and_ties_by_class() -> None:
    assert most_confused([[5, 1, 1], [2, 0, 0], [0, 0, 9]]) == [(1, 0, 2), (0, 1, 1), (0, 2, 1)]
