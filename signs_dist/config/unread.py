"""Settings that nothing reads with the other settings of a config: a table of what reads each. Pure functions.

A value that nothing reads is refused, because who typed it expects an effect. A default that is written out is none of
these, and neither is a value that asks for nothing, such as a rotation by 0 degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.learning_settings import OPTIMIZER_ARGUMENTS
from signs_dist.config.section import Section, flatten
from signs_dist.config.yaml_text import format_value

if TYPE_CHECKING:
    from signs_dist.config.settings import Config


@dataclass(frozen=True)
class Reading:
    """What reads some settings.

    Attributes:
        keys: the settings, dotted.
        by: the setting that decides whether something reads them.
        is_read: whether something does.
        advice: what to do besides deleting them, in the imperative.
        off: values besides the default that ask for nothing.
    """

    keys: tuple[str, ...]
    by: str
    is_read: Callable[[Config], bool]
    advice: str
    off: tuple[Any, ...] = ()


def refuse_unread(config: Config) -> None:
    """Refuse settings that nothing reads.

    Raises:
        ValueError: it names the first, what does not read it, and what to type; and then the others.
    """
    unread = list(find_unread(config))
    if not unread:
        return
    (key, reading), *others = unread
    value = _value_of(config, reading.by)
    word = "by" if reading.by.rpartition(".")[2] in ("name", "backend") else "with"
    advice = reading.advice
    if isinstance(value, str) and is_dotted(value) and word == "by":
        advice = f"put the arguments of your own code into {reading.by.partition('.')[0]}.args"
    default = _default_of(config, key)
    leaves = "" if default in (None, {}, ()) else f", which leaves its default of {format_value(default)},"
    also = f" Not read either: {', '.join(other for other, _ in others)}." if others else ""
    raise ValueError(
        f"{key} is not read {word} {reading.by}={format_value(value)}. Delete it{leaves or ','} or {advice}.{also}"
    )


def find_unread(config: Config) -> Iterator[tuple[str, Reading]]:
    """Each setting that has another value than its default, and that nothing reads, with its row of the table."""
    values = dict(flatten(config))
    found: set[str] = set()
    for reading in READINGS:
        for key in reading.keys:
            is_asked = values[key] != _default_of(config, key) and values[key] not in reading.off
            if is_asked and key not in found and not reading.is_read(config):
                found.add(key)
                yield key, reading


def left_by_overrides(config: Config, typed: Collection[str]) -> list[str]:
    """Settings of a file that nothing reads because of an override, such as `augment.magnitude` with
    `augment.policy=none`. They are no mistake: the file is written for another value.

    Args:
        config: file and overrides together.
        typed: the settings that were overridden; for arguments, such as `loss.args.gamma`, one by one.
    """
    return [
        key
        for key, reading in find_unread(config)
        if reading.by in typed and not any(f"{name}.".startswith(f"{key}.") for name in typed)
    ]


def _value_of(config: Section, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def _default_of(config: Section, dotted: str) -> Any:
    *parents, key = dotted.split(".")
    section = _value_of(config, ".".join(parents))
    return type(section).model_fields[key].default


def _loads_in_workers(config: Config) -> bool:
    if config.data.num_workers != "auto":
        return config.data.num_workers > 0
    return config.data.storage == "files" or config.augment.backend == "torchvision"


def _decays(config: Config) -> bool:
    return config.optim.weight_decay > 0 or any(entry.get("weight_decay") for entry in config.optim.groups)


def _trains_backbone(config: Config) -> bool:
    return config.model.freeze == "none" or config.model.thaw_after_epochs is not None


def _is_batch(config: Config) -> bool:
    return config.augment.backend == "batch"


def _of_optimizers() -> Iterator[Reading]:
    for key in dict.fromkeys(key for keys in OPTIMIZER_ARGUMENTS.values() for key in keys):
        readers = tuple(name for name, keys in OPTIMIZER_ARGUMENTS.items() if key in keys)
        yield Reading(
            (f"optim.{key}",),
            "optim.name",
            lambda config, readers=readers: config.optim.name in readers,  # type: ignore[misc]
            f"set optim.name to what reads it: {', '.join(readers)}",
        )


def _of_own_code() -> Iterator[Reading]:
    for by in ("augment.backend", "loss.name", "optim.name", "schedule.name"):
        yield Reading(
            (f"{by.partition('.')[0]}.args",),
            by,
            lambda config, by=by: is_dotted(_value_of(config, by)),  # type: ignore[misc]
            f"set {by} to your own code, as package.module:make",
        )


_SYNTHETIC = ("data.synthetic.train", "data.synthetic.val", "data.synthetic.test", "data.synthetic.seed")
_COLUMNS = ("data.columns.path", "data.columns.label", "data.columns.split", "data.columns.group")
_CHANGES = ("flip", "rotate_degrees", "shift", "scale", "brightness", "contrast", "cutout")
_BATCH = "set augment.backend=batch"

READINGS = (
    Reading(_SYNTHETIC, "data.root", lambda config: config.data.root is None, "delete data.root: hands are then drawn"),
    Reading(_SYNTHETIC, "data.reader", lambda config: config.data.reader is None, "delete data.reader"),
    Reading(("data.reader_args",), "data.reader", lambda config: config.data.reader is not None, "set data.reader"),
    Reading(
        _COLUMNS,
        "data.reader",
        lambda config: config.data.reader is None,
        "name a table with data.root instead of data.reader; data.group_pattern tells the groups of a reader's names",
    ),
    Reading(
        ("data.label_pattern",),
        "data.reader",
        lambda config: config.data.reader is None,
        "name a folder with data.root instead of data.reader, which says the class of each image",
    ),
    Reading(
        ("data.columns.label",),
        "data.label_pattern",
        lambda config: config.data.label_pattern is None,
        "delete data.label_pattern, which finds the class in the path",
    ),
    Reading(
        ("data.num_workers", "data.prefetch", "data.pin_memory"),
        "data.storage",
        lambda config: config.data.storage != "device",
        "set data.storage=packed: with device, batches are put together on the device",
        off=(0, False),
    ),
    Reading(
        ("data.prefetch",),
        "data.num_workers",
        _loads_in_workers,
        "set data.num_workers to 1 or more: auto is 0 where images are packed",
    ),
    Reading(
        ("data.resize",),
        "data.storage",
        lambda config: config.data.storage == "files",
        "set data.storage=files: packed images are resized once, by Pillow",
        off=("pillow",),
    ),
    Reading(tuple(f"augment.{name}" for name in _CHANGES), "augment.backend", _is_batch, _BATCH, off=(0,)),
    Reading(
        ("augment.crop_scale", "augment.crop_ratio", "augment.crop_from"),
        "augment.backend",
        _is_batch,
        f"{_BATCH}, or add RandomResizedCrop to augment.transforms",
    ),
    Reading(
        ("augment.policy", "augment.num_ops", "augment.magnitude"),
        "augment.backend",
        _is_batch,
        f"{_BATCH}, or add RandAugment to augment.transforms",
    ),
    Reading(
        ("augment.erase", "augment.erase_area", "augment.erase_fill"),
        "augment.backend",
        _is_batch,
        f"{_BATCH}, or add RandomErasing to augment.transforms",
    ),
    Reading(
        ("augment.crop_ratio",),
        "augment.crop_scale",
        lambda config: config.augment.crop_scale is not None,
        "set augment.crop_scale=[0.08, 1]",
    ),
    Reading(
        ("augment.num_ops", "augment.magnitude"),
        "augment.policy",
        lambda config: config.augment.policy == "randaugment",
        "set augment.policy=randaugment",
    ),
    Reading(
        ("augment.erase_area", "augment.erase_fill"),
        "augment.erase",
        lambda config: config.augment.erase > 0,
        "set augment.erase above 0",
    ),
    Reading(
        ("augment.mix_probability",),
        "augment.mixup",
        lambda config: config.augment.mixup > 0 or config.augment.cutmix > 0,
        "set augment.mixup or augment.cutmix above 0",
        off=(0,),
    ),
    Reading(
        ("augment.transforms",),
        "augment.backend",
        lambda config: config.augment.backend == "torchvision",
        "set augment.backend=torchvision",
    ),
    Reading(
        ("model.thaw_after_epochs",),
        "model.freeze",
        lambda config: config.model.freeze == "backbone",
        "set model.freeze=backbone, which it thaws",
    ),
    Reading(
        ("model.gradient_checkpointing",),
        "model.freeze",
        _trains_backbone,
        "set model.freeze=none: a frozen backbone has no backward pass",
    ),
    Reading(
        ("optim.layer_decay",),
        "model.freeze",
        _trains_backbone,
        "set model.freeze=none: of a frozen network the head alone trains, at optim.lr",
        off=(1,),
    ),
    Reading(("loss.focal_gamma",), "loss.name", lambda config: config.loss.name == "focal", "set loss.name=focal"),
    *_of_optimizers(),
    Reading(("optim.decay_norms_and_biases",), "optim.weight_decay", _decays, "set optim.weight_decay above 0"),
    Reading(
        ("schedule.warmup_epochs",),
        "schedule.name",
        lambda config: config.schedule.name in ("constant", "step", "cosine"),
        "set schedule.name=cosine; one_cycle rises until schedule.peak_at",
    ),
    Reading(
        ("schedule.step_epochs", "schedule.step_factor"),
        "schedule.name",
        lambda config: config.schedule.name == "step",
        "set schedule.name=step",
    ),
    Reading(
        ("schedule.start_factor", "schedule.peak_at"),
        "schedule.name",
        lambda config: config.schedule.name == "one_cycle",
        "set schedule.name=one_cycle",
    ),
    Reading(
        ("schedule.final_factor",),
        "schedule.name",
        lambda config: config.schedule.name in ("cosine", "one_cycle"),
        "set schedule.name to what reads it: cosine, one_cycle",
    ),
    *_of_own_code(),
    Reading(
        ("train.powersgd_rank", "train.powersgd_start_step"),
        "train.gradient_compression",
        lambda config: config.train.gradient_compression == "powersgd",
        "set train.gradient_compression=powersgd",
    ),
    Reading(
        ("train.autotune",),
        "exact",
        lambda config: not config.exact,
        "set exact=false: exact mode computes with train.num_threads and train.channels_last as they are",
    ),
    Reading(
        ("train.autotune",),
        "model.cache_features",
        lambda config: not config.model.cache_features,
        "set model.cache_features=false: the head alone is trained on what is kept",
    ),
    Reading(
        ("check.recompute_every",),
        "exact",
        lambda config: config.exact,
        "set exact=true: without it, equal work gives other bits on another process",
    ),
    Reading(
        ("evaluate.crop",), "evaluate.ten_crop", lambda config: config.evaluate.ten_crop, "set evaluate.ten_crop=true"
    ),
)
"""What reads the settings that are not always read. Of several rows for a setting, each must say that it is read."""
