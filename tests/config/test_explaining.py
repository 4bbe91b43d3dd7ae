"""`--explain`: every setting, its value, where the value came from, and what the setting does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from signs_dist.config.reading import read_config
from signs_dist.config.section import flatten
from signs_dist.config.settings import Config

REPOSITORY = Path(__file__).resolve().parents[2]


def test_explain_prints_every_value_with_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
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


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_explain_fits_into_a_hundred_columns(path: Path) -> None:
    assert max(map(len, read_config(path).explain().splitlines())) <= 100
