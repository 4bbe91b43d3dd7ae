"""The command that lists, watches and removes runs, as a person types it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from signs_dist.console.command import run_command
from signs_dist.results.queued import QueueAnswer, QueuedJob
from signs_dist.run_folder.folder import RunFolder
from signs_dist.runs import main as runs
from tests.processes import PATIENCE, environment
from tests.results.runs import end, epoch, hold, make_finished, make_run, start, step
from tests.results.test_sweeps import trial as sweep_trial
from tests.results.test_sweeps import write as write_sweep


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with five runs: finished twice, failed, stopped, running."""
    monkeypatch.chdir(tmp_path)
    make_finished(Path("runs/good"), 0.9)
    make_finished(Path("runs/fair"), 0.7)
    make_run(Path("runs/array/000-lr=9"), start(), end("TrainingFailedError: the loss is not a finite number"))
    make_run(Path("runs/array/001-lr=1"), start(), epoch(2, 0.5), end("stopped by SIGTERM after epoch 2"))
    make_run(Path("runs/live"), start(2, host="node3"), epoch(1, 0.6))
    hold(Path("runs/live"))
    return tmp_path


def type_in(*arguments: str) -> int:
    return run_command(runs, list(arguments))


def test_the_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("list", "runs", "--sort", "val_accuracy") == 0
    told = capsys.readouterr().out
    assert [line.split()[:3] for line in told.splitlines()[1:-1]] == [
        ["good", "finished", "90.0"],
        ["fair", "finished", "70.0"],
        ["live", "running", "60.0"],
        ["array/001-lr=1", "stopped", "50.0"],
        ["array/000-lr=9", "failed", "0/5"],
    ]
    assert told.splitlines()[-1] == "runs: 5 runs: 1 running, 1 failed, 1 stopped, 2 finished"
    assert "TrainingFailedError: the loss is not a finite number" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("arguments", [[], ["runs"], ["list"], ["list", "runs"], ["--sort", "started"], ["runs/"]])
def test_list_and_its_folder_may_be_omitted(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in(*arguments) == 0
    assert "5 runs: 1 running" in capsys.readouterr().out


def test_one_run_can_be_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("runs/good") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("runs/good  finished")


def test_json_has_a_line_for_each_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("--json", "--sort", "path") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["path"], row["state"]) for row in rows][:2] == [
        ("runs/array/000-lr=9", "failed"),
        ("runs/array/001-lr=1", "stopped"),
    ]
    assert (rows[4]["where"], rows[4]["val_accuracy"], rows[4]["num_epochs"]) == ("node3", 0.6, 5)


def test_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert type_in() == 0
    assert capsys.readouterr().out == "no runs below runs/. To make one below runs/, type: python -m signs_dist.train\n"
    assert type_in("--json") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere does not exist. Give a folder with runs"),
        (["list", "runs/good/config.yaml"], "is not a folder"),
        (["--sort", "acuracy"], "--sort acuracy: no such column."),
        (["--jsn"], "Did you mean --json?"),
        (["watch", "nowhere"], "nowhere: No such file or directory. To see all runs, type: python -m signs_dist.runs"),
        (["watch", "runs"], "runs is not a run folder: it has no config.yaml of a run."),
        (["rm", "nowhere"], "nowhere: No such file or directory"),
        (["rm", "runs/array"], "Only run folders are removed."),
        (
            ["rm", "runs/live", "--yes"],
            "runs/live is running on node3. To stop it first: Ctrl-C where it runs\nNothing",
        ),
        (["rm", "runs/good"], "this would remove 1 run, "),
        (["rm", "runs/good"], "There is no terminal to ask on: add --yes to do it."),
        (["rm"], "RUN_DIR"),
        (["prune", "runs"], "--keep-best"),
        (["prune", "runs", "--keep-best", "0"], "--keep-best 0: type 1 or more."),
        (["prune", "runs", "--keep-best", "x"], "type a whole number"),
        (["prune", "runs", "--keep-best", "1", "--by", "loss"], "--by loss: no such number. Legal: val_accuracy"),
        (["prune", "nowhere", "--keep-best", "1"], "nowhere does not exist"),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_removed(
    folder: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = type_in(*arguments)
    except SystemExit as error:  # by the parser
        code = int(str(error.code))
    assert code == 2
    assert told in capsys.readouterr().err
    assert len(list(folder.rglob("config.yaml"))) == 5


def test_a_broken_folder_is_a_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("runs/fair/attempts.jsonl.x")
    Path("runs/fair/attempts.jsonl").unlink()
    os.mkfifo("runs/fair/attempts.jsonl")
    Path("runs/good/config.yaml").write_bytes(b"\xff\x00")
    Path("runs/gone.removing").mkdir()
    assert type_in("--sort", "path") == 0
    told = capsys.readouterr().out
    assert "fair" in told
    assert "unreadable" in told
    assert "runs/fair/attempts.jsonl is not a file" in told
    assert "partly removed" in told
    assert "python -m signs_dist.runs rm runs/gone.removing" in told


def test_waiting_jobs_are_shown_and_may_not_be_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("runs/array/001-lr=1")
    answer = QueueAnswer({path: QueuedJob("7", True, "Priority")})
    monkeypatch.setattr("signs_dist.results.overview.ask_queue", lambda summaries: answer)
    assert type_in() == 0
    assert "waiting" in capsys.readouterr().out
    assert type_in("rm", str(path), "--yes") == 2
    assert "waits as job 7. To cancel it first: " in capsys.readouterr().err
    assert type_in("prune", "runs", "--keep-best", "1", "--yes") == 0
    assert sorted(each.name for each in Path("runs/array").iterdir()) == ["001-lr=1"]


def test_a_scheduler_that_does_not_answer_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("runs/array/001-lr=1")
    answer = QueueAnswer({}, {path: "SLURM does not answer."}, "SLURM does not answer.")
    monkeypatch.setattr("signs_dist.results.overview.ask_queue", lambda summaries: answer)
    assert type_in() == 0
    assert capsys.readouterr().err == "states of waiting jobs are missing: SLURM does not answer.\n"
    assert type_in("rm", str(path), "--yes") == 2
    assert "it is not known whether its job waits: SLURM does not answer." in capsys.readouterr().err
    assert path.exists()


def test_runs_are_removed_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/latest").symlink_to("good")
    Path("runs/half.removing").mkdir()
    assert type_in("rm", "runs/latest", "runs/fair", "runs/fair/", "runs/good/../fair", "runs/half", "--yes") == 0
    told = capsys.readouterr().out
    assert "3 of 3 runs done, " in told
    assert "link: its run stays" in told
    assert sorted(each.name for each in Path("runs").iterdir()) == ["array", "good", "live"]


def test_a_removal_that_was_interrupted_is_repeated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first run was gone, and the second one half removed."""
    shutil.rmtree("runs/good")
    Path("runs/fair").rename("runs/fair.removing")
    assert type_in("rm", "runs/good", "runs/fair", "runs/array/001-lr=1", "--yes") == 0
    told = capsys.readouterr()
    assert told.err == "runs/good does not exist: nothing to remove there\n"
    assert "2 of 2 runs done, " in told.out
    assert sorted(str(each.parent) for each in Path("runs").rglob("config.yaml")) == [
        *("runs/array/000-lr=9", "runs/live")
    ]
    assert type_in("rm", "runs/good", "runs/fair", "--yes") == 2


def test_runs_of_a_sweep_are_named_by_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_finished(Path("runs/lr/trials/0a1b"), 0.9)
    make_run(Path("runs/lr/trials/2c3d"), start(), epoch(2, 0.2), end("stopped by SIGTERM after epoch 2"))
    pruned = {"event": "pruned", "trial": 1, "epoch": 2, "why": "epoch 2: 20.0 %, 1 of 1 other trials are better"}
    write_sweep(Path("runs/lr"), sweep_trial(0, 0.1, "0a1b"), sweep_trial(1, 9.0, "2c3d"), pruned)
    assert type_in("--sort", "val_accuracy") == 0
    assert capsys.readouterr().out == (
        "run             tried                state     val     epoch  images/s  attempts  where\n"
        "lr/trials/0a1b  optim.lr=0.1 seed=0  finished  90.0 %  5/5    100       1         node1\n"
        "lr/trials/2c3d  optim.lr=9 seed=0    pruned    20.0 %  2/5    100       1         node1  "
        "epoch 2: 20.0 %, 1 of 1 other trials are better\n"
        "runs: 2 runs: 1 pruned, 1 finished\n"
    )
    assert type_in("watch", "runs/lr/trials/0a1b") == 0
    monkeypatch.setattr("signs_dist.results.watching.GRACE_SECONDS", 0.0)
    monkeypatch.setattr("signs_dist.runs.POLL_SECONDS", 0.01)
    assert type_in("watch", "runs/lr/trials/2c3d") == 75
    assert "pruned: epoch 2: 20.0 %" in capsys.readouterr().out
    assert type_in("rm", "runs/lr/trials/2c3d", "--yes") == 0
    assert "runs/lr/trials/2c3d  optim.lr=9 seed=0  pruned  20.0 %" in capsys.readouterr().out


def test_a_job_that_is_submitted_while_a_person_thinks_keeps_its_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs: dict[Path, QueuedJob] = {}

    def submit_and_agree(question: str) -> str:
        jobs[Path("runs/array/001-lr=1")] = QueuedJob("7", True)
        return "y"

    monkeypatch.setattr("signs_dist.results.queued.ask_queue", lambda summaries: QueueAnswer(dict(jobs)))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", submit_and_agree)
    assert type_in("rm", "runs/array/001-lr=1", "runs/fair") == 1
    assert "kept: a job was submitted for runs/array/001-lr=1 meanwhile: 7" in capsys.readouterr().err
    assert Path("runs/array/001-lr=1/config.yaml").exists()
    assert not Path("runs/fair").exists()


def test_a_run_elsewhere_that_is_gone_is_waited_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(Path("runs/old"), start(), config="checkpoint: {takeover_seconds: 2}")
    os.utime(hold(run, elsewhere=True), (1, 1))
    assert type_in("rm", "runs/old", "--yes") == 0
    assert "waiting up to 2 s, to be sure that the run on node7 is gone" in capsys.readouterr().out
    assert not run.exists()


def test_a_run_is_removed_from_within(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("runs/fair")
    assert type_in("rm", ".", "--yes") == 0
    monkeypatch.chdir(folder)
    assert not Path("runs/fair").exists()


@pytest.mark.parametrize(
    ("answer", "is_removed"), [("y", True), ("YES ", True), ("n", False), ("", False), (None, False)]
)
def test_the_question(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
    is_removed: bool,
) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ask)
    assert type_in("rm", "runs/fair") == 0
    assert asked[0].startswith("Remove 1 run, ")
    assert asked[0].endswith("? [y/N] ")
    assert Path("runs/fair").exists() is not is_removed
    assert ("nothing was removed" in capsys.readouterr().out) is not is_removed


def test_all_but_the_best_are_removed_and_what_runs_is_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert type_in("prune", "runs", "--keep-best", "1", "--yes") == 0
    told = capsys.readouterr()
    assert "not touched, since they run, wait or cannot be judged: runs/live\n" in told.err
    assert "3 of 3 runs done" in told.out
    assert sorted(str(each.parent) for each in Path("runs").rglob("config.yaml")) == ["runs/good", "runs/live"]
    assert type_in("prune", "runs", "--keep-best", "1", "--yes") == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_only_the_checkpoints_of_finished_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "fair", "array/001-lr=1"):
        (Path("runs") / name / "checkpoints" / "last.pt").write_bytes(b"x" * 9000)
        (Path("runs") / name / "model.pt").touch()
    assert type_in("prune", "runs", "--keep-best", "1", "--checkpoints", "--yes") == 0
    assert [path.parent.parent.name for path in sorted(Path("runs").rglob("last.pt"))] == ["001-lr=1", "good"]
    assert RunFolder(Path("runs/fair")).is_finished


def test_a_run_that_begins_meanwhile_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(question: str) -> str:
        hold(Path("runs/fair"))
        return "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", begin)
    assert type_in("rm", "runs/fair", "runs/good") == 1
    told = capsys.readouterr()
    assert "kept: runs/fair is in use by process" in told.err
    assert "1 of 2 runs done" in told.out
    assert Path("runs/fair/config.yaml").exists()
    assert not Path("runs/good").exists()


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("good", 0, "epoch 5/5 | loss 0.200  50.0 % | val 0.100  90.0 % | lr 0.1 | 100 images/s\nfinished\n"),
        ("array/000-lr=9", 1, "failed: TrainingFailedError: the loss is not a finite number\n"),
        ("array/001-lr=1", 75, "stopped by SIGTERM after epoch 2\nattempt 1 ended 2026-01-31T12:10:00+00:00: stopped"),
    ],
)
def test_watching_a_run_that_has_ended(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
    told: str,
) -> None:
    monkeypatch.setattr("signs_dist.results.watching.GRACE_SECONDS", 0.0)
    monkeypatch.setattr("signs_dist.runs.POLL_SECONDS", 0.01)
    assert type_in("watch", f"runs/{name}") == code
    assert told in capsys.readouterr().out


def test_a_long_epoch_has_a_line_every_half_minute(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    polled: list[float] = []

    def train_on(seconds: float) -> None:
        polled.append(seconds)
        RunFolder(Path("runs/live")).add(step(27 + len(polled), 2))
        if len(polled) == 6:
            make_finished(Path("runs/live"))

    monkeypatch.setattr("signs_dist.results.watching.time.sleep", train_on)
    monkeypatch.setattr("signs_dist.console.screen.Throttle.lets_through", lambda *_: len(polled) % 3 == 0)
    assert type_in("watch", "runs/live") == 0
    told = capsys.readouterr().out
    assert "epoch 2/5, step 30 | loss" in told
    assert "step 31" not in told


def test_ctrl_c_leaves_the_run_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("signs_dist.results.watching.time.sleep", interrupt)
    assert type_in("watch", "runs/live") == 130
    told = capsys.readouterr().out
    assert "running on node3, attempt 1" in told
    assert "the run is left alone. To watch it again: python -m signs_dist.runs watch runs/live" in told
    assert Path("runs/live/lease.json").exists()


def in_a_terminal(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code of the command in a terminal of 60 columns, and what it wrote there."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "signs_dist.runs", *arguments],
        cwd=folder,
        env=environment() | {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "30"} | variables,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    told = b"".join(_read_to_end(leader))
    os.close(leader)
    return process.wait(PATIENCE), told.decode(errors="replace")


def _read_to_end(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            block = os.read(descriptor, 2**16)
        except OSError:  # the other end is closed
            return
        if not block:
            return
        yield block


def test_a_finished_run_in_a_terminal(folder: Path) -> None:
    code, told = in_a_terminal(folder, "watch", "runs/good")
    assert code == 0
    screen, _, last = told.partition("\x1b[?1049l")  # leaves the screen of its own
    assert "\x1b[?1049h" in screen
    assert told.rindex("\x1b[?25h") > told.rindex("\x1b[?25l")  # the cursor is shown again
    assert "best val 90.0 % in epoch 5" in last
    assert "loss by epoch: line = train, o = val" in last
    assert "\x1b[32m" in last


def test_a_terminal_without_colour(folder: Path) -> None:
    code, told = in_a_terminal(folder, "watch", "runs/good", NO_COLOR="1")
    assert code == 0
    assert "\x1b[32m" not in told
    assert "\x1b[38" not in told
    code, told = in_a_terminal(folder, NO_COLOR="1")
    assert "\x1b[3" not in told
    assert max(map(len, told.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines())) <= 60


def test_a_terminal_that_cannot_move_its_cursor(folder: Path) -> None:
    code, told = in_a_terminal(folder, "watch", "runs/good", TERM="dumb")
    assert (code, "\x1b" in told) == (0, False)
    assert "finished" in told


def test_the_list_needs_neither_torch_nor_pydantic(folder: Path) -> None:
    program = (
        "import sys; from signs_dist.runs import main; main(['list']); "
        "print([name for name in ('torch', 'pydantic', 'numpy', 'plotext', 'submitit') if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True, cwd=folder
    )
    assert told.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_real_run_is_listed_watched_and_protected(tmp_path: Path) -> None:
    small = ["data.synthetic.train=96", "data.synthetic.val=24", "data.synthetic.test=24", "train.num_threads=1"]
    settings = ["--run-dir", "runs/a", "train.epochs=500", f"data.cache={tmp_path}/cache", *small]

    def start_command(*arguments: str, **keywords: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=tmp_path, env=environment(), text=True, **keywords
        )

    train = start_command("signs_dist.train", *settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not RunFolder(tmp_path / "runs" / "a").read_metrics():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        watch = start_command("signs_dist.runs", "watch", "runs/a", stdout=subprocess.PIPE)
        listing = start_command("signs_dist.runs", "--json", stdout=subprocess.PIPE)
        row = json.loads(listing.communicate(timeout=PATIENCE)[0])
        assert (row["state"], row["num_epochs"], row["num_attempts"]) == ("running", 500, 1)
        assert row["seconds_left"] > 0
        removal = start_command("signs_dist.runs", "rm", "runs/a", "--yes", stderr=subprocess.PIPE)
        assert "runs/a is running" in removal.communicate(timeout=PATIENCE)[1]
        assert removal.returncode == 2
    finally:
        train.terminate()
        assert train.wait(PATIENCE) == 75
    told, _ = watch.communicate(timeout=PATIENCE)
    assert watch.returncode == 75
    assert told.splitlines()[-1].startswith("stopped by SIGTERM after epoch")
    removal = start_command("signs_dist.runs", "rm", "runs/a", "--yes", stdout=subprocess.PIPE)
    assert "1 of 1 run done" in removal.communicate(timeout=PATIENCE)[0]
    assert list((tmp_path / "runs").iterdir()) == []
