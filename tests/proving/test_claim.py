"""What a run folder and a receipt claim, and the messages where there is nothing to prove."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.files import write_json
from signs_dist.proving.claim import compared_parts, open_receipt, open_run
from signs_dist.proving.plan import all_segments, short_segments
from signs_dist.proving.segments import Segment
from signs_dist.results.receipt import make_receipt, sealed
from signs_dist.results.run_settings import read_raw_settings
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import SaveLine, StateLine
from tests.proving.claims import SUBJECT, some_claim, some_lines, some_result


def folder_of(path: Path, *, config: str = "exact: true\n", result: dict[str, Any] | None = None) -> RunFolder:
    folder = RunFolder(path).create()
    folder.write_config(config)
    folder.write_manifest({"subject": SUBJECT})
    for line in some_lines():
        folder.add(line)
    if result is not None:
        folder.write_result(result)
    return folder


def test_what_a_run_folder_claims(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", result=some_result())
    within = ("epoch-0002-step-000002.pt", "epoch-0002-step-000004.pt")  # the second is not yet the end of its epoch
    for name in ("epoch-0001.pt", *within, "epoch-0003.pt", "best.pt", "last.pt", "notes.txt"):
        (folder.checkpoints / name).touch()
    claim = open_run(folder.path)
    assert (claim.num_steps, claim.last_step, claim.result_step) == (4, 12, 12)
    assert claim.kept == {4, 12}
    assert all_segments(claim) == [Segment(0, 4), Segment(4, 12)]
    assert short_segments(claim) == [Segment(0, 4)]
    assert claim.receipt is None


def test_fast_mode_has_nothing_to_prove(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", config="exact: false\n", result=some_result())
    with pytest.raises(UserError, match=r"is a run in fast mode, .* Train with exact=true"):
        open_run(folder.path)


def test_a_run_that_is_not_finished_has_nothing_to_prove(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run")
    with pytest.raises(UserError, match=r"is not finished, and has no result to prove. Repeat its command"):
        open_run(folder.path)


def test_a_run_without_a_chain_has_nothing_to_prove(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", result=some_result())
    folder.metrics.unlink()
    with pytest.raises(UserError, match="has no chain of states: an earlier release trained this run"):
        open_run(folder.path)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run folder: it has no config.yaml"):
        open_run(tmp_path)


def test_a_receipt_that_cannot_be_read_is_damage_of_its_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", result=some_result())
    folder.receipt.write_text("{")
    claim = open_run(folder.path)
    assert claim.receipt is None
    assert "is not JSON" in claim.damage


def receipt_file(path: Path, **changes: Any) -> Path:
    config = {"exact": True, "data": {"root": "/home/me/photos", "cache": "/scratch/cache"}}
    lines = [*some_lines(), SaveLine(epoch=3, step=12, stall_seconds=0.1)]
    manifest = {"subject": SUBJECT, "plan": {"micro_batch": 2}, "code": {"commit": "c0ffee"}}
    receipt = make_receipt(config, manifest, lines, some_result(), [1])
    write_json(path, sealed({**receipt, **changes}))
    return path


def test_a_receipt_becomes_a_run_folder_that_claims_the_same(tmp_path: Path) -> None:
    claim = open_receipt(receipt_file(tmp_path / "receipt.json"), tmp_path)
    assert claim.is_receipt
    assert [line.chain for line in claim.states] == [line.chain for line in some_claim().states]
    folder = RunFolder(claim.path)
    assert [line for line in folder.read_metrics() if isinstance(line, StateLine)] == claim.states
    data = {"root": "photos", "split_folder": str(tmp_path / "splits")}
    assert read_raw_settings(folder.config) == {"exact": True, "data": data}
    assert json.loads(folder.manifest.read_text())["plan"] == {"micro_batch": 2}
    assert folder.is_finished


@pytest.mark.parametrize(
    ("shortened", "expected"),
    [([], ("config", "data")), (["data.root", "data.cache"], ("config", "data")), (["model.weights"], ("data",))],
)
def test_settings_are_compared_where_the_receipt_holds_them(
    tmp_path: Path, shortened: list[str], expected: tuple[str, ...]
) -> None:
    assert compared_parts(open_receipt(receipt_file(tmp_path / "r.json", shortened=shortened), tmp_path)) == expected


def test_a_receipt_without_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no chain of states"):
        open_receipt(receipt_file(tmp_path / "receipt.json", chain=[{"kind": "state"}, 3]), tmp_path)
