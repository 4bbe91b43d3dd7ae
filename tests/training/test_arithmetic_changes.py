"""Resuming on other arithmetic: refused with what has changed, or told from which step on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from signs_dist.checkpointing.tensors import Copier
from signs_dist.distributed.arithmetic import Fingerprint
from signs_dist.errors import EXIT_OTHER_ARITHMETIC, OtherArithmeticError
from signs_dist.models.trial import TrialDigest
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.other_machine import read_other_machine
from signs_dist.training.arithmetic_changes import (
    noted,
    read_changes,
    read_fingerprint,
)
from signs_dist.training.attempt_log import begin_attempt
from signs_dist.training.earlier_attempt import find_earlier_attempt, resume_from
from signs_dist.training.run_state import RunState
from tests.training.parts import make_config, make_process, make_stepper, make_trainer

TRIAL = TrialDigest("weights", "training", "evaluation")
ZEN = Fingerprint({"CPU capability": "AVX512"}, "subject", "digest")
SAME = Fingerprint({"CPU capability": "AVX2"}, "subject", "digest")
OTHER = Fingerprint({"CPU capability": "AVX2"}, "subject", "other")
NAMELESS = Fingerprint({"CPU capability": "AVX512"}, "subject", "other")
UNKNOWN = Fingerprint({"CPU capability": "AVX2"}, "another network", "other")
TOLD = "CPU capability AVX512 → AVX2"


@dataclasses.dataclass
class Resumed:
    """A run that was saved after 2 steps and resumed."""

    state: RunState
    notes: tuple[str, ...]
    banner: dict[str, str]
    folder: RunFolder
    content: dict[str, Any]


def resume(
    folder: Path,
    before: Fingerprint | None,
    now: Fingerprint | None,
    *,
    accepted: Collection[str] = (),
    trials: tuple[TrialDigest | None, TrialDigest | None] = (TRIAL, TRIAL),
) -> Resumed:
    """Save a run on one arithmetic, and resume it on another."""
    made = make_trainer(folder)
    made.stepper.trial, made.stepper.arithmetic = trials[0], before
    made.saver.begin({"data": made.stepper.prepared.about_data()})
    for _ in zip(range(2), made.stepper.steps(made.run_state.cursor), strict=False):
        made.run_state.advance()
    made.saver.save(made.run_state, made.stepper)
    made.saver.wait()
    process = make_process()
    with contextlib.ExitStack() as cleanup:
        earlier = find_earlier_attempt(make_config(folder), made.folder, accepted, process, cleanup)
        stepper, _ = make_stepper(folder, process=process)
        stepper.trial, stepper.arithmetic = trials[1], now
        state = RunState(stepper.prepared.plan, 2)
        earlier = resume_from(earlier, state, stepper, accepted)
        banner = dict(earlier.banner_lines(state, stepper, 2))
        content = state.to_content(stepper, Copier(), None, {})
    return Resumed(state, earlier.notes, banner, made.folder, content)


@pytest.mark.parametrize(
    ("now", "told"), [(OTHER, f"Changed since: {TOLD}. Resume on"), (NAMELESS, "Either the machine")]
)
def test_other_bits_are_refused_with_what_has_changed(tmp_path: Path, now: Fingerprint, told: str) -> None:
    with pytest.raises(
        OtherArithmeticError, match="the model computes other bits than when this run was saved"
    ) as caught:
        resume(tmp_path, ZEN, now)
    assert told in str(caught.value)
    assert str(caught.value).endswith("type --accept-change arithmetic")
    assert caught.value.exit_code == EXIT_OTHER_ARITHMETIC == 4


def test_the_first_micro_batch_of_the_run_decides_as_well(tmp_path: Path) -> None:
    other = dataclasses.replace(TRIAL, training="other")
    with pytest.raises(OtherArithmeticError, match=TOLD):
        resume(tmp_path, ZEN, SAME, trials=(TRIAL, other))


@pytest.mark.parametrize(
    ("before", "now", "trials", "note"),
    [
        (ZEN, ZEN, (TRIAL, TRIAL), ""),
        (ZEN, SAME, (TRIAL, TRIAL), f"changed since: {TOLD}; the bits of the fixed micro-batch are equal"),
        (ZEN, UNKNOWN, (TRIAL, TRIAL), f"changed since: {TOLD}; whether the bits are equal is not known"),
        (None, OTHER, (TRIAL, TRIAL), ""),  # a checkpoint of an earlier release
        (ZEN, OTHER, (None, None), f"changed since: {TOLD}: the bits may differ"),  # fast mode
        (ZEN, ZEN, (None, None), ""),
    ],
)
def test_what_is_not_refused_is_noted(
    tmp_path: Path,
    before: Fingerprint | None,
    now: Fingerprint | None,
    trials: tuple[TrialDigest | None, TrialDigest | None],
    note: str,
) -> None:
    resumed = resume(tmp_path, before, now, trials=trials)
    assert [each for each in resumed.notes if "CPU capability" in each] == ([note] if note else [])
    assert resumed.state.arithmetic_changes == []
    assert "bits" not in resumed.banner


def test_accepted_it_is_told_from_which_step_on(tmp_path: Path) -> None:
    resumed = resume(tmp_path, ZEN, OTHER, accepted={"arithmetic"})
    changes = [{"step": 3, "what": TOLD}]
    assert resumed.state.arithmetic_changes == changes
    assert resumed.banner["bits"] == f"other bits from step 3 on: {TOLD}"
    # The next checkpoint holds the new arithmetic, and the change.
    assert read_fingerprint(resumed.content) == OTHER
    assert read_changes(resumed.content) == changes
    begin_attempt(resumed.folder, make_process().context, resumed.state)
    assert json.loads(resumed.folder.attempts.read_text())["other_bits"] == TOLD
    # An attempt that resumes later has the bits of the attempt before.
    resumed.state.advance()
    resumed.state.advance()
    assert begin_attempt(resumed.folder, make_process().context, resumed.state).other_bits is None


def test_changes_without_a_name_are_told(tmp_path: Path) -> None:
    resumed = resume(tmp_path, ZEN, NAMELESS, accepted={"arithmetic"})
    assert resumed.banner["bits"] == "other bits from step 3 on: no version or instruction differs"


def test_damaged_changes_are_omitted() -> None:
    assert read_changes({}) == []
    assert read_changes({"arithmetic_changes": [7, {"step": "3", "what": ""}, {"step": 3, "what": "a", "x": 1}]}) == [
        {"step": 3, "what": "a"}
    ]


@pytest.mark.parametrize(("job", "nodes"), [("7.1", ("n2",)), ("", None)])
def test_a_refusal_in_a_job_leaves_a_note(tmp_path: Path, job: str, nodes: tuple[str, ...] | None) -> None:
    folder = RunFolder(tmp_path).create()
    folder.write_config("seed: 0\n")
    with pytest.raises(OtherArithmeticError), noted(folder, make_process(job=job)):
        raise OtherArithmeticError("other bits", ("n2",))
    assert read_other_machine(folder, "7.1") == nodes
