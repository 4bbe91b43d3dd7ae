from __future__ import annotations

from pathlib import Path

from signs_dist.tracking.tracker import RunFacts, numbers_of, plain


def test_the_single_numbers_of_a_result_are_named_as_final() -> None:
    result = {"finished": True, "val_accuracy": 0.5, "steps": 3, "classes": ["a"], "device": "cpu", "rate": None}
    assert numbers_of(result) == {"final/val_accuracy": 0.5, "final/steps": 3.0}


def test_tuples_become_lists() -> None:
    assert plain({"data.mean": (0.5, 0.5), "seed": 3}) == {"data.mean": [0.5, 0.5], "seed": 3}


def test_a_run_has_the_name_of_its_folder(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    assert RunFacts(Path(), {}).name == "first"
