"""The output of a command: few plain lines without a terminal, a bar on one."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from signs_dist.console.class_tables import class_tables
from signs_dist.console.screen import Screen, Throttle, break_line, choose_bar_width, percent
from signs_dist.monitoring.beats import Work

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("total", "seconds_each", "expected"),
    [
        (10, 0.0, list(range(1, 11))),  # every tenth
        (100, 0.0, list(range(10, 101, 10))),
        (100, 1.0, list(range(10, 101, 10))),
        (40, 0.0, list(range(4, 41, 4))),
        (3, 0.0, [1, 2, 3]),
        (1, 0.0, [1]),
        (1000, 1.0, [*(30 * n for n in range(1, 34)), *(100 * n for n in range(1, 11))]),
        (10, 31.0, list(range(1, 11))),
    ],
)
def test_a_line_each_tenth_or_each_30_seconds(total: int, seconds_each: float, expected: list[int]) -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    said = []
    for done in range(1, total + 1):
        clock.now += seconds_each
        if throttle.lets_through(done, total):
            said.append(done)
    if total == 1000:  # a line at a tenth starts the 30 seconds again
        gaps = [later - earlier for earlier, later in zip([0, *said], said, strict=False)]
        assert max(gaps) == 30
        assert all(later % 100 == 0 or later - earlier == 30 for earlier, later in zip([0, *said], said, strict=False))
        assert len(said) <= 1000 / 30 + 10
    else:
        assert said == expected


def test_no_line_before_a_tenth_or_30_seconds() -> None:
    clock = Clock()
    throttle = Throttle(clock=clock)
    assert not throttle.lets_through(0, 100)
    assert not throttle.lets_through(9, 100)
    clock.now = 29.9
    assert not throttle.lets_through(9, 100)
    clock.now = 30.0
    assert throttle.lets_through(9, 100)
    assert not throttle.lets_through(9, 100)
    assert not throttle.lets_through(0, 0)


def lines_of(quiet: bool = False, *, is_terminal: bool = False) -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    return Screen(is_terminal=is_terminal, quiet=quiet, file=stream), stream


def everything(screen: Screen, title: str = "val") -> None:
    screen.banner([("data", "photos"), ("network", "signs_net")])
    with screen.preparing() as report:
        for done in range(101):
            report("packing train", done, 100)
            report("packing val", done, 100)
    with screen.training(1000) as progress:
        for step in range(1, 1001):
            progress(step, "loss 1.0", "9 s")
            if step % 100 == 0:
                screen.epoch(step // 100, 10, f"epoch {step // 100}/10")
    screen.tables(lambda width: class_tables(title, ["0", "1"], [[3, 1], [0, 0]], [0.75, float("nan")], width))
    screen.result("val accuracy 75.0 %")


def test_preparing_tells_the_seconds_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, stream = lines_of()
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    with screen.preparing() as report:
        report("packing", 1, 11)
        monkeypatch.setattr(time, "monotonic", lambda: 40.0)
        report("packing", 6, 11)
    # Begun at 0 s with 1 image done; at 40 s, 5 more are: the other 5 take 40 s.
    assert stream.getvalue().splitlines()[-1] == "packing: 6/11 images, 40 s left"


def test_long_work_has_a_line_for_each_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, stream = lines_of()
    clock = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 20)  # 0.05 s from one look to the next
    with screen.preparing() as report:
        for done in range(101):
            report("packing", done, 100)
    told = [int(line.split()[1].split("/")[0]) for line in stream.getvalue().splitlines()]
    assert told[-1] == 100
    assert 4 <= len(told) <= 10


def test_without_a_terminal_there_are_few_plain_lines() -> None:
    screen, stream = lines_of()
    everything(screen)
    text = stream.getvalue()
    assert not CONTROL.search(text)
    lines = text.splitlines()
    assert lines[:2] == ["   data  photos", "network  signs_net"]
    for what in ("packing train", "packing val"):
        assert [line for line in lines if line.startswith(what)] == [f"{what}: 100/100 images"]  # it was quick
    assert len([line for line in lines if line.startswith(("step", "epoch"))]) == 10
    assert "75.0 %" in text
    assert re.search(r"^ *1 +· +· +0 +-", text, re.MULTILINE)  # a class without images has no accuracy


def test_quiet_shows_results_only() -> None:
    for is_terminal in (False, True):
        screen, stream = lines_of(quiet=True, is_terminal=is_terminal)
        everything(screen)
        assert stream.getvalue().strip() == "val accuracy 75.0 %"


@pytest.mark.parametrize("name", ["[red]x", "[/red]", "[link=x]", ":smile:", "a[b]c", "photos[/old]"])
def test_names_are_not_read_as_markup(name: str) -> None:
    for is_terminal in (False, True):
        screen, stream = lines_of(is_terminal=is_terminal)
        screen.say(name)
        screen.banner([(name, name)])
        screen.tables(lambda width: class_tables(name, [name, "b"], [[1, 0], [0, 1]], [1.0, 1.0], width))
        with screen.preparing() as report:
            report(name, 1, 1)
        assert stream.getvalue().count(name) >= 4


def test_control_characters_in_names_are_escaped() -> None:
    screen, stream = lines_of()
    screen.say("\x1b[31mred\x07.jpg\r")
    screen.result("\x9b2J")
    screen.epoch(1, 1, "\x1b[2J")
    screen.tables(lambda width: class_tables("\x1b[1m", ["\x1b[0m"], [[1]], [1.0], width))
    assert not CONTROL.search(stream.getvalue())
    assert stream.getvalue().splitlines()[0] == "\\x1b[31mred\\x07.jpg\\x0d"


def test_long_lines_are_not_cut() -> None:
    screen, stream = lines_of()
    screen.say("x" * 500 + " " + "y" * 500)
    assert stream.getvalue() == "x" * 500 + " " + "y" * 500 + "\n"


def test_the_log_has_every_line_with_its_time_even_if_quiet(tmp_path: Path) -> None:
    screen, stream = lines_of(quiet=True)
    with screen.logging_to(tmp_path / "log.txt"):
        screen.say("one [x]")
        for epoch in range(1, 31):
            screen.epoch(epoch, 30, f"epoch {epoch}")
        screen.log_only("only here \x1b[31m" + os.fsdecode(b"\xff"))
    screen.say("after")
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", line) for line in lines] == [
        "one [x]",
        *(f"epoch {epoch}" for epoch in range(1, 31)),
        "only here \\x1b[31m\\udcff",
    ]
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("share", "text"), [(0.98148, "98.1 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (float("nan"), "-")]
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


DRIVER = """
import time
from signs_dist.console.class_tables import class_tables
from signs_dist.console.screen import Screen
from signs_dist.environment.context import read_context
screen = Screen(is_terminal=read_context().is_terminal)
with screen.training(10) as progress:
    for step in range(1, 10):
        progress(step, "loss 0.5", "9 s")
        time.sleep(0.03)
    screen.epoch(1, 1, "epoch 1/1 done")
screen.tables(lambda width: class_tables("val", ["0", "1"], [[3, 1], [0, 4]], [0.75, 1.0], width))
screen.result("the end")
"""


LONG_LINES = """
import time
from signs_dist.console.screen import Screen
screen = Screen(is_terminal=True)
batch = "32 = 1 micro-batch of 32 on 1 process; 56 steps an epoch, others the next time"
screen.banner([("run", "a"), ("batch", batch)])
with screen.training(100) as progress:
    for step in range(40, 50):
        progress(step, "epoch 1/20 | loss 1.791  40.0 % | 1,821 images/s", "9 s")
        time.sleep(0.05)
    screen.epoch(1, 2, "epoch  1/20 | loss 1.791  40.0 % | val 1.084  58.1 % (209/360) | lr 0.028 | 1,821 images/s | "
        "data wait 1 %")
screen.result("to resume: " + "a long command " * 6)
"""


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[tuple[int, int]]:
    import fcntl
    import struct
    import termios

    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield leader, follower
    finally:
        os.close(leader)


def seen_on_terminal(
    columns: int, term: str = "xterm-256color", driver: str = DRIVER, more: Mapping[str, str] | None = None
) -> str:
    """What a real process writes to a pseudo-terminal."""
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": term, **(more or {})}
    written = b""
    with terminal(columns) as (leader, follower):
        process = subprocess.Popen(
            [sys.executable, "-c", driver], stdin=follower, stdout=follower, stderr=follower, env=environment
        )
        os.close(follower)
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # Linux says so at the end
                break
            if not part:
                break
            written += part
        assert process.wait() == 0, written
    return written.decode()


@pytest.mark.parametrize(("width", "expected"), [(200, 30), (102, 30), (100, 28), (80, 8), (79, 0), (60, 0), (20, 0)])
def test_a_bar_leaves_room_for_its_numbers(width: int, expected: int) -> None:
    assert choose_bar_width(width) == expected


@pytest.mark.parametrize(
    ("width", "indent", "expected"),
    [
        (14, 4, ["run  one two", "    three", "    /a/path/longer/than/the/line", "    four"]),
        (80, 4, ["run  one two three /a/path/longer/than/the/line four"]),
        (8, 4, ["run  one two three /a/path/longer/than/the/line four"]),  # no room
    ],
)
def test_lines_are_broken_between_words(width: int, indent: int, expected: list[str]) -> None:
    line = "run  one two three /a/path/longer/than/the/line four"
    assert break_line(line, width, indent).split("\n") == expected


@pytest.mark.parametrize("columns", [100, 20])
def test_on_a_terminal_there_is_a_bar(columns: int) -> None:
    text = seen_on_terminal(columns)
    assert "\x1b[" in text
    assert ("━" in text) == (columns == 100)  # else the percentage alone
    assert "training" in text if columns == 100 else "%" in text
    assert "epoch 1/1 done" in text
    assert text.rstrip().endswith("the end")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and comes back


def test_a_narrow_terminal_shows_the_share_and_the_time_left_whole_and_breaks_lines_between_words() -> None:
    text = seen_on_terminal(60, driver=LONG_LINES)
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", text)
    bars = [part for part in re.split(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", without_colours) if "training" in part]
    assert bars
    for bar in bars:
        assert len(bar.rstrip()) <= 60
    assert re.fullmatch(
        r"training +4\d % epoch 1/20 \| loss 1\.791  40\.0 % \| 1,\d*… (\d\d:\d\d|--:--)", bars[-1].rstrip()
    )
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    assert "batch  32 = 1 micro-batch of 32 on 1 process; 56 steps an" in lines
    assert "       epoch, others the next time" in lines
    assert "epoch  1/20 | loss 1.791  40.0 % | val 1.084  58.1 %" in lines
    assert "  (209/360) | lr 0.028 | 1,821 images/s | data wait 1 %" in lines
    assert "to resume: " + "a long command " * 6 in "".join(lines)  # it can be pasted: no line end within it


def test_without_colours_the_bar_stays() -> None:
    text = seen_on_terminal(100, more={"NO_COLOR": "1"})
    assert "━" in text
    assert not re.search(r"\x1b\[[0-9;]*[349][0-7]", text)
    assert re.search(r"\x1b\[[0-9;]*3[0-7]", seen_on_terminal(100))  # with them there are


def test_a_dumb_terminal_gets_plain_lines() -> None:
    text = seen_on_terminal(80, term="dumb")
    assert not CONTROL.search(text.replace("\r\n", "\n"))
    assert "epoch 1/1 done" in text


def test_the_last_step_of_an_epoch_moves_the_bar_and_prints_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, stream = lines_of()
    monkeypatch.setattr(Throttle, "lets_through", lambda *_: True)
    with screen.training(8, 4) as progress:
        assert screen.work == Work("training", 4, 8, "")
        progress(6, "loss 1.0", "9 s")
        progress(8, "loss 0.5", None)
        assert screen.work == Work("training", 8, 8, "loss 0.5")
    assert stream.getvalue() == "step 6/8 | loss 1.0 | 9 s left\n"


def test_the_work_under_way_is_known_to_the_heartbeat() -> None:
    for quiet in (False, True):
        screen, _ = lines_of(quiet)
        assert screen.work is None
        with screen.preparing() as report:
            report("packing train", 40, 1000)
            assert screen.work == Work("packing train", 40, 1000, "40/1,000 images")
        assert screen.work is None
        with screen.training(1000) as progress:
            assert screen.work == Work("training", 0, 1000, "")
            progress(7, "loss 1.0", "9 s")
            assert screen.work == Work("training", 7, 1000, "loss 1.0")
        assert screen.work is None


def test_a_run_elsewhere_is_followed_with_its_bar() -> None:
    screen, stream = lines_of(is_terminal=True)
    with screen.following() as show:
        show(None)
        show(Work("packing train", 40, 1000, "40/1,000 images"))
        show(Work("training", 7, 1000, "loss 1.0"))
        screen.say("epoch 1/10")
        show(Work("training", 500, 1000, "loss 0.5"))
        show(None)
    text = stream.getvalue()
    for shown in ("40/1,000 images", "epoch 1/10", "loss 0.5", "50 %"):
        assert shown in text
    screen, stream = lines_of()
    with screen.following() as show:
        show(Work("training", 500, 1000, "loss 0.5"))
    assert stream.getvalue() == ""  # off a terminal the run prints its own lines


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "00"},
        {"COLUMNS": ""},
        {"COLUMNS": "-5"},
        {"COLUMNS": "\u00b2"},
        {"COLUMNS": "20"},
        {"LINES": "0"},
        {"LINES": "\u00b2"},
        {"TERM": ""},
        {"TERM": "unknown"},
        {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
        {"NO_COLOR": "1"},
        {"FORCE_COLOR": "1"},
        {"TTY_COMPATIBLE": "0"},
        {"TTY_INTERACTIVE": "0"},
        {"TERM": "dumb", "COLUMNS": "0", "LINES": "0"},
    ],
)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_variable_of_a_terminal_hides_a_line(
    variables: dict[str, str], is_terminal: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("TERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    stream = io.StringIO()
    screen = Screen(is_terminal=is_terminal, file=stream)
    with screen.logging_to(tmp_path / "log"), screen.training(10) as show:
        show(1, "loss 1.0", "3 s")
        screen.result("a line that is longer than twenty columns")
    assert "a line that is longer than twenty columns" in stream.getvalue()
    assert "a line that is longer than twenty columns" in (tmp_path / "log").read_text()


def test_an_interrupted_preparation_says_how_far_it_was() -> None:
    stream = io.StringIO()
    screen = Screen(is_terminal=False, file=stream)
    with pytest.raises(KeyboardInterrupt), screen.preparing() as report:  # noqa: PT012
        report("drawing hands", 32, 1200)
        raise KeyboardInterrupt
    assert stream.getvalue() == "drawing hands: stopped at 32/1,200 images\n"
