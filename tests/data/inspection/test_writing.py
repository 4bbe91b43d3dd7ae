"""The config that is written loads, and nothing is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.config.section import flatten
from signs_dist.data.inspection.choices import config_text
from signs_dist.data.inspection.writing import (
    plan_config,
    refuse_existing,
    require_data_settings,
    require_trainable,
    write_config,
)
from signs_dist.errors import UserError
from tests.data.inspection.made import counted, made


@pytest.mark.parametrize(
    "photos",
    [
        counted(cat=300, dog=300),
        counted(cat=90, dog=30),
        counted(left=5, right=5),
        [f"{split}/{name}/{i}.jpg" for split in ("train", "val") for name in ("cat", "dog") for i in range(20)],
        {path: {} for path in counted(cat=9, dog=9)} | {"cat/x.jpg": {"reason": "the file has 0 bytes"}},
    ],
)
def test_each_config_loads_with_the_values_that_were_chosen(photos: list[str], tmp_path: Path) -> None:
    found = made(photos)
    plan = plan_config(found, tmp_path / "c.yaml", {})
    write_config(plan, found, force=False)
    assert (tmp_path / "c.yaml").read_text() == config_text(
        plan.choices, found.listed.source, plan.config, len(plan.rows) or len(found.photos)
    )
    text = config_text(plan.choices, found.listed.source, plan.config, 1)
    (tmp_path / "loadable.yaml").write_text(text)
    loaded = dict(flatten(load_config(tmp_path / "loadable.yaml")))
    for choice in plan.choices:
        if choice.value is not None:
            value = tuple(choice.value) if isinstance(choice.value, list) else choice.value
            assert loaded[choice.key] == value, choice.key


def test_a_table_is_written_beside_and_named(tmp_path: Path) -> None:
    found = made({path: {} for path in counted(cat=9, dog=9)} | {"cat/x.jpg": {"reason": "empty"}}, source="/photos")
    plan = plan_config(found, tmp_path / "c.yaml", {"data.columns.label": "kind", "data.image_size": 32})
    write_config(plan, found, force=False)
    assert plan.files() == [tmp_path / "c.yaml", tmp_path / "c.csv"]
    assert plan.choices[0].value == str(tmp_path / "c.csv")
    assert [choice.key for choice in plan.choices if choice.reason == "as you typed it"] == ["data.image_size"]
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 19
    with pytest.raises(UserError, match=r"c.yaml and .*c.csv exist already. .*--force"):
        write_config(plan, found, force=False)
    write_config(plan, found, force=True)


@pytest.mark.parametrize(("source", "config"), [("photos", "c.csv"), ("c.csv", "c.yaml")])
def test_the_table_takes_the_place_of_nothing(source: str, config: str) -> None:
    found = made({path: {} for path in counted(cat=9, dog=9)} | {"cat/x.jpg": {"reason": "empty"}}, source=source)
    with pytest.raises(UserError, match=r"c.csv is taken. Name another config with --write"):
        plan_config(found, Path(config), {})


def test_a_file_is_not_replaced_without_force(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"exists already. Name another file with --write, or replace it with --force"):
        refuse_existing([tmp_path / "c.yaml"], force=False)
    refuse_existing([tmp_path / "c.yaml"], force=True)
    refuse_existing([tmp_path / "other.yaml"], force=False)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (made(counted(cat=2, dog=2), source="a.zip", kind="zip"), "data.build --source a.zip"),
        (
            made({"a/1.jpg": {"reason": "empty"}}, kind="shards"),
            "1 photo in its shards cannot be read, such as a/1.jpg",
        ),
        (made(counted(cat=2)), "there is one. No config can train"),
        (made({"cat/1.jpg": {"reason": "empty"}}), "there is none. No config can train"),
        (made(["val/cat/1.jpg", "val/dog/1.jpg"]), "has no training photos"),
    ],
)
def test_what_cannot_train_is_refused(found: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_trainable(found)  # type: ignore[arg-type]


def test_only_settings_of_data_are_read() -> None:
    require_data_settings(["data.columns.label"])
    for key in ("train.epochs", "data.root"):
        with pytest.raises(UserError, match=f"{key} is not read here"):
            require_data_settings([key])
