from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import sys
import types
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.console.screen import Screen
from signs_dist.data import download as download_module
from signs_dist.data.download import ZIP_NAME, check_zip, download, fetch, main
from signs_dist.errors import UserError
from tests.data.photo_files import signs_files, write_zip

COUNTS = {"train": 9, "test": 3}


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return write_zip(tmp_path / "whole.zip", signs_files(9, 3)).read_bytes()


@pytest.fixture
def screen() -> Screen:
    return Screen(is_terminal=False, quiet=True, file=io.StringIO())


def serve(
    content: bytes, monkeypatch: pytest.MonkeyPatch, *, break_off_at: int | None = None
) -> list[tuple[str, bool]]:
    """Stand-in for the package gdown that hands out `content`, and breaks off once. Returns the calls it gets."""
    calls: list[tuple[str, bool]] = []

    class DownloadError(Exception):
        pass

    def gdown_download(*, id: str, output: str, resume: bool = False, **_: object) -> None:
        calls.append((id, resume))
        part = Path(f"{output}abcd1234.part")
        had = part.read_bytes() if resume and part.exists() else b""
        if break_off_at is not None and len(calls) == 1:
            part.write_bytes(content[:break_off_at])
            raise DownloadError("connection lost\n")
        part.write_bytes(had + content[len(had) :])
        part.rename(output)

    gdown = types.ModuleType("gdown")
    gdown.download = gdown_download  # type: ignore[attr-defined]
    gdown.exceptions = types.ModuleType("gdown.exceptions")  # type: ignore[attr-defined]
    gdown.exceptions.DownloadError = DownloadError  # type: ignore[attr-defined]
    gdown.__spec__ = importlib.util.spec_from_loader("gdown", None)
    monkeypatch.setitem(sys.modules, "gdown", gdown)
    monkeypatch.setitem(sys.modules, "gdown.exceptions", gdown.exceptions)  # type: ignore[attr-defined]
    return calls


def test_zip_arrives_through_the_helper_of_torchvision(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen
) -> None:
    calls = serve(whole, monkeypatch)
    path = download(tmp_path / "data", file_id="abc", counts=COUNTS, screen=screen)
    assert path.read_bytes() == whole
    assert calls == [("abc", False)]
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".SIGNS.zip.download.lock", "SIGNS.zip"]
    assert download(tmp_path / "data", file_id="abc", counts=COUNTS, screen=screen) == path
    assert len(calls) == 1


def test_broken_off_download_goes_on(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen
) -> None:
    calls = serve(whole, monkeypatch, break_off_at=700)
    with pytest.raises(UserError, match=r"did not send the file: connection lost\. Repeat the command to resume"):
        download(tmp_path, file_id="abc", counts=COUNTS, screen=screen)
    assert not (tmp_path / ZIP_NAME).exists()
    smaller = tmp_path / ".SIGNS.zip.download/SIGNS.zipzzzz0000.part"
    smaller.write_bytes(b"x")  # of a try before that: gdown would refuse to choose
    assert download(tmp_path, file_id="abc", counts=COUNTS, screen=screen).read_bytes() == whole
    assert calls == [("abc", False), ("abc", True)]


@pytest.mark.parametrize("error", [RuntimeError("File not found or corrupted."), OSError("no route to host")])
def test_failure_says_what_to_do_by_hand(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen
) -> None:
    def fail(*_: object) -> None:
        raise error

    serve(b"", monkeypatch)
    monkeypatch.setattr(download_module, "fetch", fail)
    with pytest.raises(UserError, match=r"open https://drive.google.com/uc\?id=abc in a browser, save"):
        download(tmp_path, file_id="abc", counts=COUNTS, screen=screen)


def test_quota_page_is_told_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: Screen) -> None:
    serve(b"<!DOCTYPE html><html>Quota exceeded</html>", monkeypatch)
    with pytest.raises(UserError, match=r"is a web page, not a zip.*downloaded too often.*in a browser"):
        download(tmp_path, file_id="abc", counts=COUNTS, screen=screen)
    assert not list(tmp_path.rglob("*.zip"))
    assert not (tmp_path / ZIP_NAME).exists()


def test_checks(whole: bytes, tmp_path: Path, screen: Screen) -> None:
    path = tmp_path / "SIGNS.zip"

    def told_of(content: bytes, counts: dict[str, int] = COUNTS) -> str:
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            check_zip(path, counts, screen)
        return str(caught.value)

    path.write_bytes(whole)
    check_zip(path, COUNTS, screen)
    assert "holds 9 train and 3 test images; the published zip holds 10 train and 3 test" in told_of(
        whole, {"train": 10, "test": 3}
    )
    assert "is not a complete zip" in told_of(whole[:-300])
    assert "has 0 bytes" in told_of(b"")
    middle = whole.index(b"\xff\xd8") + 300
    assert "is damaged" in told_of(whole[:middle] + b"damage" + whole[middle + 6 :])


def test_without_gdown_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "gdown" else find(name, *rest))
    assert run_command(main, ["--out", str(tmp_path / "data")]) == 2
    assert "pip install 'signs_dist[download]'" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".SIGNS.zip.download.lock"]


def test_old_gdown_prints_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(b"", monkeypatch)

    def only_print(**_: object) -> None:
        print("Access denied: too many users have viewed this file", file=sys.stderr)

    monkeypatch.setattr(sys.modules["gdown"], "download", only_print)
    with pytest.raises(RuntimeError, match="too many users"):
        fetch("abc", tmp_path)


def test_command_prints_the_build_command(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ZIP_NAME).write_bytes(whole)
    monkeypatch.setattr(download_module, "PUBLISHED_COUNTS", COUNTS)
    assert run_command(main, ["--out", str(tmp_path / "data")]) == 0
    assert "python -m signs_dist.data.build --source" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "expected"), [(None, download_module.SILENT_SECONDS), (5, 5)])
def test_a_connection_on_which_nothing_comes_is_given_up(
    given: float | None, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HTTPAdapter:
        def send(self, request: str, *, stream: bool, timeout: float | None) -> tuple[str, bool, float | None]:
            return request, stream, timeout

    before = HTTPAdapter.send
    requests, adapters = types.ModuleType("requests"), types.ModuleType("requests.adapters")
    requests.__spec__ = importlib.machinery.ModuleSpec("requests", None)
    adapters.HTTPAdapter = HTTPAdapter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "requests", requests)
    monkeypatch.setitem(sys.modules, "requests.adapters", adapters)
    with download_module._silence_limited():
        assert HTTPAdapter().send("GET", stream=True, timeout=given) == ("GET", True, expected)
    assert HTTPAdapter.send is before
