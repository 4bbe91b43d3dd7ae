"""The schema: what it refuses, and that every legal value survives being written and read."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from signs_dist.config.messages import describe_field
from signs_dist.config.reading import dump_config, load_config
from signs_dist.config.section import WEEK_SECONDS, YEAR_SECONDS, flatten
from signs_dist.config.settings import Config, LossConfig
from signs_dist.errors import UserError

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
    lr=st.floats(min_value=1e-300, max_value=1e30),
    mean=st.tuples(*3 * [st.floats(min_value=-1000, max_value=1000)]),
    seed=st.integers(min_value=0, max_value=2**63 - 1),
    workers=st.just("auto") | st.integers(min_value=0, max_value=64),
    loss=st.sampled_from(["cross_entropy", "focal", "bce", "mse", "l1"]),
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
    assert {"cs230.yaml", "signs.yaml", "signs_thorough.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("given", ["balanced", None, (1.0, 2.5), {"fist": 2.0, "0": 1.0}])
def test_class_weights_read_back_equal(tmp_path: Path, given: Any) -> None:
    config = Config(loss=LossConfig(class_weights=given))
    assert read_back(config, tmp_path) == config


def test_numbers_are_names_of_classes() -> None:
    assert load_config(None, ["loss.class_weights={0: 2.5, two: 1}"]).loss.class_weights == {"0": 2.5, "two": 1.0}


def test_focal_smooths_nothing_unless_told() -> None:
    assert load_config(None, ["loss.name=focal"]).loss.label_smoothing == 0
    assert load_config(None, ["loss.name=focal", "loss.label_smoothing=0.1"]).loss.label_smoothing == 0.1


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


def numeric_settings() -> list[str]:
    """The settings that take a number, or a list of numbers, by what the manual says."""
    fields = {name: describe_setting(name) for name, _ in flatten(Config())}
    return [name for name, text in fields.items() if "number" in text]


def describe_setting(name: str) -> str:
    section: Any = Config
    *parents, key = name.split(".")
    for parent in parents:
        section = section.model_fields[parent].annotation
    return describe_field(section.model_fields[key])


def test_the_numeric_settings_are_found() -> None:
    assert {"seed", "data.std", "checkpoint.takeover_seconds", "optim.betas"} <= set(numeric_settings())
    assert len(numeric_settings()) >= 45


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0.5", "It takes a list, each a list of 2, each a number, above 0 and below 1"),
        ("[0.5, 0.4]", "is not legal"),
        ("[[0.5, 1]]", "is not legal"),
        ("[[1, 0.5]]", "is not legal"),
        ("[[32, 0.5]]", "is not legal"),
        ("[[0.5, 0.4, 0.75]]", "is not legal"),
        ("[[0.5, 0.4], [0.4, 0.7]]", r"has \[0.4, 0.7\] after \[0.5, 0.4\]. Both the size and the part"),
        ("[[0.5, 0.4], [0.75, 0.4]]", r"has \[0.75, 0.4\] after \[0.5, 0.4\]. Both the size and the part"),
        ("[[0.1, 0.4]]", "has images of 0.1 of data.image_size=64, which is below 8 pixels. Give a larger part"),
    ],
)
def test_progressive_sizes_that_make_no_sense_are_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=f"train.progressive_sizes.*{message}"):
        load_config(None, [f"train.progressive_sizes={given}"])


def test_progressive_sizes_read_back_equal(tmp_path: Path) -> None:
    config = load_config(None, ["train.progressive_sizes=[[0.5, 0.4], [0.75, 0.7]]"])
    assert config.train.progressive_sizes == ((0.5, 0.4), (0.75, 0.7))
    assert read_back(config, tmp_path) == config


NO_BOUNDS = ("1e308", "-1e308", ".nan", ".inf", "-.inf", str(10**31), "9" * 5000, "''", "inf", "nan")


@pytest.mark.parametrize("name", numeric_settings())
def test_no_number_is_without_bounds(name: str) -> None:
    pairs = ("optim.betas", "augment.crop_scale", "augment.crop_ratio", "augment.erase_area")
    count = 3 if name in ("data.mean", "data.std", "data.split") else 2 if name in pairs else 0
    optimizer = ["optim.name=rmsprop"] if name == "optim.alpha" else ["optim.name=adamw"]
    others = optimizer if name in ("optim.alpha", "optim.betas", "optim.eps") else []
    for text in NO_BOUNDS:
        value = f"[{', '.join([text] * count)}]" if count else text
        if name == "train.progressive_sizes":
            value = f"[[0.5, {text}]]"
        message = refusal_of([*others, f"{name}={value}"])
        assert name in message, message
        assert len(message) < 900, message
        assert re.search(r"It takes .*(number)|at least 0 and below 1|too many digits", message), message
        if "It takes" in message and not count and name != "train.progressive_sizes":
            assert re.search(r"(at least|above) .* and (at most|below) ", message), message


def refusal_of(overrides: list[str]) -> str:
    """The message with which a config is refused."""
    try:
        load_config(None, overrides)
    except UserError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{overrides}: {error!r}") from error
    raise AssertionError(f"{overrides} are accepted")


@pytest.mark.parametrize("name", numeric_settings())
def test_an_empty_number_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(name)}=: there is no value"):
        load_config(None, [f"{name}="])


def test_the_longest_waits_fit_what_the_system_takes() -> None:
    """Sockets and poll() take milliseconds as 32-bit numbers."""
    assert 1000 * WEEK_SECONDS < 2**31
    assert YEAR_SECONDS < threading.TIMEOUT_MAX
    for name in ("rendezvous_seconds", "timeout_seconds", "stall_seconds"):
        assert load_config(None, [f"processes.{name}={WEEK_SECONDS}"])
    with socket.socket() as one:
        one.settimeout(WEEK_SECONDS)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"compile": True}, "exact=true does not work with train.compile"),
        ({"compile": "default"}, "exact=true does not work with train.compile"),
    ],
)
def test_exact_mode_refuses_the_compiler(train: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Config.model_validate({"exact": True, "train": {"micro_batch": 8, **train}})


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_graphs_of_the_compiler_are_not_within_another_one(mode: str) -> None:
    with pytest.raises(ValidationError, match=f"train.compile={mode} makes CUDA graphs of its own"):
        Config.model_validate({"train": {"compile": mode, "graph": True}})
    assert Config.model_validate({"train": {"compile": mode, "graph": "auto"}}).train.graph == "auto"
    assert Config().train.graph is False
