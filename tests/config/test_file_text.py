"""A config is a small file of text, or a pipe of the shell; what is not is refused at once."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.file_text import MAX_BYTES, is_shell_pipe, read_config_text, refuse_pipe
from signs_dist.config.reading import load_config, read_config
from signs_dist.config.settings import Config
from signs_dist.errors import UserError

SECONDS = 20.0
"""Far more than a refusal takes on a busy machine, and far less than reading the file to its end."""


def make_sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)


def make_socket(path: Path) -> None:
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "10 MB": (lambda path: path.write_text("# x\n" * 2_500_000), "larger than 1,048,576 bytes"),
    "10 GB": (make_sparse, "larger than 1,048,576 bytes"),
    "one byte too many": (lambda path: path.write_text("#" * (MAX_BYTES + 1)), "larger than 1,048,576 bytes"),
    "/dev/zero": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "a folder": (Path.mkdir, "it is a folder"),
    "a pipe": (os.mkfifo, "it is a pipe (FIFO)"),
    "a socket": (make_socket, "it is a socket"),
    "a loop": (lambda path: path.symlink_to(path.name), "it is a loop of links"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "it is a link to nothing"),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 9), "not UTF-8 text"),
    "UTF-16": (lambda path: path.write_bytes("train: {epochs: 3}".encode("utf-16")), "not UTF-8 text"),
    "NUL": (lambda path: path.write_bytes(b"\0" * 100), "the character #x0000 is not allowed"),
    "100,000 keys": (lambda path: path.write_text("".join(f"k{n}: 1\n" for n in range(95_000))), "too large; 10,000"),
    "a long list": (lambda path: path.write_text("model: {args: {a: [" + "1," * 400_000), "too large; 10,000"),
    "aliases": (lambda path: path.write_text("a: &a b\n" + "".join(f"k{n}: *a\n" for n in range(50_000))),
                "too large; 10,000"),
    "deep lists": (lambda path: path.write_text("[" * 500_000), "nested too deeply"),
    "deep mappings": (lambda path: path.write_text("{" * 500_000), "nested too deeply"),
    "deep items": (lambda path: path.write_text("- " * 500_000), "nested too deeply"),
    "a long number": (lambda path: path.write_text("seed: " + "9" * 500_000), "a number of too many digits"),
    "a tab": (lambda path: path.write_text("train:\n\tepochs: 3"), ":2: not valid YAML: found character"),
    "a key twice": (lambda path: path.write_text("seed: 3\nseed: 4"), ":2: seed is given twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_config_is_refused_at_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, told = REFUSED[name]
    make(tmp_path / "c.yaml")
    begun = time.monotonic()
    with pytest.raises(UserError) as refused:
        load_config(tmp_path / "c.yaml")
    assert time.monotonic() - begun < SECONDS
    message = str(refused.value)
    assert told in message
    assert "c.yaml" in message
    assert len(message) < 400


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be read: embedded null byte"):
        load_config("a\0b.yaml")


@pytest.mark.parametrize(
    "data",
    [
        b"train: {epochs: 3}",
        b"\xef\xbb\xbftrain: {epochs: 3}",
        b"train:\r\n  epochs: 3\r\n",
        b"%YAML 1.2\n---\ntrain: {epochs: 3}\n...\n",
        b"train: {epochs: 3}" + b"\n" * 1000,
    ],
)
def test_what_editors_add_is_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(data)
    assert load_config(tmp_path / "c.yaml").train.epochs == 3


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_a_pipe_of_the_shell_is_read_to_its_end(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"train:\n")
    os.write(writer, b"  epochs: 3\n")
    os.close(writer)
    path = Path(f"/dev/fd/{reader}")
    assert is_shell_pipe(path)
    with pytest.raises(UserError, match=r"is a pipe, which one process can read once.*Write it to a file"):
        refuse_pipe(path)
    assert load_config(path).train.epochs == 3


@pytest.mark.parametrize("path", ["/dev/fd/987", "/proc/self/fd/987"])
def test_a_pipe_that_the_launcher_has_kept_is_told(path: str) -> None:
    with pytest.raises(UserError, match=rf"--config {path} is a pipe of the shell, .* Write it to a file"):
        read_config(Path(path), [])


def test_standard_input_is_read() -> None:
    code = (
        "from signs_dist.config.reading import load_config, read_config; print(load_config('/dev/stdin').train.epochs)"
    )
    shell = f"printf 'train: {{epochs: 3}}' | {sys.executable} -c \"{code}\""
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "3\n"


def test_an_empty_config_is_the_defaults(tmp_path: Path) -> None:
    assert load_config("/dev/null") == Config()
    (tmp_path / "c.yaml").touch()
    assert read_config_text(tmp_path / "c.yaml") == ""
    refuse_pipe(None)
    refuse_pipe(tmp_path / "c.yaml")
