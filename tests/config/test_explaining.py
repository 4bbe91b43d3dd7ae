"""`--explain`: every setting, its value, where the value came from, and what the setting does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from signs_dist.config.reading import read_config
from signs_dist.config.section import flatten
from signs_dist.config.settings import Config

REPOSITORY = Path(__file__).resolve().parents[2]


def test_explain_prints_every_value_with_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("my.yaml")
    path.write_text("train:\n  epochs: 7\nmodel:\n  args: {channels: 4}\n", encoding="utf-8")
    lines = read_config(path, ["optim.lr=1e-4", "model.args.dropout=0.5"]).explain().splitlines()
    rows = [line for line in lines if "  # " in line]
    table = {row.split(" = ")[0].strip(): row.split(" = ")[1].split("  # ") for row in rows}
    assert list(table) == [key for key, _ in flatten(Config())]
    assert [part.strip() for part in table["train.epochs"]] == ["7", f"{path}:2"]
    assert [part.strip() for part in table["optim.lr"]] == ["0.0001", "optim.lr=1e-4"]
    assert [part.strip() for part in table["train.global_batch"]] == [str(Config().train.global_batch), "default"]
    assert [part.strip() for part in table["model.args"]] == [
        "{channels: 4, dropout: 0.5}",
        f"{path}:4, model.args.dropout=0.5",
    ]


def test_explain_says_below_each_setting_what_it_does() -> None:
    lines = read_config(None, ["optim.lr=1e-4"]).explain().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("optim.lr "))
    text = "    Peak learning rate. It is used as written and never scaled by the batch or the number of"
    assert lines[place + 1 : place + 3] == [text, "    processes."]
    assert lines[lines.index("train: Length of the run, batch, number format and threads.") - 1] == ""
    below = [lines[place + 1].startswith("    ") for place, line in enumerate(lines) if re.match(r"[a-z_.]+ +=", line)]
    assert below == [True] * len(flatten(Config()))


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "configs").glob("*.yaml")))
def test_explain_fits_into_a_hundred_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)  # the path is printed as it is typed, so that the checkout's own place adds nothing
    assert max(map(len, read_config(Path("configs", name)).explain().splitlines())) <= 100


def test_a_long_origin_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 60) / "my.yaml"
    path.parent.mkdir()
    path.write_text("train: {epochs: 7}\n", encoding="utf-8")
    lines = read_config(path).explain().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("train.epochs "))
    assert lines[place].split() == ["train.epochs", "=", "7"]
    assert lines[place + 1] == f"    # {path}:1"
