"""Findings: merging those of several machines, and showing them on a narrow terminal."""

from __future__ import annotations

import pytest

from signs_dist.health.finding import Finding, as_json, leaders_of, listed, merge, places_of, show, summarize, worst

BAD = Finding("cores", "warn", "others keep 2 busy", "free cores", "end them")
GOOD = Finding("cores", "ok", "8 cores", "free cores")


def test_a_line_says_status_check_and_what_was_measured() -> None:
    assert show(GOOD, 80) == "ok    cores          8 cores (expected: free cores)"


def test_what_is_wrong_has_a_line_for_what_is_expected_and_one_for_the_mend() -> None:
    assert show(BAD, 80).splitlines() == [
        "warn  cores          others keep 2 busy",
        "                     expected: free cores",
        "                     to mend:  end them",
    ]


@pytest.mark.parametrize("width", [80, 100, 500])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    finding = Finding("run folder", "fail", "words " * 60, "more words " * 30, "many words to type " * 20)
    lines = show(finding, width).splitlines()
    assert max(map(len, lines)) <= min(width, 120)
    assert all(line.startswith(" " * 21) for line in lines[1:])


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in show(Finding("names", "fail", "host \x1b[2J"), 80)


def test_one_machine_is_not_named() -> None:
    assert merge({"n1": GOOD}) == [GOOD]


def test_machines_with_the_same_finding_are_told_once_and_the_worst_first() -> None:
    found = merge({"n1": GOOD, "n2": BAD, "n3": Finding("cores", "ok", "16 cores", "free cores")})
    assert [(each.status, each.measured) for each in found] == [
        ("warn", "n2: others keep 2 busy"),
        ("ok", "n1, n3: 8 cores"),
    ]
    assert merge({"n1": GOOD, "n2": GOOD})[0].measured == "n1 and 1 more: 8 cores"


def test_places() -> None:
    assert [str(place) for place in places_of({0: "n1", 1: "n2"}).values()] == ["rank 0 on n1", "rank 1 on n2"]
    assert [str(place) for place in places_of({0: "n1", 1: "n1"}).values()] == ["rank 0", "rank 1"]
    assert str(places_of({0: "n1"})[0]) == "this process"
    assert leaders_of(places_of({0: "n1", 1: "n1", 2: "n2", 3: "n2"})) == [0, 2]


def test_a_long_list_is_cut() -> None:
    assert listed(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_the_end() -> None:
    assert summarize([GOOD, BAD, Finding("gpu", "skip", "none")]) == "0 fail, 1 warn, 1 ok, 1 not checked here"
    assert (worst([]), worst([GOOD, BAD]), worst([Finding("gpu", "skip", "")])) == ("ok", "warn", "skip")
    values = as_json([BAD], 2, 1.25)
    assert (values["version"], values["status"], values["world_size"], values["seconds"]) == (1, "warn", 2, 1.25)
    assert values["findings"][0]["mend"] == "end them"
