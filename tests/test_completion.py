"""Completion at the Tab key: scripts of shells, and bash itself, which is asked for words."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from signs_dist import cli
from signs_dist.completion import SHELLS, main, whole_parser
from signs_dist.errors import UserError

shtab = pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "signs-dist"
    file.write_text(shtab.complete(whole_parser(shtab.FILE), shell="bash"))
    return file


def completed(script: Path, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    typed = " ".join(map(shlex.quote, words))
    program = f"""
        source {shlex.quote(str(script))}
        COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; COMP_LINE={shlex.quote(typed)}; COMP_POINT=${{#COMP_LINE}}
        $(complete -p signs-dist | sed 's/.*-F \\([^ ]*\\).*/\\1/') signs-dist {shlex.quote(words[-1])}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", program], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_bash_offers_the_commands(script: Path, tmp_path: Path) -> None:
    assert completed(script, tmp_path, "signs-dist", "tr") == ["train", "track"]
    assert set(completed(script, tmp_path, "signs-dist", "")) >= {*cli.COMMANDS, *cli.LAUNCHERS}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["signs-dist", "train", "--resu"], []),
        (["signs-dist", "train", "--run"], ["--run-dir"]),
        (["signs-dist", "local", "--npr"], ["--nproc"]),
        (["signs-dist", "submit", "--nod"], ["--nodes"]),
        (["signs-dist", "runs", "list", "--so"], ["--sort"]),
        (["signs-dist", "train", "--config", "mi"], ["mine.yaml"]),
        (["signs-dist", "predict", "runs/a", "mi"], ["mine.yaml"]),
        (["signs-dist", "prove", "--data", "mi"], ["mine.yaml"]),
        (["signs-dist", "diverge", "mi"], ["mine.yaml"]),
        (["signs-dist", "runs", "watch", "mi"], ["mine.yaml"]),
        (["signs-dist", "checkpoint", "verify", "mi"], ["mine.yaml"]),
    ],
)
def test_bash_offers_flags_and_files(script: Path, tmp_path: Path, words: list[str], expected: list[str]) -> None:
    (tmp_path / "mine.yaml").touch()
    assert completed(script, tmp_path, *words) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([shell]) == 0
    printed = capsys.readouterr().out
    assert "run-dir" in printed
    assert "checkpoint" in printed


def test_without_shtab_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signs_dist.extras.is_installed", lambda module: False)
    with pytest.raises(UserError, match=r"needs shtab, which is not installed\. Type: pip install 'signs_dist\[comp"):
        main(["bash"])
