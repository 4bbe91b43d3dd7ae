"""The command that compares two runs, as a person reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.compare import main as compare
from signs_dist.console.command import run_command
from tests.results.test_comparison import AFTER, BEFORE, make_evaluated


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_evaluated(Path("runs/a"), BEFORE, config="optim: {lr: 0.1}\nmodel: {args: {channels: 32}}")
    make_evaluated(Path("runs/b"), AFTER, config="optim: {lr: 1e-4}\nmodel: {args: {channels: 64}}")
    return tmp_path


def test_what_a_person_reads(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(compare, ["runs/a", "runs/b"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "A  runs/a: best weights, epoch 3",
        "B  runs/b: best weights, epoch 3",
        "",
        "the configs differ in",
        "  model.args.channels  32 → 64",
        "  optim.lr             0.1 → 0.0001",
        "",
        "val 50.0 → 66.7 %: +16.7 points on 6 photos",
        "95 % interval -35.7 to +60.7 points; p = 1 by McNemar's exact test: chance alone may give such a change",
        "fixed 2 photos, broke 1",
        "",
        "fixed (file, class: A says → B says)",
        "  0b  0: 1 → 0",
        "  1b  1: 2 → 1",
        "",
        "broke (file, class: A says → B says)",
        "  1a  1: 1 → 0",
    ]


def test_a_run_with_itself(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(compare, ["runs/a", "runs/a"]) == 0
    told = capsys.readouterr().out
    assert "the configs do not differ" in told
    assert "val 50.0 → 50.0 %: +0.0 points on 6 photos\nno photo changed\n" in told


def test_long_lists_are_cut_unless_all_is_typed(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"0-{number:03d}" for number in range(200)]
    make_evaluated(Path("runs/a"), dict.fromkeys(names, 1))
    make_evaluated(Path("runs/b"), dict.fromkeys(names, 0))
    assert run_command(compare, ["runs/a", "runs/b"]) == 0
    told = capsys.readouterr().out
    assert "fixed (file, class: A says → B says; the first 10 of 200, --all shows all)" in told
    assert told.count("0: 1 → 0") == 10
    assert "p < 0.001 by McNemar's exact test: chance alone rarely gives such a change" in told
    assert run_command(compare, ["runs/a", "runs/b", "--all"]) == 0
    assert capsys.readouterr().out.count("0: 1 → 0") == 200


def test_other_data_is_said(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_evaluated(Path("runs/b"), {**AFTER, "2z": 1}, fingerprint="f2")
    assert run_command(compare, ["runs/a", "runs/b"]) == 0
    told = capsys.readouterr().out
    assert "other data: A has 6 val photos, B has 7. Compared are the 6 that both have." in told


def test_a_file_that_is_not_whole_is_said(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("runs/b/predictions-val.jsonl")
    file.write_text(file.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    assert run_command(compare, ["runs/a", "runs/b"]) == 0
    assert "a file of predictions is not whole: A has 6 val photos, B has 5." in capsys.readouterr().out


def test_the_test_split_and_json(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (("a", BEFORE), ("b", AFTER)):
        make_evaluated(Path("runs") / name, said, split="test")
    assert run_command(compare, ["runs/a", "runs/b", "--split", "test", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["split"], told["num_images"], len(told["fixed"]), told["is_same_data"]) == ("test", 6, 2, True)
    assert [run["path"] for run in told["runs"]] == ["runs/a", "runs/b"]
    assert told["settings"]["optim.lr"] == [0.1, 0.0001]


def test_names_cannot_control_the_terminal(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, label in (("a", 1), ("b", 0)):
        make_evaluated(Path("runs") / name, {"0\x1b[2J\n.jpg": label})
    assert run_command(compare, ["runs/a", "runs/b"]) == 0
    assert "  0\\x1b[2J\\n.jpg  0: 1 → 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runs/a"], "RUN_B"),
        (["runs/a", "runs/nope"], "runs/nope does not exist"),
        (["runs/a", "runs"], "runs is not a run folder"),
        (["runs/a", "runs/b", "--split", "tset"], "Did you mean test?"),
        (["runs/a", "runs/b", "--split", "test"], "Type --split val"),
        (["runs/a", "runs/b", "--alll"], "Did you mean --all?"),
    ],
)
def test_wrong_input(two: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = run_command(compare, arguments)
    except SystemExit as error:  # by the parser
        code = int(str(error.code))
    assert code == 2
    assert told in capsys.readouterr().err
