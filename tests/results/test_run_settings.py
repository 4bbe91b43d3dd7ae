from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.reading import dump_config, load_config
from signs_dist.config.section import flatten
from signs_dist.results.run_settings import read_raw_settings, read_settings
from tests.test_layers import REPOSITORY

AWKWARD = [
    *("data.root='1e-4'", "data.cache='no'", "model.args={a: 010, b: [1, null], c: {d: 1.5}}", "optim.betas=null"),
    *("data.mean=[0.1, 0.2, 0.3]", "model.name='true'", "optim.lr=1e-7", "ema.decay=0.99"),
]


@pytest.mark.parametrize("recipe", [*sorted((REPOSITORY / "configs").glob("*.yaml")), None])
def test_the_values_are_those_of_the_careful_reader(tmp_path: Path, recipe: Path | None) -> None:
    config = load_config(recipe, [] if recipe else AWKWARD)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    settings = read_settings(read_raw_settings(path))
    assert settings == dict(flatten(config))
    assert [type(value) for value in settings.values()] == [type(value) for _, value in flatten(config)]


@pytest.mark.parametrize(
    "text", ["", "train: [", "a: &a [*a]", "- 1", "x", "train: !!python/object:os.system {}", "seed: \x00", "é: \udce9"]
)
def test_a_broken_file_gives_no_settings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    settings = read_settings(read_raw_settings(path))
    assert settings == {} or settings["train.epochs"] == 20


def test_no_file_gives_no_settings(tmp_path: Path) -> None:
    assert read_raw_settings(tmp_path / "config.yaml") == {}
    (tmp_path / "config.yaml").mkdir()
    assert read_raw_settings(tmp_path / "config.yaml") == {}


def test_a_setting_that_is_newer_than_the_run_has_its_default() -> None:
    assert read_settings({"seed": 3, "train": {"epochs": 7}, "later": {"x": 1}})["optim.lr"] == 0.1
    assert read_settings({"seed": 3, "train": {"epochs": 7}, "later": {"x": 1}})["train.epochs"] == 7
    assert "later.x" not in read_settings({"later": {"x": 1}})
    assert read_settings({"train": 7})["train.epochs"] == 20
