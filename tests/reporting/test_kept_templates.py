"""Compiled templates, kept from one report to the next."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from jinja2.bccache import bc_magic

from signs_dist.reporting.kept_templates import kept_templates


def render(folder: Path) -> str:
    """Render a template with a cache as the environment says."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), bytecode_cache=kept_templates())
    return environment.get_template("a.html").render(name="x")


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a.html").write_text("{{ name }}!")
    return tmp_path


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


def test_a_template_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert render(folder) == "x!"
    assert len(files(folder)) == 1
    monkeypatch.setattr(jinja2.Environment, "_generate", None)  # a template that is compiled again would fail
    assert render(folder) == "x!"


def test_a_changed_template_is_compiled_again(folder: Path) -> None:
    render(folder)
    (folder / "a.html").write_text("new {{ name }}")
    assert render(folder) == "new x"


@pytest.mark.parametrize(
    "content", [b"", b"j2", b"no cache at all" * 100, bc_magic + b"cno\nmodule\n.", bc_magic + b"0."]
)
def test_a_damaged_file_is_passed_over(folder: Path, content: bytes) -> None:
    render(folder)
    kept = files(folder)[0]
    whole = kept.read_bytes()
    for damaged in (content, whole[:-5], whole[:20]):
        kept.write_bytes(damaged)
        assert render(folder) == "x!"


def test_without_room_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, bucket: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jinja2.FileSystemBytecodeCache, "dump_bytecode", fail)
    assert render(folder) == "x!"


def test_code_is_not_read_from_a_folder_that_others_can_write(folder: Path) -> None:
    cache = kept_templates()
    assert cache is not None
    Path(cache.directory).chmod(0o777)
    assert kept_templates() is None
    assert render(folder) == "x!"


def test_without_a_folder_nothing_is_kept(folder: Path) -> None:
    (folder / "cache").write_text("a file")
    assert kept_templates() is None


def test_code_is_not_read_through_a_link(folder: Path) -> None:
    cache = kept_templates()
    assert cache is not None
    own = Path(cache.directory)
    own.rename(folder / "elsewhere")
    own.symlink_to(folder / "elsewhere")
    assert kept_templates() is None
    assert render(folder) == "x!"


def test_code_is_not_read_from_a_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_templates() is not None
    monkeypatch.setattr("os.geteuid", lambda: -7)
    assert kept_templates() is None


def test_without_a_home_folder_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signs_dist.reporting.kept_templates.home_cache_folder", lambda environment: None)
    assert kept_templates() is None
    assert render(folder) == "x!"
