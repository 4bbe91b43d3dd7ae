"""What an earlier attempt left, and resuming from it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.config.reading import dump_config
from signs_dist.errors import UserError
from signs_dist.models.trial import TrialDigest
from signs_dist.monitoring import signals, waiting
from signs_dist.run_folder.digest import digest_path
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lease import Lease
from signs_dist.run_folder.records import SaveLine
from signs_dist.run_folder.suspects import Suspicion, read_suspicion, write_suspicion
from signs_dist.training.earlier_attempt import (
    EarlierAttempt,
    find_earlier_attempt,
    naming,
    resume_from,
    take_lease,
)
from signs_dist.training.falling_back import set_broken_aside
from signs_dist.training.run_state import Best, RunState
from signs_dist.training.stepper import Stepper
from tests.training.parts import Made, make_config, make_process, make_silent, make_stepper, make_trainer, shown


@pytest.fixture
def cleanup() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def save_after(made: Made, num_steps: int) -> None:
    """Train so many steps of the next epoch, and save."""
    for _ in zip(range(num_steps), made.stepper.steps(made.run_state.cursor), strict=False):
        made.run_state.advance()
    made.saver.save(made.run_state, made.stepper)
    made.saver.wait()


def saved(tmp_path: Path, *settings: str, num_steps: int = 2) -> Made:
    made = make_trainer(tmp_path, *settings)
    made.saver.begin({"data": made.stepper.prepared.about_data()})
    save_after(made, num_steps)
    return made


def find(
    made_in: Path, cleanup: contextlib.ExitStack, *settings: str, accepted: Collection[str] = (), **changes: Any
) -> EarlierAttempt:
    config = make_config(made_in, *settings)
    process = make_process(**changes)
    return find_earlier_attempt(config, RunFolder(made_in / "run"), accepted, process, cleanup)


def resume(
    earlier: EarlierAttempt, folder: Path, *settings: str, accepted: Collection[str] = ()
) -> tuple[EarlierAttempt, RunState, Stepper]:
    stepper, _ = make_stepper(folder, *settings)
    state = RunState(stepper.prepared.plan, 2)
    return resume_from(earlier, state, stepper, accepted), state, stepper


def test_a_new_folder_has_no_earlier_attempt(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    earlier = find(tmp_path, cleanup)
    assert earlier == EarlierAttempt(lease=earlier.lease)
    assert (earlier.is_begun, earlier.micro_batch, earlier.saved_at) == (False, None, None)
    assert earlier.lease is not None  # nobody else can begin there meanwhile
    again, state, stepper = resume(earlier, tmp_path)
    assert (again, state.cursor) == (earlier, Cursor(0, 0))
    assert again.banner_lines(state, stepper, 1) == []
    cleanup.close()
    assert not (tmp_path / "run").exists()


def test_an_attempt_that_saved_nothing_is_begun_again(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    RunFolder(tmp_path / "run").create().write_config(dump_config(make_config(tmp_path)))
    earlier = find(tmp_path, cleanup)
    assert (earlier.is_begun, earlier.path, earlier.notes) == (True, None, ())
    assert earlier.lease is not None
    _, state, stepper = resume(earlier, tmp_path)
    assert earlier.banner_lines(state, stepper, 2) == [("again", "attempt 2, from the beginning: nothing was saved")]


def test_the_newest_checkpoint_is_taken_up(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = make_trainer(tmp_path)
    made.saver.begin({"data": made.stepper.prepared.about_data()})
    save_after(made, 4)
    made.run_state.end_epoch(None)
    made.run_state.best = Best(1, 0.75, 0.5)
    save_after(made, 3)
    earlier = find(tmp_path, cleanup, "seed=0")
    assert earlier.path == made.folder.checkpoints / "epoch-0002-step-000003.pt"
    assert earlier.micro_batch == 8
    assert earlier.saved_at is not None
    assert earlier.last_write_seconds == pytest.approx(made.folder.read_metrics()[1].last_write_seconds)  # type: ignore[union-attr]
    again, state, stepper = resume(earlier, tmp_path)
    assert (state.cursor, state.best, state.steps_done_here) == (Cursor(1, 3), Best(1, 0.75, 0.5), 0)
    assert weights_sha256(plain_weights(stepper.state.model)) == weights_sha256(plain_weights(made.stepper.state.model))
    (_, place), source = again.banner_lines(state, stepper, 2)
    assert place.startswith("attempt 2 resumes after epoch 2, step 3, images 56, lr ")
    assert place.endswith(", best 75.0 %")
    assert source == ("from", str(earlier.path))


def test_a_run_that_had_ended_early_says_so(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup)
    again, _, stepper = resume(earlier, tmp_path)
    state = RunState(stepper.prepared.plan, 9, patience=2)
    state.cursor, state.best = Cursor(5, 0), Best(3, 0.75, 0.5)
    told = "attempt 2: the run ended early after epoch 5, the result was not written, best 75.0 %"
    assert again.banner_lines(state, stepper, 2)[0] == ("again", told)


def test_what_was_taken_up_holds_no_tensors(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup)
    again, *_ = resume(earlier, tmp_path)
    assert again.content is not None
    assert again.content.keys() == {"learning_rate", "micro_batch", "saved_at", "config", "run"}
    assert not any(isinstance(value, torch.Tensor) for value in again.content.values())
    assert (again.path, again.lease, again.saved_at) == (earlier.path, earlier.lease, earlier.saved_at)


def test_a_process_that_does_not_write_looks_at_nothing(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    process = make_silent(make_process())
    folder = RunFolder(tmp_path / "run", is_writer=False)
    earlier = find_earlier_attempt(make_config(tmp_path), folder, (), process, cleanup)
    assert earlier == EarlierAttempt()  # rank 0 tells it, where there is one
    assert take_lease(folder, process, 30.0, cleanup) is None
    assert not (folder.path / "lease.json").exists()


def test_the_lease_is_held_and_released(tmp_path: Path) -> None:
    saved(tmp_path)
    with contextlib.ExitStack() as cleanup:
        earlier = find(tmp_path, cleanup)
        assert earlier.lease is not None
        with pytest.raises(UserError, match="is in use by process"):
            find(tmp_path, cleanup)
        assert (tmp_path / "run" / "lease.json").exists()
    assert not (tmp_path / "run" / "lease.json").exists()


def test_changed_settings_are_refused(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    with pytest.raises(UserError, match=r"optim\.lr: 0\.1 → 0\.5") as refused:
        find(tmp_path, cleanup, "optim.lr=0.5")
    assert "--accept-change optim.lr" in str(refused.value)


@pytest.mark.parametrize("accepted", ["optim.lr", "optim"])
def test_changed_settings_are_accepted_by_name(tmp_path: Path, cleanup: contextlib.ExitStack, accepted: str) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup, "optim.lr=0.5", accepted={accepted})
    assert earlier.notes == ("changed since: optim.lr: 0.1 → 0.5",)
    again, state, stepper = resume(earlier, tmp_path, "optim.lr=0.5", accepted={accepted})
    assert state.cursor == Cursor(0, 2)
    before, after = again.banner_lines(state, stepper, 2)[0][1].split("lr ")[1].split(" → ")
    assert float(after) == pytest.approx(5 * float(before), rel=1e-3)


def test_settings_without_influence_may_change(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup, "checkpoint.keep=1", "log.every_steps=2")
    assert len(earlier.notes) == 2
    assert all(note.startswith("changed since: ") for note in earlier.notes)


def change_an_image(folder: Path) -> None:
    photos = sorted((folder / "colours" / "train_signs").iterdir())
    shutil.copyfile(photos[-1], photos[0])
    shutil.rmtree(folder / "cache", ignore_errors=True)


def test_other_images_are_refused(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup)
    change_an_image(tmp_path)
    with pytest.raises(UserError, match=r"the training images: .* → .*--accept-change data"):
        resume(earlier, tmp_path)


def test_other_images_are_accepted_by_name(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup, accepted={"data"})
    change_an_image(tmp_path)
    again, state, _ = resume(earlier, tmp_path, accepted={"data"})
    assert again.notes == ("changed since: the images of train",)
    assert state.cursor == Cursor(0, 2)


def test_another_precision_of_the_machine_is_refused(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path, "train.precision=auto")
    earlier = find(tmp_path, cleanup, "train.precision=auto")
    assert earlier.content is not None
    elsewhere = dataclasses.replace(earlier, content={**earlier.content, "precision": "float16"})
    with pytest.raises(UserError, match=r"computed in float16 so far.* Type train\.precision=float16"):
        resume(elsewhere, tmp_path, "train.precision=auto")
    _, state, _ = resume(elsewhere, tmp_path, "train.precision=auto", accepted={"train.precision"})
    assert state.cursor == Cursor(0, 2)


def test_another_version_or_platform_is_told(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup)
    assert earlier.content is not None
    run = {**earlier.content["run"], "versions": {"torch": "1.0"}, "platform": "Plan9-4-mips"}
    elsewhere = dataclasses.replace(earlier, content={**earlier.content, "run": run})
    (note,) = resume(elsewhere, tmp_path)[0].notes
    assert note.startswith("changed since: torch 1.0 → ")
    assert ", platform Plan9-4-mips → " in note


def test_a_micro_batch_that_could_not_be_kept_is_told(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup)
    assert earlier.content is not None
    elsewhere = dataclasses.replace(earlier, content={**earlier.content, "micro_batch": 4})
    again, *_ = resume(elsewhere, tmp_path)
    assert again.notes == (
        "changed since: micro-batches of 4 → 8, so that each process gets one; to choose the size, set "
        "train.micro_batch",
    )


def test_the_global_batch_changes_between_epochs_only(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    changed, accepted = "train.global_batch=4", {"train.global_batch"}
    earlier = find(tmp_path, cleanup, changed, accepted=accepted)
    with pytest.raises(UserError, match=r"train\.global_batch=4 cannot replace 8"):
        resume(earlier, tmp_path, changed, accepted=accepted)


def break_newest(made: Made) -> None:
    save_after(made, 1)
    newest = made.folder.checkpoints / "epoch-0001-step-000003.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.unlink()  # last.pt is the same file by another name
    newest.write_bytes(content)


def test_a_refused_command_names_the_broken_checkpoint(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    break_newest(saved(tmp_path))
    with pytest.raises(
        UserError, match=r"step-000003\.pt is broken: .*\n.*\nthese settings differ .*optim\.lr: 0\.1 → 0\.5"
    ):
        find(tmp_path, cleanup, "optim.lr=0.5")
    assert (tmp_path / "run" / "checkpoints" / "epoch-0001-step-000003.pt").exists()  # nothing is renamed


def test_a_later_refusal_names_it_as_well() -> None:
    with pytest.raises(UserError, match=r"^a\.pt is broken\.\nno such model$"), naming(["a.pt is broken."]):
        raise UserError("no such model")
    with pytest.raises(RuntimeError, match=r"^other$"), naming(["a.pt is broken."]):
        raise RuntimeError("other")


def test_a_broken_checkpoint_is_passed_over(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    break_newest(made)
    earlier = find(tmp_path, cleanup)
    assert earlier.path == made.folder.checkpoints / "epoch-0001-step-000002.pt"
    assert "epoch-0001-step-000003.pt is broken" in earlier.notes[0]
    assert earlier.notes[1].endswith(f" {earlier.path}")
    assert [path.name for path, _ in earlier.broken] == ["epoch-0001-step-000003.pt"]


def test_another_optimizer_begins_with_new_state(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    changed = ("optim.name=adam", "optim.lr=0.01")
    earlier = find(tmp_path, cleanup, *changed, accepted={"optim"})
    again, state, stepper = resume(earlier, tmp_path, *changed, accepted={"optim"})
    assert again.notes[-1] == "changed since: the optimizer, which begins without the state of the optimizer before"
    next(stepper.steps(state.cursor))  # and a step with it works


def test_fewer_images_than_the_checkpoint_has_seen_are_refused(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    changed, accepted = "train.epoch_steps=1", {"train.epoch_steps"}
    earlier = find(tmp_path, cleanup, changed, accepted=accepted)
    with pytest.raises(UserError, match=r"is at epoch 1, step 2, and with these .* an epoch has 1 steps"):
        resume(earlier, tmp_path, changed, accepted=accepted)


def test_checkpoints_of_earlier_releases_are_taken_up(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    save_after(made, 1)
    old = made.folder.checkpoints / "epoch0000-step000003.pt"
    newest = made.folder.checkpoints / "epoch-0001-step-000003.pt"
    newest.rename(old)
    digest_path(newest).rename(digest_path(old))
    earlier = find(tmp_path, cleanup)
    assert (earlier.path, earlier.notes) == (old, ())


def test_a_run_whose_checkpoints_are_all_gone_is_refused(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    save_after(made, 1)
    shutil.rmtree(made.folder.checkpoints)
    with pytest.raises(UserError, match="this run has saved checkpoints, but none is whole"):
        find(tmp_path, cleanup)


def test_a_first_save_that_was_killed_counts_as_none(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = make_trainer(tmp_path)
    made.folder.add(SaveLine(epoch=1, step=4, stall_seconds=0.1))  # its line is written before its file
    earlier = find(tmp_path, cleanup)
    assert (earlier.is_begun, earlier.path) == (True, None)


def test_the_newest_known_time_of_a_save_is_found(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    for step, took in ((4, 9.5), (5, 7.5), (6, None)):
        made.folder.add(SaveLine(epoch=1, step=step, stall_seconds=0.1, last_write_seconds=took))
    assert find(tmp_path, cleanup).last_write_seconds == 7.5


def test_lines_of_saves_by_an_earlier_release_are_read(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    old = {"kind": "save", "epoch": 0, "step": 4, "stall_seconds": 0.1, "last_write_seconds": 3.0}
    with made.folder.metrics.open("a") as stream:
        stream.write(json.dumps(old) + "\n")
    assert find(tmp_path, cleanup).last_write_seconds == 3.0


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup, "model.name=signs_net", accepted={"model"})
    with pytest.raises(UserError, match="of another model"):
        resume(earlier, tmp_path, "model.name=signs_net", accepted={"model"})


def test_a_process_that_ends_at_once_before_training_leaves_no_lease(tmp_path: Path) -> None:
    """As a job that is signalled while it prepares: its next attempt, on another node, need not wait."""
    folder = RunFolder(tmp_path / "run")
    before = list(signals._at_end)
    with contextlib.ExitStack() as cleanup:
        take_lease(folder, make_process(), 30.0, cleanup)
        (at_end,) = (each for each in signals._at_end if each not in before)
        at_end(75)
        assert not (folder.path / "lease.json").exists()
    assert signals._at_end == before
    assert not folder.path.exists()


def test_the_folders_of_a_run_that_has_begun_stay(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with contextlib.ExitStack() as cleanup:
        take_lease(folder, make_process(), 30.0, cleanup)
        folder.write_config("seed: 0")
    assert {path.name for path in folder.path.iterdir()} == {"checkpoints", "logs", "config.yaml"}


def test_damaged_lines_are_named(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    with made.folder.attempts.open("a") as stream:
        stream.write('{"event": "st\0\0')
    assert "attempts.jsonl: line 1 cannot be read: omitted" in find(tmp_path, cleanup).notes


def test_a_finished_run_in_a_folder_that_cannot_be_written_is_finished(
    tmp_path: Path, cleanup: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = saved(tmp_path)

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise UserError("cannot write")

    monkeypatch.setattr("signs_dist.training.earlier_attempt.Lease.acquire", refuse)
    with pytest.raises(UserError, match="cannot write"):
        find(tmp_path, cleanup)
    made.folder.write_result({"finished": True})
    assert find(tmp_path, cleanup).result == {"finished": True}


FIRST_TRIAL = TrialDigest("weights", "training", "evaluation")
OTHER_WEIGHTS = dataclasses.replace(FIRST_TRIAL, weights="other")
OTHER_BITS = dataclasses.replace(FIRST_TRIAL, training="other")


def resume_tried(
    folder: Path, before: TrialDigest | None, now: TrialDigest | None, *settings: str, accepted: Collection[str] = ()
) -> RunState:
    """Save a run whose trial gave `before`, and resume it with `settings`, where the trial gives `now`."""
    made = make_trainer(folder)
    made.stepper.trial = before
    made.saver.begin({"data": made.stepper.prepared.about_data()})
    save_after(made, 2)
    with contextlib.ExitStack() as cleanup:
        earlier = find(folder, cleanup, *settings, accepted=accepted)
        stepper, _ = make_stepper(folder, *settings)
        stepper.trial = now
        state = RunState(stepper.prepared.plan, 2)
        resume_from(earlier, state, stepper, accepted)
    return state


@pytest.mark.parametrize(
    ("now", "told"),
    [(OTHER_WEIGHTS, "the model starts from other initial weights"), (OTHER_BITS, "the model computes other bits")],
)
def test_a_model_that_computes_something_else_is_refused(tmp_path: Path, now: TrialDigest, told: str) -> None:
    with pytest.raises(UserError, match=f"exact=true: from the same .*{told} than when this run was saved") as refused:
        resume_tried(tmp_path, FIRST_TRIAL, now)
    text = str(refused.value)
    assert "another processor or other versions of the software" in text
    assert "reads something that differs between processes" in text
    assert text.endswith("type --accept-change arithmetic")


@pytest.mark.parametrize(
    ("before", "now", "settings", "accepted"),
    [
        (FIRST_TRIAL, FIRST_TRIAL, (), ()),
        (FIRST_TRIAL, OTHER_BITS, (), ("arithmetic",)),
        (FIRST_TRIAL, OTHER_BITS, ("seed=1",), ("seed",)),  # the first micro-batch is another
        (None, OTHER_BITS, (), ()),  # a checkpoint of an older release
        (FIRST_TRIAL, None, (), ()),  # fast mode
    ],
)
def test_a_model_that_need_not_compute_the_same_is_accepted(
    tmp_path: Path,
    before: TrialDigest | None,
    now: TrialDigest | None,
    settings: tuple[str, ...],
    accepted: tuple[str, ...],
) -> None:
    assert resume_tried(tmp_path, before, now, *settings, accepted=accepted).cursor == Cursor(0, 2)


def test_other_settings_of_the_optimizer_do_not_excuse_other_bits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="computes other bits than when this run was saved"):
        resume_tried(tmp_path, FIRST_TRIAL, OTHER_BITS, "optim.lr=0.5", accepted={"optim.lr"})


def test_a_long_wait_for_the_lease_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cleanup: contextlib.ExitStack
) -> None:
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.05)
    acquire = Lease.acquire

    def acquire_late(*arguments: Any, **options: Any) -> Lease:
        time.sleep(0.4)
        return acquire(*arguments, **options)

    monkeypatch.setattr(Lease, "acquire", acquire_late)
    folder, process = RunFolder(tmp_path), make_process()
    assert take_lease(folder, process, 30.0, cleanup) is not None
    assert f"waits until the holder of {tmp_path / 'lease.json'} ends" in shown(process)


def suspected(tmp_path: Path, clean: tuple[int, int] | None) -> Made:
    """A run with states after steps 2, 3 and 4, whose check has found faulty hardware."""
    made = saved(tmp_path)
    for _ in range(2):
        save_after(made, 1)
    write_suspicion(made.folder, Suspicion(5, "rank 1 on n1 is faulty.", clean))
    return made


def test_a_run_resumes_from_before_the_last_clean_check(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = suspected(tmp_path, (0, 3))
    trusted = made.folder.checkpoints / "epoch-0001-step-000003.pt"
    earlier = find(tmp_path, cleanup)
    assert earlier.path == trusted
    assert earlier.notes[0].startswith("rank 1 on n1 is faulty. Saved after the last check without a difference: ")
    assert f"So the run resumes from {trusted}. To resume from the newest" in earlier.notes[0]
    assert read_suspicion(made.folder) is not None, "a command that is refused changes nothing"
    earlier = set_broken_aside(earlier, make_config(tmp_path), made.folder)
    assert earlier.notes[-1] == "epoch-0001-step-000004.pt was renamed to epoch-0001-step-000004.pt.suspect"
    assert read_suspicion(made.folder) is not None, "until the attempt has begun"
    cleanup.close()
    assert find(tmp_path, cleanup).path == trusted


def test_a_state_that_is_trusted_stays_so_until_the_next_check(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    """The checkpoint knows of no check. The next check may find a difference before any other state is saved."""
    suspected(tmp_path, (0, 3))
    checks = ("exact=true", "train.micro_batch=2", "check.recompute_every=4")
    earlier = find(tmp_path, cleanup, *checks, accepted={"exact", "train"})
    _, _, stepper = resume(earlier, tmp_path, *checks, accepted={"exact", "train"})
    assert stepper.check is not None
    assert stepper.check.clean == Cursor(0, 3)


def test_without_a_state_that_is_trusted_the_run_begins_again(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = suspected(tmp_path, None)
    earlier = set_broken_aside(find(tmp_path, cleanup), make_config(tmp_path), made.folder)
    assert (earlier.is_begun, earlier.path) == (True, None)
    assert "So the run begins again." in earlier.notes[0]
    _, state, stepper = resume(earlier, tmp_path)
    assert earlier.banner_lines(state, stepper, 2) == [
        ("again", "attempt 2, from the beginning: all states are suspects")
    ]
    assert len(list(made.folder.checkpoints.glob("*.suspect"))) == 3
    cleanup.close()
    again = find(tmp_path, cleanup)
    assert (again.is_begun, again.path) == (True, None), "also where this attempt is killed before it begins"


def test_a_damaged_note_about_suspects_is_refused_unless_they_are_accepted(
    tmp_path: Path, cleanup: contextlib.ExitStack
) -> None:
    made = suspected(tmp_path, (0, 3))
    (made.folder.logs / "suspect.json").write_text('{"step": 5, "what": "ra')
    with contextlib.ExitStack() as own, pytest.raises(UserError, match=r"suspect\.json cannot be read"):
        find(tmp_path, own)
    earlier = find(tmp_path, cleanup, accepted={"suspects"})
    assert earlier.path == made.folder.checkpoints / "epoch-0001-step-000004.pt"


def test_suspects_can_be_accepted(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = suspected(tmp_path, (0, 3))
    earlier = find(tmp_path, cleanup, accepted={"suspects"})
    assert earlier.path == made.folder.checkpoints / "epoch-0001-step-000004.pt"
    assert set_broken_aside(earlier, make_config(tmp_path), made.folder).notes == ()
