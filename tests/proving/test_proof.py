"""Proving runs: honest ones pass, on other numbers of processes and from a receipt alone, and forged ones do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.proving.claim import open_receipt, open_run
from signs_dist.proving.proof import Wishes, find_faults, prove
from signs_dist.proving.verdict import Verdict
from signs_dist.results.receipt import is_intact, read_receipt
from tests.proving.tampering import KINDS, Forger, copy_of, train_a_run
from tests.sets import write_colour_set


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_a_run(tmp_path_factory.mktemp("run"))


def verdict_on(run: Path, **wishes: object) -> tuple[Verdict, list[str]]:
    told: list[str] = []
    return prove(open_run(run), Wishes(**wishes), told.append), told  # type: ignore[arg-type]


def test_an_honest_run_passes_and_its_receipt_says_so(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    verdict, told = verdict_on(copy, is_all=True, by="a reviewer")
    assert verdict.text == (
        "PASS: 4 of 4 segments, 12 of 12 steps (100.0 %) give the states and numbers of the run, and its result: "
        "scores and weights."
    )
    assert told[0] == "the files agree with each other, and the chain of 4 states is whole"
    receipt = read_receipt(copy / "receipt.json")
    assert is_intact(receipt)
    (proof,) = receipt["proved"]
    assert (proof["by"], proof["verdict"], proof["segments"], proof["result"]) == (
        "a reviewer",
        "PASS",
        [[1, 12]],
        True,
    )
    assert str(tmp_path) not in (copy / "receipt.json").read_text()
    assert verdict_on(copy, number=1, seed=4)[0].word == "PASS"
    assert [proof["seed"] for proof in read_receipt(copy / "receipt.json")["proved"]] == [None, 4]


def test_a_receipt_alone_suffices_with_the_photos(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / "receipt.json", tmp_path / "theirs.json")
    before = (tmp_path / "theirs.json").read_bytes()
    claim = open_receipt(tmp_path / "theirs.json", tmp_path)
    data = str(run.parent / "colours")
    verdict = prove(claim, Wishes(data=data, receipt_out=tmp_path / "mine.json"), lambda line: None)
    assert verdict.word == "PASS"
    assert "12 of 12 steps" in verdict.text
    assert "and its result" in verdict.text
    assert read_receipt(tmp_path / "mine.json")["proved"][0]["verdict"] == "PASS"
    assert (tmp_path / "theirs.json").read_bytes() == before


def test_other_photos_fail_and_the_receipt_does_not_tell_of_them(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    write_colour_set(tmp_path / "others", counts={"train": 13, "val": 4, "test": 4})
    before = (copy / "receipt.json").read_bytes()
    verdict, told = verdict_on(copy, number=1, data=str(tmp_path / "others"))
    assert verdict.word == "FAIL"
    assert told[-1].startswith("FAIL: the images here are not those that the run was trained on.")
    assert (copy / "receipt.json").read_bytes() == before


def test_photos_that_are_gone_are_asked_for(tmp_path: Path) -> None:
    run = train_a_run(tmp_path, "train.epochs=1")
    shutil.move(tmp_path / "colours", tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"colours, which is not there: say where it is now: --data PATH"):
        verdict_on(run, is_all=True)
    assert verdict_on(run, is_all=True, data=str(tmp_path / "elsewhere"))[0].word == "PASS"


def test_a_state_that_differs_is_told_and_written_into_the_receipt(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    Forger(copy, 3, is_careful=True).checkpoint("model")
    verdict, _ = verdict_on(copy, is_all=True)
    assert "differs. At step" in verdict.text
    assert "training again gives other weights" in verdict.text
    assert read_receipt(copy / "receipt.json")["proved"][0]["verdict"] == "FAIL"


@pytest.mark.parametrize("kind", KINDS)
def test_a_forged_run_does_not_pass(run: Path, tmp_path: Path, kind: str) -> None:
    assert forge_and_prove(run, tmp_path, kind, 0, is_careful=False) == "FAIL"


@pytest.mark.parametrize("kind", ["weights", "a number", "config", "the result"])
def test_a_forged_run_whose_files_agree_does_not_pass(run: Path, tmp_path: Path, kind: str) -> None:
    assert forge_and_prove(run, tmp_path, kind, 0, is_careful=True) == "FAIL"


def test_a_result_on_fewer_photos_than_it_says(run: Path, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path)
    Forger(copy, 0, is_careful=True).sizes()
    verdict, _ = verdict_on(copy, is_all=True)
    assert verdict.word == "FAIL"
    assert "split_sizes: {'train': 36, 'val': 12, 'test': 13}" in verdict.text


def test_a_hundred_digests_and_numbers_that_were_changed_are_found_without_training(run: Path, tmp_path: Path) -> None:
    for number in range(25):
        for kind in ("a number", "the chain", "the result", "the receipt"):
            folder = tmp_path / f"{number}-{kind}"
            forged = copy_of(run, folder, without="checkpoints")
            KINDS[kind](Forger(forged, number, is_careful=False), folder)
            assert find_faults(open_run(forged)), (kind, number)


@pytest.mark.longer
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("is_careful", [False, True], ids=["clumsy", "careful"])
@pytest.mark.parametrize("kind", KINDS)
def test_ten_tamperings_of_each_kind_by_a_clumsy_and_by_a_careful_forger(
    run: Path, tmp_path: Path, kind: str, is_careful: bool
) -> None:
    for seed in range(1, 11):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert forge_and_prove(run, folder, kind, seed, is_careful=is_careful) == "FAIL", seed


def forge_and_prove(run: Path, folder: Path, kind: str, seed: int, *, is_careful: bool) -> str:
    """FAIL or PASS; or, where the command ends with wrong input, its message."""
    forged, colours = copy_of(run, folder), run.parent / "colours"
    data = None
    if kind == "a photo":
        colours = shutil.copytree(colours, folder / "colours", ignore=shutil.ignore_patterns("cache"))
        data = str(colours)
    KINDS[kind](Forger(forged, seed, is_careful=is_careful), colours)
    try:
        return verdict_on(forged, is_all=True, data=data)[0].word
    except UserError as error:
        return str(error)
