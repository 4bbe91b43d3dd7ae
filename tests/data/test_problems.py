from __future__ import annotations

import pytest

from signs_dist.data.problems import MAX_LISTED, BadFile, bad_lines, listed, shown_list


def test_many_files_with_one_problem_are_one_line_with_a_count_and_three_examples() -> None:
    bad = [BadFile(f"{number}.jpg", "no label in its name") for number in range(980)]
    assert bad_lines(bad) == ["  no label in its name: 980 images, such as 0.jpg, 1.jpg, 2.jpg"]
    assert len(bad_lines(bad, in_full=True)) == 980
    assert bad_lines(bad, in_full=True)[-1] == "  979.jpg: no label in its name"


def test_reasons_that_differ_in_numbers_are_one_problem() -> None:
    bad = [BadFile(f"{number}.jpg", f"truncated ({number} bytes not processed)") for number in range(100)]
    assert bad_lines(bad) == ["  truncated (0 bytes not processed): 100 images, such as 0.jpg, 1.jpg, 2.jpg"]


def test_a_few_files_are_all_named_beside_many_others() -> None:
    many = [BadFile(f"{number}.jpg", "the file has 0 bytes") for number in range(MAX_LISTED + 1)]
    lines = bad_lines([*many, BadFile("x.jpg", "truncated"), BadFile("y.jpg", "truncated")])
    assert lines == [
        "  the file has 0 bytes: 21 images, such as 0.jpg, 1.jpg, 2.jpg",
        "  x.jpg: truncated",
        "  y.jpg: truncated",
    ]


def test_a_thousand_different_problems_end_in_how_many_there_are() -> None:
    bad = [BadFile(f"{number}.jpg", "x" * number) for number in range(1000)]
    lines = bad_lines(bad)
    assert (len(lines), lines[-1]) == (MAX_LISTED + 1, "  and 980 more")


def test_names_stay_on_one_line() -> None:
    assert bad_lines([BadFile("a\n\x1b[2J.jpg", "broken")]) == ["  a\\n\\x1b[2J.jpg: broken"]


@pytest.mark.parametrize(
    ("count", "num_shown", "last"),
    [(3, 3, "  2"), (4, 3, "  and 1 more"), (2000, 3, "  and 1,997 more"), (9, None, "  8")],
)
def test_lists_are_cut(count: int, num_shown: int | None, last: str) -> None:
    assert shown_list([str(number) for number in range(count)], num_shown)[-1] == last


def test_names_in_a_sentence() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(150)]) == "0, 1, 2, 3, 4 and 145 more"
    assert listed(["a\tb\x07"]) == "a\\tb\\x07"
