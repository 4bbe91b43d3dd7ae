"""What a run, or the receipt of one, claims: read from its folder or its file, before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.cursor import Cursor
from signs_dist.checkpointing.resume_rules import FREE
from signs_dist.config.yaml_text import format_mapping
from signs_dist.errors import UserError
from signs_dist.files import write_json, write_text
from signs_dist.results.receipt import lines_of, read_json, read_receipt
from signs_dist.results.run_settings import read_raw_settings
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import to_line
from signs_dist.run_folder.records import MetricsLine, StateLine, of_kind, to_fields
from signs_dist.run_folder.subject import Subject


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed of a run.

    Attributes:
        path: its run folder, or a folder that was made from its receipt.
        settings: the sections of its config.
        lines: the records of metrics.jsonl.
        manifest: the contents of manifest.json.
        result: the contents of result.json.
        receipt: the contents of receipt.json; None where there is none.
        damage: what is wrong with receipt.json; "" for nothing.
        kept: the steps done at its checkpoints of ends of epochs. Those within an epoch hold the sums of its losses so
            far, which no digest covers: numbers that follow from them are no evidence.
        is_receipt: whether a receipt alone is there.
    """

    path: Path
    settings: Mapping[str, Any]
    lines: Sequence[MetricsLine]
    manifest: Mapping[str, Any]
    result: Mapping[str, Any]
    receipt: Mapping[str, Any] | None
    damage: str = ""
    kept: frozenset[int] = frozenset()
    is_receipt: bool = False

    @property
    def name_of_settings(self) -> str:
        """The file with its settings."""
        return "the receipt" if self.is_receipt else "config.yaml"

    @property
    def states(self) -> list[StateLine]:
        """The lines of the chain, by steps."""
        return sorted(of_kind(self.lines, StateLine), key=lambda line: line.step)

    @property
    def subject(self) -> Mapping[str, str]:
        """The digests of settings, images and code of its last attempt. Asked for when they are known to be there."""
        subject = Subject.from_dict(self.manifest.get("subject"))
        assert subject is not None
        return subject.as_dict()

    @property
    def num_steps(self) -> int:
        """Steps of an epoch. The last state is that of the end of an epoch."""
        last = self.states[-1]
        return max(1, last.step // max(1, last.epoch))

    @property
    def last_step(self) -> int:
        """The steps of the whole run."""
        return self.states[-1].step

    @property
    def result_step(self) -> int:
        """The step whose weights the result has; 0 if it names none."""
        weights = self.result.get("weights")
        epoch = weights.get("epoch") if isinstance(weights, dict) else None
        return epoch * self.num_steps if type(epoch) is int else 0


def open_run(path: Path) -> Claim:
    """What a run folder claims.

    Raises:
        UserError: it is no run folder, or nothing can be proved of its run. The message says why, and what to do.
    """
    folder = RunFolder.open(path)
    settings = read_raw_settings(folder.config)
    if settings.get("exact") is not True:
        raise UserError(
            f"{path} is a run in fast mode, whose weights differ in rounding from one number of processes to another: "
            f"they cannot be proved. Train with exact=true."
        )
    result = folder.read_result()
    if result is None:
        raise UserError(
            f"{path} is not finished, and has no result to prove. Repeat its command to train it to its end."
        )
    receipt, damage = None, ""
    if folder.receipt.exists():
        try:
            receipt = read_receipt(folder.receipt)
        except UserError as error:
            damage = str(error)
    claim = Claim(path, settings, folder.read_metrics(), read_json(folder.manifest), result, receipt, damage=damage)
    _require_chain(claim, str(path))
    cursors = [Cursor.of_file(file) for file in folder.checkpoints.glob("epoch*.pt")]
    kept = {cursor.epoch * claim.num_steps for cursor in cursors if cursor is not None and cursor.step == 0}
    return dataclasses.replace(claim, kept=frozenset(kept))


def open_receipt(file: Path, folder: Path) -> Claim:
    """What a receipt claims, with a run folder made of it, from which the run can be trained again.

    Args:
        file: the receipt.
        folder: a new folder is made in it.

    Raises:
        UserError: it is no receipt.
    """
    receipt = read_receipt(file)
    path = RunFolder(folder / "run").create().path
    made = RunFolder(path)
    manifest = {name: receipt.get(name) for name in ("data", "code", "plan", "arithmetic", "subject")}
    claim = Claim(path, receipt["config"], lines_of(receipt), manifest, receipt["result"], receipt, is_receipt=True)
    _require_chain(claim, str(file))
    try:
        write_text(made.config, format_mapping(_settings_here(receipt["config"], folder)))
        write_json(made.manifest, manifest)
        write_json(made.result, receipt["result"])
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}.") from error
    made.metrics.write_bytes(b"".join(to_line(to_fields(line)) for line in claim.lines))
    return claim


def compared_parts(claim: Claim) -> tuple[str, ...]:
    """The parts of the subject that must be equal here: `data`, and `config` where all settings of the run are known.

    A receipt holds no folders: with weights to start from, its settings are known but for the place of their file.
    """
    shortened = (claim.receipt or {}).get("shortened") if claim.is_receipt else None
    is_known = not any(isinstance(name, str) and not name.startswith(FREE) for name in shortened or ())
    return ("config", "data") if is_known else ("data",)


def _settings_here(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a receipt without the folders of the run's machine; a division of photos is made in `folder`."""
    data = settings.get("data")
    if not isinstance(data, Mapping):
        return dict(settings)
    kept = {name: value for name, value in data.items() if name != "cache"}
    return {**settings, "data": {**kept, "split_folder": str(folder / "splits")}}


def _require_chain(claim: Claim, name: str) -> None:
    if not of_kind(claim.lines, StateLine):
        raise UserError(
            f"{name} has no chain of states: an earlier release trained this run. Train it again to have one."
        )
