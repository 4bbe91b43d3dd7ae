"""Settings that nothing reads are refused where they were typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from signs_dist.config.explaining import docstring_of
from signs_dist.config.reading import dump_config, load_config, load_saved_config
from signs_dist.config.section import Section, flatten, section_of
from signs_dist.config.settings import Config
from signs_dist.config.unread import READINGS
from signs_dist.errors import UserError

TRANSFORMS = ["augment.backend=torchvision", "augment.transforms=[{RandomRotation: {degrees: 25}}]"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.root=photos", "data.synthetic.train=40"], "data.synthetic.train is not read with data.root=photos"),
        (["data.reader=a:b", "data.synthetic.seed=1"], "data.synthetic.seed is not read with data.reader=a:b"),
        (["data.reader=a:b", "data.columns.label=kind"], "data.columns.label is not read with data.reader=a:b"),
        (["data.reader=a:b", "data.label_pattern=(.)"], "data.label_pattern is not read with data.reader=a:b"),
        (["data.label_pattern=(.)", "data.columns.label=y"], "is not read with data.label_pattern=(.). Delete it, or"),
        (["data.prefetch=4"], "data.prefetch is not read with data.num_workers=auto. Delete it, which leaves its"),
        (["data.prefetch=4", "data.storage=files", "data.num_workers=0"], "is not read with data.num_workers=0"),
        (["data.prefetch=4", "data.storage=device"], "data.prefetch is not read with data.storage=device. Delete it,"),
        (
            ["data.num_workers=2", "data.storage=device"],
            "is not read with data.storage=device. Delete it,",
        ),
        (["data.pin_memory=true", "data.storage=device"], "or set data.storage=packed: with device, batches are put"),
        (["augment.flip=1", "augment.backend=none"], "augment.flip is not read by augment.backend=none"),
        (["augment.cutout=0.2", *TRANSFORMS], "augment.cutout is not read by augment.backend=torchvision"),
        (
            ["augment.magnitude=5"],
            "augment.magnitude=5: augment.magnitude is not read with augment.policy=none. Delete it, which leaves its "
            "default of 9, or set augment.policy=randaugment.",
        ),
        (["augment.num_ops=1", "augment.policy=trivialaugment"], "is not read with augment.policy=trivialaugment"),
        (["augment.magnitude=5", *TRANSFORMS], "is not read by augment.backend=torchvision"),
        (["augment.crop_ratio=[1, 1]"], "augment.crop_ratio is not read with augment.crop_scale=null"),
        (["augment.erase_area=[0.1, 0.2]"], "augment.erase_area is not read with augment.erase=0"),
        (["augment.erase_fill=noise"], "or set augment.erase above 0."),
        (["augment.mix_probability=0.5"], "or set augment.mixup or augment.cutmix above 0."),
        (["augment.transforms=[{CenterCrop: {size: 8}}]"], "is not read by augment.backend=batch. Delete it, or set"),
        (["model.freeze=backbone", "model.gradient_checkpointing=true"], "is not read with model.freeze=backbone"),
        (["model.freeze=backbone", "optim.layer_decay=0.7"], "optim.layer_decay is not read with model.freeze=backbo"),
        (["optim.weight_decay=0", "optim.decay_norms_and_biases=true"], "is not read with optim.weight_decay=0"),
        (["optim.betas=[0.9, 0.9]"], "Delete it, or set optim.name to what reads it: adam, adamw."),
        (["optim.name=a:b", "optim.eps=1e-6"], "Delete it, or put the arguments of your own code into optim.args."),
        (["schedule.step_epochs=3"], "schedule.step_epochs is not read by schedule.name=one_cycle"),
        (["schedule.peak_at=0.5", "schedule.name=cosine"], "schedule.peak_at is not read by schedule.name=cosine"),
        (["schedule.final_factor=0.1", "schedule.name=step"], "set schedule.name to what reads it: cosine, one_cycle."),
        (["evaluate.crop=0.8"], "evaluate.crop is not read with evaluate.ten_crop=false"),
        (["evaluate.crop=0.8", "augment.erase_fill=noise"], "augment.erase_fill is not read with augment.erase=0.0"),
        (["evaluate.crop=0.8", "augment.erase_fill=noise"], "Not read either: evaluate.crop."),
    ],
)
def test_what_nothing_reads_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(None, settings)


@pytest.mark.parametrize(
    "settings",
    [
        ["augment.magnitude=9", "evaluate.crop=0.875", "schedule.step_epochs=10"],  # defaults
        ["augment.backend=none", "augment.rotate_degrees=0", "augment.flip=0", "augment.erase=0"],  # nothing is asked
        ["augment.policy=randaugment", "augment.magnitude=5", "augment.num_ops=1"],
        ["augment.crop_scale=[0.5, 1]", "augment.crop_ratio=[1, 1]"],
        ["augment.erase=0.2", "augment.erase_fill=noise", "augment.erase_area=[0.1, 0.2]"],
        ["augment.cutmix=1", "augment.mix_probability=0.5", *TRANSFORMS],
        ["model.freeze=backbone", "model.thaw_after_epochs=2", "optim.layer_decay=0.7"],
        ["optim.weight_decay=0", "optim.groups=[{match: a, weight_decay: 1}]", "optim.decay_norms_and_biases=true"],
        ["optim.name=rmsprop", "optim.alpha=0.9", "optim.momentum=0.5"],
        ["schedule.name=step", "schedule.step_epochs=3", "schedule.warmup_epochs=1"],
        ["schedule.name=cosine", "schedule.final_factor=0.1"],
        ["data.num_workers=2", "data.prefetch=4"],
        ["data.storage=files", "data.prefetch=4"],
        ["data.prefetch=4", *TRANSFORMS],
        ["data.storage=device", "data.num_workers=0", "data.pin_memory=false"],
        ["data.synthetic.train=40"],
        ["data.root=t.csv", "data.columns.label=kind"],
        ["evaluate.ten_crop=true", "evaluate.crop=0.8"],
    ],
)
def test_what_is_read_or_asks_for_nothing_is_taken(settings: list[str]) -> None:
    load_config(None, settings)


def test_the_line_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("augment:\n  policy: none\n  magnitude: 5\n")
    with pytest.raises(UserError, match=r"c\.yaml:3: augment\.magnitude is not read with augment\.policy=none"):
        load_config(tmp_path / "c.yaml", ["optim.lr=0.1"])
    load_config(tmp_path / "c.yaml", ["augment.policy=none", "augment.magnitude=9"])


def test_a_run_that_an_earlier_release_let_pass_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(Config()).replace("magnitude: 9", "magnitude: 5"))
    assert load_saved_config(path).augment.magnitude == 5
    with pytest.raises(UserError, match=r"augment\.magnitude is not read"):
        load_config(path)


def test_the_table_knows_the_settings() -> None:
    every = {key for key, _ in flatten(Config())}
    assert {key for reading in READINGS for key in reading.keys} <= every
    assert {reading.by for reading in READINGS} <= every


def test_a_setting_that_is_for_another_one_is_in_the_table() -> None:
    """A docstring that begins with `For …:` says that the setting is not always read."""
    known = {key for reading in READINGS for key in reading.keys}
    assert {key for key, text in _docstrings(Config) if text.startswith("For ")} <= known


def _docstrings(schema: type[Section], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, field in schema.model_fields.items():
        inner = section_of(field.annotation)
        rows += _docstrings(inner, f"{prefix}{name}.") if inner else [(prefix + name, docstring_of(field))]
    return rows


def test_an_override_may_leave_a_setting_of_the_file_unread(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "augment: {policy: randaugment, magnitude: 5, num_ops: 3}\noptim: {name: adamw, betas: [0.9, 0.95]}\n"
    )
    config = load_config(file, ["augment.policy=none", "optim.name=sgd"])
    assert (config.augment.magnitude, config.augment.num_ops) == (9, 2)  # as if the file did not set them
    file.with_name("again.yaml").write_text(dump_config(config))
    assert load_config(file.with_name("again.yaml")) == config
    with pytest.raises(UserError, match="magnitude is not read with"):
        load_config(file, ["augment.policy=none", "augment.magnitude=6"])
    file.write_text("augment: {policy: none, magnitude: 5}\n")
    with pytest.raises(UserError, match="magnitude is not read with"):
        load_config(file, ["optim.name=sgd"])
    file.write_text("loss: {name: my.loss, args: {power: 2}}\n")
    assert load_config(file, ["loss.name=mse"]).loss.args == {}
    with pytest.raises(UserError, match=r"loss\.args is not read by loss\.name=mse"):
        load_config(file, ["loss.name=mse", "loss.args.power=3"])
