"""YAML as configs use it: what an unquoted word means, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.config.reading import dump_config, load_config
from signs_dist.config.settings import Config
from tests.config.config_files import message_of, read


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e-4", 1e-4), (".5", 0.5), ("5.", 5.0), ("+.5e1", 5.0), ("3", 3.0)],
)
def test_numbers_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert read(tmp_path, f"optim: {{lr: {text}}}").optim.lr == value
    assert load_config(None, [f"optim.lr={text}"]).optim.lr == value


@pytest.mark.parametrize("word", ["yes", "No", "on", "OFF", "010", "0x10", "1:30", "1_000", "2024-01-01", "="])
def test_odd_words_are_text(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, f"model: {{args: {{a: {word}}}}}").model.args == {"a": word}
    assert read(tmp_path, "", f"data.root={word}").data.root == word


@pytest.mark.parametrize("text", ["1e-4", "010", "yes", "true", "null", "", "a # b", "line\nbreak", "2024-01-01"])
def test_text_that_looks_like_something_else_stays_text(text: str, tmp_path: Path) -> None:
    config = Config.model_validate({"model": {"name": text, "args": {"a": [text]}}})
    assert read(tmp_path, dump_config(config)) == config


def test_aliases_cannot_blow_up_a_small_file(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    content = "model: {args: {" + ", ".join(rows) + "}}"
    assert "too large with its aliases written out; 10,000 values in 32 levels" in message_of(tmp_path, content)


def test_no_python_tag_is_run(tmp_path: Path) -> None:
    """In a process of its own, so that what would be run could be seen."""
    mark, path = tmp_path / "ran", tmp_path / "evil.yaml"
    path.write_text(f"model: {{args: {{a: !!python/object/apply:os.mkdir [{json.dumps(str(mark))}]}}}}")
    done = subprocess.run(
        [sys.executable, "-m", "signs_dist.train", "--config", str(path), "--explain"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "evil.yaml:1: model.args: the tag tag:yaml.org,2002:python/object/apply:os.mkdir is not read" in done.stderr
    assert not mark.exists()
