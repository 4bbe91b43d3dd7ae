"""Whether replayed steps are those of the run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from signs_dist.replaying.evidence import Compared, judge, read_recorded, recorded_samples
from signs_dist.run_folder.folder import RunFolder

EXACT = Compared(is_exact=True, same_bits=True)
FAST = Compared(is_exact=False, same_bits=None)


@pytest.mark.parametrize(
    ("compared", "level", "reason"),
    [
        (EXACT, "same bits", "no recorded state at or after step 12 was reached"),
        (
            dataclasses.replace(EXACT, states=[(8, True), (15, True)]),
            "same bits",
            "the state after step 8, 15 has the SHA",
        ),
        (dataclasses.replace(EXACT, states=[(8, True), (15, False)]), "other bits", "the state after step 15 differs"),
        (dataclasses.replace(EXACT, losses=[(11, 0.5, 0.5)]), "same bits", "in 1 line of metrics.jsonl is the same"),
        (
            dataclasses.replace(EXACT, losses=[(11, 0.5, 0.50001)]),
            "other bits",
            "differs most at step 11: 0.5 in the run",
        ),
        (
            dataclasses.replace(EXACT, samples=[(11, True)]),
            "same bits",
            "the samples of step 11 are those in the run's",
        ),
        (dataclasses.replace(EXACT, samples=[(11, False)]), "other samples", "has other samples for step 11"),
        (dataclasses.replace(EXACT, same_images=False), "other samples", "--data PATH"),
        (
            dataclasses.replace(EXACT, same_bits=False, differences=["torch 2.6 → 2.7"], states=[(15, False)]),
            "same samples",
            "the arithmetic differs from the run's: torch 2.6 → 2.7",
        ),
        (dataclasses.replace(EXACT, same_bits=False, states=[(15, True)]), "same bits", "the state after step 15 has"),
        (dataclasses.replace(EXACT, same_bits=None), "same samples", "the run recorded no arithmetic"),
        (dataclasses.replace(EXACT, same_bits=None, states=[(15, True)]), "same bits", "the state after step 15 has"),
        (FAST, "same samples", "the run is not exact"),
        (dataclasses.replace(FAST, losses=[(11, 0.5, 0.50001)]), "same samples", "0.5 in the run, 0.50001 here"),
        (dataclasses.replace(EXACT, other_settings=["optim.lr"]), "same bits", "have changed since: optim.lr"),
    ],
)
def test_a_verdict(compared: Compared, level: str, reason: str) -> None:
    verdict = judge(compared, 10, 12)
    assert verdict.level == level
    assert reason in "; ".join(verdict.reasons)
    assert verdict.is_as_expected == (level in ("same bits", "same samples"))


def test_it_travels_through_json() -> None:
    compared = dataclasses.replace(EXACT, states=[(8, True)], losses=[(8, 0.5, 0.25)], samples=[(8, False)])
    found = Compared.from_plain(json.loads(json.dumps(dataclasses.asdict(compared))))
    assert dataclasses.replace(found, differences=(), other_settings=(), adapted=()) == compared


def test_what_a_run_wrote_down_is_read(tmp_path: Path) -> None:
    lines = [
        {"kind": "step", "step": 4, "train_loss": 0.5},
        {"kind": "epoch", "step": 8, "train_loss": 0.25},
        {"kind": "state", "step": 8, "state": "abc"},
        {"kind": "save", "step": 9},
        {"kind": "step", "step": "x", "train_loss": 1},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*map(json.dumps, lines), "torn"]))
    recorded = read_recorded(RunFolder(tmp_path, is_writer=False))
    assert (recorded.losses, recorded.states, recorded.last_step) == ({4: 0.5, 8: 0.25}, {8: "abc"}, 8)


def test_samples_in_logs_are_found_by_the_step_of_the_run(tmp_path: Path) -> None:
    for rank, samples in enumerate(([1, 2], [3, 4])):
        line = {"epoch": 2, "step": 3, "micro_batch": rank, "samples": samples}
        (tmp_path / f"samples-rank{rank}.jsonl").write_text(json.dumps(line) + "\n")
    assert recorded_samples(tmp_path, 10, 12, 14) == {13: [1, 2, 3, 4]}
