"""The schema: what it refuses, and that every legal value survives being written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from signs_dist.config.reading import dump_config, load_config
from signs_dist.config.section import flatten
from signs_dist.config.settings import Config, LossConfig

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# Text that YAML would take for a number, a truth value, a date or a merge is the interesting kind.
TEXT = st.sampled_from(
    [
        *(
            "1e-4",
            "1e5",
            "010",
            "0x1f",
            "1:30",
            "1_000",
            "2024-01-01",
            ".inf",
            ".nan",
            "yes",
            "no",
            "true",
            "null",
            "~",
        ),
        *("<<", "=", "-", "*x", "&x", "!x", "%x", "@x", "'", '"', "{", "é", "", " ", "# x", "x # y", "- a", "a: b"),
        *("\t", "a\nb"),
    ]
) | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.sampled_from([float("inf"), float("-inf")]) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=8,
)


def read_back(config: Config, tmp_path: Path) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    return load_config(path)


@settings(max_examples=80, deadline=None)
@given(
    args=st.dictionaries(TEXT.filter(lambda key: key != "<<"), PLAIN, max_size=4),
    root=st.none() | TEXT.filter(bool),
    lr=st.floats(min_value=1e-300, max_value=1e300),
    mean=st.tuples(FINITE, FINITE, FINITE),
    seed=st.integers(min_value=0, max_value=2**63 - 1),
    workers=st.just("auto") | st.integers(min_value=0, max_value=64),
    loss=st.sampled_from(["cross_entropy", "bce", "mse", "l1"]),
)
def test_a_written_config_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    args: dict[str, Any],
    root: str | None,
    lr: float,
    mean: tuple[float, float, float],
    seed: int,
    workers: Any,
    loss: str,
) -> None:
    config = Config.model_validate(
        {
            "seed": seed,
            "data": {"root": root, "mean": mean, "num_workers": workers},
            "model": {"args": args},
            "optim": {"lr": lr},
            "loss": {"name": loss},
        }
    )
    again = read_back(config, tmp_path_factory.getbasetemp())
    assert again == config
    assert repr(again) == repr(config)  # 1 == 1.0 == True, but not here


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_recipe_loads_and_reads_back(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert config != Config()
    assert read_back(config, tmp_path) == config


def test_the_recipes_are_there() -> None:
    assert {"cs230.yaml", "signs.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("name", ["mse", "l1"])
def test_losses_without_smoothing_have_none_unless_asked(name: str) -> None:
    assert LossConfig.model_validate({"name": name}).label_smoothing == 0
    with pytest.raises(ValidationError, match=f"does nothing for loss.name={name}"):
        LossConfig.model_validate({"name": name, "label_smoothing": 0.1})


def test_a_config_is_frozen_and_its_keys_are_known() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.epochs = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="not permitted"):
        Config.model_validate({"epoch": 3})


def test_every_setting_says_what_it_is() -> None:
    sections: list[Any] = [Config]
    for section in sections:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                sections.append(inner)
                assert inner.__doc__
            else:
                assert field.description, f"{section.__name__}.{name} has no docstring"
    assert len(flatten(Config())) > 40
