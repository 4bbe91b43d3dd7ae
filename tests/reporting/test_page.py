"""Pages as HTML: escaped, self-contained, the same each time, legible without colours and scripts."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from signs_dist.reporting.content import read_content
from signs_dist.reporting.page import TEMPLATES, render
from signs_dist.reporting.run_page import view_run
from signs_dist.reporting.writing import write_report
from signs_dist.run_folder.records import EndLine, StartLine
from tests.reporting.pages import tags_of, without_what_varies
from tests.reporting.run_folders import write_run


def test_names_of_users_are_text_everywhere(hostile_page: Path) -> None:
    page = hostile_page.read_text(encoding="utf-8")
    tags = tags_of(page)
    assert not [tag for tag in tags if any(name.startswith("on") for name in tag[1])]
    assert not [attributes for tag, attributes in tags if tag == "img" and attributes.get("src") == "x"]
    assert [attributes.get("type") for tag, attributes in tags if tag == "script"].count(None) == 1
    assert not [tag for tag, _ in tags if tag == "b"]
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert "\\u2028\\x1b[2J" in page


def test_the_page_needs_no_network_and_no_other_file(one_page: Path) -> None:
    page = one_page.read_text(encoding="utf-8")
    addresses = [
        value for _, attributes in tags_of(page) for name, value in attributes.items() if name in ("src", "href")
    ]
    assert {str(address)[:5] for address in addresses} <= {
        "data:",
        *(str(each)[:5] for each in addresses if str(each)[0] == "#"),
    }
    assert not re.search(r"url\((?!#)|@import", page)


def test_every_picture_has_a_text_and_every_table_its_caption_and_headers(one_page: Path) -> None:
    page = one_page.read_text(encoding="utf-8")
    tags = tags_of(page)
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert len(images) > 40
    assert all(attributes.get("alt") for attributes in images)
    assert all(attributes.get("aria-label") for _, attributes in tags if attributes.get("role") in ("img", "region"))
    assert page.count("<table") == page.count("<caption>")
    assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")
    names = [tag for tag, _ in tags]
    assert {"header", "nav", "main", "footer", "h1"} <= set(names)
    assert 'href="#content"' in page
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_figures_are_those_of_result_json(one_run: Path, one_page: Path) -> None:
    result = json.loads((one_run / "result.json").read_text())
    page = one_page.read_text(encoding="utf-8")
    assert f"{100 * result['val_accuracy']:.1f} %" in page
    for row in result["val_confusion"]:
        for count in filter(None, row):
            assert f'%">{count}</td>' in page
    assert result["weights_sha256"] in page


def test_a_page_is_the_same_each_time(one_run: Path, one_page: Path, tmp_path: Path) -> None:
    write_report([one_run], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == one_page.read_bytes()


def test_an_interrupted_run_has_the_same_page_but_for_attempts_times_speed_and_host(tmp_path: Path) -> None:
    attempts = [
        StartLine(attempt=1, time="2026-02-01T08:00:00+00:00", first_step=0, world_size=2, host="node1"),
        EndLine(attempt=1, time="2026-02-01T08:10:00+00:00", reason="SIGTERM", last_step=47, seconds_lost=0.0),
        StartLine(attempt=2, time="2026-02-01T09:00:00+00:00", first_step=47, world_size=2, host="node2"),
        EndLine(attempt=2, time="2026-02-01T09:30:00+00:00", reason="finished", last_step=120, seconds_lost=0.0),
    ]
    whole = write_run(tmp_path / "one" / "run", speed=900.0)
    broken = write_run(tmp_path / "two" / "run", speed=500.0, attempts=attempts)
    pages = [render("run.html", view_run(read_content(run))) for run in (whole, broken)]
    assert "node2" in pages[1]
    assert pages[0] != pages[1]
    first, second = map(without_what_varies, pages)
    assert first == second
    assert "Confusion matrix" in first
    assert "node" not in re.sub(r"<script[^>]*>.*?</script>", "", first, flags=re.DOTALL)
    other = write_run(tmp_path / "three" / "run", "optim.lr=0.02")
    assert without_what_varies(render("run.html", view_run(read_content(other)))) != first


def test_a_run_in_every_state_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2, is_finished=False, end="RuntimeError: <boom>")
    page = view_run(read_content(run))
    for state in ("running", "waiting", "stopped", "failed", "not begun"):
        text = render("run.html", dataclasses.replace(page, state=state, card="a <card>"))
        assert f">{state}</span>" in text
        assert "a &lt;card&gt;" in text
        assert "RuntimeError: &lt;boom&gt;" in text


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_a_contrast_of_4_5_and_lines_of_3(theme: str) -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    block = re.search(r":root \{(.*?)\}" if theme == "light" else r'data-theme="dark"\] \{(.*?)\}', style, re.DOTALL)
    assert block is not None
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", block[1]))
    for name in ("ink", "muted", "link", "bad", "good", "warn"):
        for ground in ("paper", "panel"):
            assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
    for number in range(7):
        assert contrast(colors[f"series-{number}"], colors["paper"]) >= 3.0, number


def test_the_dark_colours_are_written_twice_alike() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    chosen = re.search(r'data-theme="dark"\] \{(.*?)\}', style, re.DOTALL)
    of_system = re.search(r'not\(\[data-theme="light"\]\) \{(.*?)\}', style, re.DOTALL)
    assert chosen is not None
    assert of_system is not None
    assert chosen[1].split() == of_system[1].split()
