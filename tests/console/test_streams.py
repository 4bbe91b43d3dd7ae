"""Standard streams that are closed, broken, full or read by nobody, with real descriptors."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from signs_dist.console import streams
from signs_dist.console.screen import Screen
from signs_dist.console.streams import LastingStream, UnblockedStream, describe_trouble, lasting, unblocked
from tests.processes import environment, wait_until

FULL = (
    "error: no space left while writing the output: No space left on device. Free some space there, or choose another "
    "folder.\n"
)
needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")

PROGRAM = """
import os, sys, time
from signs_dist.console.command import run_command
from signs_dist.console.streams import lasting, unblocked
from signs_dist.errors import UserError
def report(arguments):
    for number in range(20_000): print(number, "\\u2192 \\u2026 \\u00b7")
    return 0
def result(arguments):
    with unblocked(sys.stdout) as output:
        for number in range(300): print(number, "\\u2192 \\u2026 \\u00b7", file=output)
    return 0
def wrong(arguments): raise UserError("\\u2192 \\u2026 \\u00b7")
def every(arguments): report([]), result([]), wrong([])
def stops(arguments): raise KeyboardInterrupt
def opens(arguments):
    descriptor = os.open(arguments[0], os.O_CREAT | os.O_WRONLY)
    print("printed")
    print("warned", file=sys.stderr)
    os.system("echo from a child; echo from a child >&2")
    os.close(descriptor)
    return 0
name, *rest = sys.argv[1:]
sys.exit(run_command(globals()[name], rest if rest else None))
"""


def run_in_shell(words: str, tail: str, **variables: str) -> tuple[int, str]:
    """The exit code and the standard error of `PROGRAM words tail` in a shell; the tail may be a pipe."""
    line = f'{{ "$@" {words} {tail}; echo "code ${{PIPESTATUS[0]}}" >&9; }} 9>&2'
    command = ["bash", "-c", line, "bash", sys.executable, "-c", PROGRAM]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
        env=environment(**variables),
    )
    said, _, code = ended.stderr.rpartition("code ")
    return int(code), said


CLOSED = (">&-", "2>&-", "<&-", "<&- >&- 2>&-")


@pytest.mark.parametrize("tail", CLOSED)
@pytest.mark.parametrize(("command", "code"), [("report", 0), ("result", 0), ("wrong", 2)])
def test_a_command_needs_no_standard_stream(command: str, code: int, tail: str) -> None:
    ended, said = run_in_shell(command, tail)
    assert ended == code
    assert said == ("" if code == 0 or "2>&-" in tail else "error: \u2192 \u2026 \u00b7\n")


@pytest.mark.parametrize("tail", CLOSED)
def test_what_is_printed_does_not_land_in_a_file_that_is_opened(tail: str, tmp_path: Path) -> None:
    assert run_in_shell(f"opens {tmp_path / 'file'}", tail)[0] == 0
    assert (tmp_path / "file").read_text() == ""


def test_a_descriptor_that_another_file_has_taken_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(streams, "_is_open", lambda descriptor: True)
    streams.open_missing_streams()
    assert sys.stdout is not None
    with sys.stdout as opened:
        assert opened.fileno() > 2
        assert opened.write("nowhere") == 7


@needs_dev_full
@pytest.mark.parametrize(
    ("words", "tail", "code"),
    [
        ("report", "> /dev/full", 2),  # its only result is its output
        ("report", "| head -1", 141),
        ("report", "1< /dev/null", 141),  # for reading only
        ("result", "> /dev/full", 0),
        ("result", "| head -1", 0),
        ("result", "1< /dev/null", 0),
        ("wrong", "2> /dev/full", 2),
        ("wrong", "2>&1 | head -0", 2),
        ("stops", "2> /dev/full", 130),
        ("stops", "2>&1 | head -0", 130),
        ("report", "2> /dev/full | tail -1", 0),
    ],
)
def test_how_a_command_ends_when_nobody_reads(words: str, tail: str, code: int) -> None:
    ended, said = run_in_shell(words, tail)
    assert ended == code
    assert said == ("" if code != 2 or "2>" in tail else FULL)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX"},
    ],
)
def test_no_encoding_lacks_a_character(variables: dict[str, str]) -> None:
    assert run_in_shell("every", "> /dev/null", **variables)[0] == 2


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """The reading end's descriptor, and a text stream that writes."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
        with contextlib.suppress(OSError):
            os.close(reader)


def test_whole_lines_are_written_at_once_and_the_rest_at_a_flush() -> None:
    with pipe() as (reader, stream):
        output = LastingStream(stream)
        output.write("a")
        output.write(" b\nc\nd")
        assert os.read(reader, 100) == b"a b\nc\n"
        output.flush()
        assert os.read(reader, 100) == b"d"
        assert (output.encoding, output.isatty(), output.fileno()) == ("utf-8", False, stream.fileno())


def test_what_others_wrote_before_comes_before() -> None:
    with pipe() as (reader, stream):
        stream.write("first, ")
        print("second", file=LastingStream(stream))
        assert os.read(reader, 100) == b"first, second\n"


@pytest.mark.parametrize("kind", [LastingStream, UnblockedStream])
def test_a_reader_that_has_gone_is_told_and_changes_nothing(kind: type[LastingStream]) -> None:
    with pipe() as (reader, stream):
        output = kind(stream)
        os.close(reader)
        for _ in range(3):
            assert print("a line", file=output) is None
        assert output.trouble == "Broken pipe"
        if isinstance(output, UnblockedStream):
            output.close_thread()


def test_a_pipe_that_another_process_made_non_blocking_is_waited_for() -> None:
    with pipe() as (reader, stream):
        os.set_blocking(stream.fileno(), False)
        output, text = LastingStream(stream), "x" * 300_000 + "\n"
        thread = threading.Thread(target=output.write, args=(text,))
        thread.start()
        read = b""
        while len(read) < len(text):
            read += os.read(reader, 65536)
        thread.join()
        assert read.decode() == text
        assert output.trouble == ""


def fill(stream: io.TextIOWrapper) -> int:
    """Fill a pipe; returns the number of bytes."""
    os.set_blocking(stream.fileno(), False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += os.write(stream.fileno(), b"." * 4096)
    os.set_blocking(stream.fileno(), True)
    return count


def test_a_reader_that_takes_nothing_does_not_hold_up_the_writer() -> None:
    with pipe() as (reader, stream):
        num_bytes = fill(stream)
        output = UnblockedStream(stream, patience_seconds=0.05)
        begun = time.monotonic()
        for number in range(streams.LONGEST_QUEUE + 100):
            print(number, file=output)
        assert time.monotonic() - begun < 30  # waiting for each line would take 55 s
        assert output.is_stuck
        assert "nobody reads standard output" in describe_trouble(output)
        # The reader is back: it gets what the queue has kept.
        with os.fdopen(reader, "rb", closefd=False) as opened:
            assert opened.read(num_bytes) == b"." * num_bytes
            assert [opened.readline() for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
            for _ in range(streams.LONGEST_QUEUE - 3):
                opened.readline()
        wait_until(lambda: not output.is_stuck)
        print("later", file=output)
        output.close_thread()
        stream.close()
        assert os.read(reader, 100).endswith(b"later\n")


def test_the_end_does_not_wait_for_a_reader_that_takes_nothing() -> None:
    with pipe() as (reader, stream):
        num_bytes = fill(stream)
        output = UnblockedStream(stream, patience_seconds=0.05)
        print("a line", file=output)
        output.close_thread()
        assert output.trouble == "nobody reads it"
        print("dropped", file=output)
        os.read(reader, num_bytes)  # ends the thread
        wait_until(lambda: not any(thread.name == "output" for thread in threading.enumerate()))


def test_a_forked_process_writes_by_itself() -> None:
    with pipe() as (reader, stream):
        output = UnblockedStream(stream)
        print("parent", file=output)
        child = os.fork()
        if child == 0:
            print("child", file=output)
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 100) == b"parent\nchild\n"
        output.close_thread()


def test_a_stream_that_is_no_file_stays_as_it_is() -> None:
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO())):
        assert lasting(stream) is stream
        with unblocked(stream) as output:
            assert output is stream


def test_the_log_says_once_that_the_output_is_lost(tmp_path: Path) -> None:
    with pipe() as (reader, stream):
        screen = Screen(is_terminal=False, file=lasting(stream))
        os.close(reader)
        with screen.logging_to(tmp_path / "log"):
            for number in range(3):
                screen.say(f"line {number}")
    told = [line[21:] for line in (tmp_path / "log").read_text().splitlines()]
    lost = "standard output cannot be written any more (Broken pipe): the run continues, and this log has all"
    assert told == ["line 0", lost, "line 1", "line 2"]


def test_a_report_on_a_screen_raises_when_its_reader_has_gone() -> None:
    with pipe() as (reader, stream):
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            Screen(is_terminal=False, file=stream).result("a line")
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_a_terminal_that_stands_still_and_one_that_goes(tmp_path: Path) -> None:
    """Ctrl-S, Ctrl-Q, and the end of the terminal, below bars."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        output = UnblockedStream(stream, patience_seconds=0.05)
        screen = Screen(is_terminal=True, file=output)
        with screen.logging_to(tmp_path / "log"), screen.training(10) as show:
            show(1, "loss 2.0", "3 s")
            screen.say("shown")
            termios.tcflow(slave, termios.TCOOFF)
            for number in range(20):
                screen.say(f"waits {number}")
            assert output.is_stuck
            termios.tcflow(slave, termios.TCOON)
            thread = threading.Thread(target=_read_all, args=(master,), daemon=True)
            thread.start()
            wait_until(lambda: not output.is_stuck)
            fcntl.ioctl(slave, termios.TIOCOUTQ, b"\0" * 4)
            os.close(master)
            wait_until(lambda: bool(screen.say("after") or output.trouble))
        output.close_thread()
        with contextlib.suppress(OSError):
            stream.flush()
    assert output.trouble == "Input/output error"
    log = (tmp_path / "log").read_text()
    assert "waits 19" in log
    assert "nobody reads standard output" in log
    assert "standard output cannot be written any more (Input/output error)" in log


def _read_all(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 4096):
            pass
