"""Whether the files of a run agree with each other: metrics.jsonl, manifest.json, result.json and receipt.json.

A run whose files agree may still be forged: whoever changes all of them finds nothing here. Training again tells.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from signs_dist.config.settings import Config
from signs_dist.results.receipt import claim_of, is_intact
from signs_dist.run_folder.chain import check_chain
from signs_dist.run_folder.records import EpochLine, MetricsLine, StateLine, of_kind
from signs_dist.run_folder.subject import Subject

_VALIDATION = ("val_loss", "val_accuracy", "val_macro_f1", "val_metrics")
_BEST = {"accuracy": ("val_accuracy", 1), "loss": ("val_loss", -1), "macro_f1": ("val_macro_f1", 1)}
"""`evaluate.best_by` → the number of an epoch's line, and 1 if a larger one is better."""


def find_disagreements(lines: Sequence[MetricsLine], subject: Any, result: Mapping[str, Any]) -> list[str]:
    """Where the chain breaks, and where other files say something else than metrics.jsonl; empty if nothing does.

    Args:
        lines: the records of metrics.jsonl. At least one is of a state.
        subject: the entry of manifest.json.
        result: the contents of result.json.
    """
    return [
        *check_chain(lines),
        *_compare_subject(of_kind(lines, StateLine), subject),
        *_compare_result(lines, result),
    ]


def compare_settings(settings: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """Where a result is not that of a run with these settings: another end, or weights of another epoch.

    Args:
        settings: the sections of the config. Settings that it lacks count as their defaults.
        result: the contents of result.json, which agrees with metrics.jsonl.
    """
    set_ = functools.partial(_setting, settings)
    told = {name: result.get(name) for name in ("epochs", "best_by", "best_epoch", "epochs_trained")}
    expected = {"epochs": set_("train.epochs"), "best_by": set_("evaluate.best_by")}
    faults = [
        f"{name}: {told[name]} in result.json, {value} in the settings"
        for name, value in expected.items()
        if told[name] != value
    ]
    ended, best = _whole(told["epochs_trained"]), _whole(told["best_epoch"])
    patience, every = set_("train.patience"), set_("evaluate.every_epochs")
    if ended != expected["epochs"] and (patience is None or ended - best < patience or ended % every):
        faults.append(f"the run ends after epoch {ended}, and its settings let it train {expected['epochs']} epochs")
    final = result.get("weights")
    kind = set_("train.final_weights")
    if final != {"kind": kind, "epoch": best if kind == "best" else ended}:
        faults.append(f"result.json has the weights {final}, and train.final_weights is {kind}")
    return faults


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """A setting by its dotted name; its default where it is missing."""
    section, key = name.split(".")
    given = settings.get(section)
    return given[key] if isinstance(given, Mapping) and key in given else getattr(getattr(Config(), section), key)


def compare_receipt(receipt: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Where a receipt says something else than the other files of its run.

    Args:
        receipt: from `read_receipt`.
        expected: from `receipt_of`.
    """
    if not is_intact(receipt):
        return ["receipt.json was changed: its entries do not have its SHA-256"]
    claim, files = claim_of(receipt), claim_of(expected)
    names = [name for name in {**claim, **files} if claim.get(name) != files.get(name)]
    return [
        f"receipt.json and the run folder differ: {_where(claim.get(name), files.get(name), name)}" for name in names
    ]


def _where(one: Any, other: Any, name: str) -> str:
    """The name of the first entry that differs within two values, such as `config.optim.lr`."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        return _where(one.get(keys[0]), other.get(keys[0]), f"{name}.{keys[0]}") if keys else name
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        number = next((number for number in range(len(one)) if one[number] != other[number]), 0)
        return _where(one[number], other[number], f"{name}[{number}]") if one else name
    return name


def _compare_subject(lines: Sequence[StateLine], entry: Any) -> Iterator[str]:
    subject = Subject.from_dict(entry)
    if subject is None:
        yield "manifest.json has no digests of config, data and code, or they were changed"
        return
    last = max(lines, key=lambda line: line.step)
    if last.subject != subject.sha256:
        yield "the chain is of other settings, images or code than manifest.json says"


def _compare_result(lines: Sequence[MetricsLine], result: Mapping[str, Any]) -> Iterator[str]:
    last = max(of_kind(lines, StateLine), key=lambda line: line.step)
    if (result.get("steps"), result.get("epochs_trained")) != (last.step, last.epoch):
        yield (
            f"result.json says {result.get('steps')} steps in {result.get('epochs_trained')} epochs, and the chain "
            f"ends after step {last.step} of epoch {last.epoch}"
        )
    ends = of_kind(lines, EpochLine)
    epochs = {line.epoch: line for line in ends}
    for epoch, number in Counter(line.epoch for line in ends).items():
        if number > 1:
            yield f"metrics.jsonl has {number} lines for the end of epoch {epoch}"
    weights = result.get("weights")
    final = epochs.get(_whole(weights.get("epoch"))) if isinstance(weights, dict) else None
    if final is None:
        yield "result.json names no epoch of the run whose weights it has"
    elif final.val_accuracy is not None:
        names = [name for name in _VALIDATION if result.get(name) != getattr(final, name)]
        yield from (_other_number(name, result.get(name), getattr(final, name), final.epoch) for name in names)
    yield from _compare_best(epochs, result)


def _compare_best(epochs: Mapping[int, EpochLine], result: Mapping[str, Any]) -> Iterator[str]:
    best = epochs.get(_whole(result.get("best_epoch")))
    if best is None:
        yield "result.json names no epoch of the run as its best"
        return
    for name in _VALIDATION[:3]:
        if result.get(f"best_{name}") != getattr(best, name):
            yield _other_number(f"best_{name}", result.get(f"best_{name}"), getattr(best, name), best.epoch)
    name, sign = _BEST.get(str(result.get("best_by")), _BEST["accuracy"])
    values = {number: getattr(line, name) for number, line in epochs.items() if getattr(line, name) is not None}
    own = values.get(best.epoch)
    better = [number for number, value in values.items() if own is not None and sign * value > sign * own]
    if better:
        yield f"result.json says that epoch {best.epoch} is the best, and epoch {better[0]} is better in metrics.jsonl"


def _whole(value: Any) -> int:
    """The value if it is a whole number, else 0: an editor may have changed it."""
    return value if type(value) is int else 0


def _other_number(name: str, told: Any, line: Any, epoch: int) -> str:
    return f"{name}: {told} in result.json, {line} in metrics.jsonl for epoch {epoch}"
