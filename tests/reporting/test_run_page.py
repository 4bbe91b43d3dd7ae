"""What the page about one run says."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

from signs_dist.reporting.content import read_content
from signs_dist.reporting.run_page import attempt_rows, changed_settings, view_run
from signs_dist.run_folder.records import EndLine, RequeueLine, StartLine
from tests.reporting.run_folders import write_run


def test_the_headline_is_that_of_result_json(one_run: Path) -> None:
    content = read_content(one_run)
    result, page = content.summary.result, view_run(content)
    told = {fact.name: (fact.text, fact.detail) for fact in page.headline}
    low, high = result["val_accuracy_interval"]
    assert told["val accuracy"] == (
        f"{100 * result['val_accuracy']:.1f} %",
        f"95 % interval {100 * low:.1f} to {100 * high:.1f}\u00a0%; {result['val_correct']} of 120 images",
    )
    assert told["val loss"][0] == "0.6543"
    assert told["best epoch"][0] == "30 of 30"
    assert told["training time"][0] == "40 min 00 s"
    facts = {fact.name: fact.text for fact in page.facts}
    assert facts["SHA-256 of the weights"] == result["weights_sha256"]
    assert facts["model.pt holds"] == "the best weights, of epoch 30"
    assert facts["images"] == "train 640, val 120"
    assert (facts["strategy"], facts["processes"], facts["exact mode"]) == ("ddp", "2", "no")


def test_drawn_images_and_exact_mode_are_marked(tmp_path: Path) -> None:
    page = view_run(read_content(write_run(tmp_path / "a", "exact=true", "train.micro_batch=8", data="synthetic")))
    assert (page.is_synthetic, page.is_exact) == (True, True)


def test_other_bits_are_told_with_their_first_step(tmp_path: Path) -> None:
    def start(attempt: int, step: int, other_bits: str | None = None) -> StartLine:
        return StartLine(attempt=attempt, time=f"{attempt}", first_step=step, world_size=1, other_bits=other_bits)

    def exactness(run: Path) -> str:
        return next(fact.text for fact in view_run(read_content(run)).facts if fact.name == "exact mode")

    settings = ("exact=true", "train.micro_batch=8")
    finished = write_run(tmp_path / "a", *settings)
    assert exactness(finished) == "yes"
    result = json.loads((finished / "result.json").read_text())
    changes = [{"step": 4001, "what": "GPU A100 → H100"}]
    (finished / "result.json").write_text(json.dumps({**result, "arithmetic_changes": changes}))
    assert exactness(finished) == "yes. Other bits from step 4,001 on: GPU A100 → H100"
    (finished / "result.json").write_text(json.dumps({**result, "arithmetic_changes": [{"step": "x"}]}))
    assert exactness(finished) == "yes"  # an editor changed it
    # Of a run that is under way by its attempts; the third repeats what the second did on the other machine.
    lines = [start(1, 0), start(2, 10, "GPU A100 → V100"), start(3, 10), start(4, 20, "GPU A100 → H100"), start(5, 30)]
    assert exactness(write_run(tmp_path / "b", *settings, is_finished=False, attempts=lines)) == (
        "yes. Other bits from step 21 on: GPU A100 → H100"
    )


def test_a_run_that_stopped_says_why_and_shows_the_best_so_far(tmp_path: Path) -> None:
    page = view_run(read_content(write_run(tmp_path / "a", epochs=4, is_finished=False, end="SIGTERM")))
    assert (page.state, page.why) == ("stopped", "SIGTERM")
    assert page.headline[0].name == "best val accuracy so far"
    assert "95 % interval" in page.headline[0].detail


def test_the_best_epoch_says_by_what_it_is_the_best(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "evaluate.best_by=macro_f1", epochs=4, is_finished=False, end="SIGTERM")
    metrics = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(metrics.replace('"val_loss"', '"val_macro_f1": 0.5, "val_loss"'))
    first, *others = view_run(read_content(run)).headline
    assert first.name == "val accuracy so far"  # another epoch may have a better one
    assert (
        next(fact.detail for fact in others if fact.name == "best epoch") == f"by macro F1; val accuracy {first.text}"
    )


def test_a_run_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", is_finished=False)
    for name in ("metrics.jsonl", "attempts.jsonl", "predictions-val.jsonl", "manifest.json"):
        (run / name).unlink()
    page = view_run(read_content(run))
    assert (page.state, page.attempts, page.figures, page.splits) == ("not begun", [], [], [])


def test_attempts_lie_on_a_timeline_with_what_was_lost_and_why(one_run: Path) -> None:
    def start(attempt: int, minute: int, step: int) -> StartLine:
        time = f"2026-01-31T12:{minute:02d}:00+00:00"
        return StartLine(attempt=attempt, time=time, first_step=step, world_size=attempt, host="node7")

    lines = [
        start(1, 0, 0),
        EndLine(attempt=1, time="2026-01-31T12:20:00+00:00", reason="SIGTERM", last_step=50, seconds_lost=0.0),
        RequeueLine(time="2026-01-31T12:21:00+00:00", why="its time limit", is_timeout=True, job="47"),
        start(2, 30, 50),
        EndLine(attempt=2, time="2026-01-31T12:40:00+00:00", reason="killed", last_step=90, seconds_lost=95.0),
        start(3, 40, 70),
    ]
    rows = attempt_rows(dataclasses.replace(read_content(one_run), attempts=lines))
    assert [(row.number, row.begin, row.length) for row in rows] == [
        ("1", 0.0, 50.0),
        ("", 0, 0),
        ("2", 75.0, 25.0),
        ("3", 100.0, 0.5),
    ]
    assert [row.ended for row in rows] == [
        "SIGTERM",
        "requeued: its time limit",
        "killed",
        "no end is recorded: killed",
    ]
    assert [row.lost for row in rows] == ["0 s", "", "1 min 35 s", ""]
    assert rows[2].where == "node7, 2 processes"
    assert rows[2].steps == "50 to 90"


def test_settings_that_differ_from_their_defaults(one_run: Path) -> None:
    changed = changed_settings(read_content(one_run).summary.settings)
    assert changed == [("optim.lr", "0.05", "0.1"), ("train.epochs", "30", "20")]


def test_an_attempt_that_is_under_way_reaches_to_now(one_run: Path) -> None:
    content = read_content(one_run)
    start = StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=1, host="node7")
    summary = dataclasses.replace(content.summary, state="running", epoch=3, step=40, num_epochs=30, result={})
    read_at = datetime.datetime(2026, 1, 31, 12, 2, tzinfo=datetime.timezone.utc).timestamp()
    killed = dataclasses.replace(start, time="2026-01-31T11:58:00+00:00")
    start = dataclasses.replace(start, attempt=2)
    content = dataclasses.replace(content, summary=summary, attempts=[killed, start], read_at=read_at)
    first, row = attempt_rows(content)
    assert (first.begin, first.length, first.took, first.ended) == (0.0, 50.0, "", "no end is recorded: killed")
    assert (row.begin, row.length, row.took, row.ended) == (50.0, 50.0, "2 min 00 s so far", "under way")
    page = view_run(dataclasses.replace(content, summary=dataclasses.replace(summary, seconds_left=90.0)))
    facts = {fact.name: fact.text for fact in page.facts}
    assert facts["epochs, steps"] == "epoch 3 of 30, step 40"
    # Of the attempt that was killed no end is known.
    time = next(fact for fact in page.headline if fact.name == "time so far")
    assert (time.text, time.detail, time.varies) == ("2 min 00 s", "about 1 min 30 s left", True)


def test_a_stopped_run_tells_the_time_of_its_attempts_and_one_without_an_end_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2, is_finished=False, end="SIGTERM")
    page = view_run(read_content(run))
    assert [fact.text for fact in page.headline if fact.name == "time so far"] == ["40 min 00 s"]
    assert next(fact.text for fact in page.facts if fact.name == "started") == "2026-01-31 12:00:00 UTC"
    (run / "attempts.jsonl").write_text((run / "attempts.jsonl").read_text().splitlines(keepends=True)[0])
    assert not [fact for fact in view_run(read_content(run)).headline if fact.name == "time so far"]


def test_a_long_reason_is_shown_in_full(tmp_path: Path) -> None:
    reason = "TrainingFailedError: " + "the loss is not a finite number, " * 10 + "lower optim.lr"
    page = view_run(read_content(write_run(tmp_path / "a", epochs=2, is_finished=False, end=f"{reason}\nmore")))
    assert page.why == reason
