"""The command replay on one process: what it shows and writes, what it refuses, and a run whose training failed."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import signs_dist as sd
from signs_dist.errors import TrainingFailedError, UserError
from signs_dist.replay import main as replay
from signs_dist.replaying import command
from tests.own_modules import module_writer
from tests.replaying.test_run import bytes_of
from tests.sets import small_run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is written into the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run_copy(exact_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exact_run, tmp_path / "copy"))


def test_it_shows_and_writes_and_leaves_the_run_as_it_was(
    exact_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bytes_of(exact_run)
    assert replay([str(exact_run), "--step", "5", "--json", "n.json", "--save", "t.pt", "--check"]) == 0
    told = capsys.readouterr().out
    assert "step 5 (epoch 2, step 1): learning rate" in told
    assert "from" in told
    assert re.search(r"epoch-0001.pt, after step 4: 0 steps in 0.* s on 1 process; the run used 1\n", told)
    assert "step 5: the bits are those of the run: the samples of step 5 are those in the run's logs; the state" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.json", "replay-run-step-5.png", "t.pt"]
    value = json.loads((tmp_path / "n.json").read_text())
    assert (value["verdict"], value["from_step"], value["first_not_finite"]) == ("same bits", 4, None)
    assert [each["micro_batch"] for each in value["steps"][0]["micro_batches"]] == [0, 1, 2, 3]
    saved = torch.load(tmp_path / "t.pt", weights_only=True)["steps"][0]
    assert saved["gradients"].keys() == saved["micro_batches"][0]["gradients"].keys()
    assert saved["weights_before"].keys() == saved["weights_after"].keys()
    assert bytes_of(exact_run) == before


def test_a_folder_that_cannot_be_written_is_enough(run_copy: Path) -> None:
    for path in [run_copy, *run_copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = bytes_of(run_copy)
    try:
        assert replay([str(run_copy), "--step", "5"]) == 0
        assert bytes_of(run_copy) == before
    finally:
        for path in [run_copy, *run_copy.rglob("*")]:
            path.chmod(0o755)


def test_a_broken_checkpoint_is_told_and_the_one_before_is_used(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = run_copy / "checkpoints" / "epoch-0002-step-000002.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert replay([str(run_copy), "--step", "8"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"note: .*epoch-0002-step-000002.pt .*The replay begins at step 4 instead.", told)
    assert "epoch-0001.pt, after step 4: 3 steps in" in told
    assert "step 8: the bits are those of the run" in told


def test_a_checkpoint_that_is_deleted_meanwhile_is_no_fault(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replay_here = command.replay_here

    def late(run: Any, start: Any, *arguments: Any, **named: Any) -> Any:
        if start.steps_done == 6:
            start.path.unlink()  # as the rotation of a run that trains
        return replay_here(run, start, *arguments, **named)

    monkeypatch.setattr(command, "replay_here", late)
    assert replay([str(run_copy), "--step", "8"]) == 0
    assert "epoch-0001.pt, after step 4: 3 steps in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--step", "0"], "--step 0: steps of a run count from 1 to 8"),
        (["--step", "9"], "--step 9 lies after the end of the run. Its steps count from 1 to 8"),
        (["--step", "5", "--until", "4"], "--until 4 lies before --step 5"),
        (
            ["--step", "5", "--micro-batch", "4"],
            "--micro-batch 4: the micro-batches of a step of this run are from 0 to 3",
        ),
        (["--step", "5", "--processes", "5"], "--processes 5: a step of this run has 4 micro-batches. Type 1 to 4"),
        (["--step", "5", "--processes", "0"], "--processes 0: at least 1"),
        (["--step", "5", "--processes", "2", "--shell"], "--shell works on one process"),
        (["--step", "5", "--shell", "--check"], "Omit one of them"),
        (["--failure"], "no loss of this run was recorded as not finite"),
        (["--failure", "--until", "5"], "--failure looks at one step"),
        (["--step", "5", "--data", "/nowhere"], "/nowhere"),
        (["--step", "5", "--images", "a.jpg"], "--images a.jpg: the picture is a PNG. Type --images a.png."),
        (["--step", "5", "--json", "/proc/x"], "--json: cannot write /proc/x: No such file or directory. Choose a"),
        (["--step", "5", "--json", "x", "--save", "./x"], "--save and --json both name x. Type another file for one"),
    ],
)
def test_wrong_input(exact_run: Path, arguments: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        replay([str(exact_run), *arguments])
    assert told in str(caught.value)


@pytest.mark.parametrize("flag", ["--images", "--save", "--json"])
def test_no_file_is_written_into_the_run_folder(exact_run: Path, flag: str) -> None:
    with pytest.raises(UserError, match=f"{flag} .* lies in the run folder, into which replay writes nothing"):
        replay([str(exact_run), "--step", "5", flag, str(exact_run / "logs" / "out")])


def test_the_default_picture_is_not_written_into_the_run_folder(
    exact_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exact_run)
    with pytest.raises(UserError, match=r"--images .* lies in the run folder"):
        replay([".", "--step", "5"])


def test_a_run_with_a_long_name_has_a_default_picture(run_copy: Path, tmp_path: Path) -> None:
    assert command.default_picture(Path("/runs/a"), 5) == Path("replay-a-step-5.png")
    for name in ("r" * 255, "é" * 127):
        picture = command.default_picture(run_copy.rename(tmp_path / name), 10**12)
        picture.write_bytes(b"")
        assert picture.name.endswith("-step-1000000000000.png")
        (tmp_path / name).rename(run_copy)


def test_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        replay([str(tmp_path), "--step", "5"])


def test_photos_that_have_moved_and_photos_that_have_changed(
    exact_run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(colours, tmp_path / "moved"))
    assert replay([str(exact_run), "--step", "5", "--data", str(moved)]) == 0
    first = next((moved / "train_signs").glob("*.jpg"))
    first.write_bytes(next((moved / "val_signs").glob("*.jpg")).read_bytes())
    assert replay([str(exact_run), "--step", "5", "--data", str(moved)]) == 1
    assert (
        "THE SAMPLES ARE NOT THOSE OF THE RUN: the training images are not those of the run" in capsys.readouterr().out
    )


PROGRAM = """
assert images.shape == (2, 3, 16, 16) and targets.shape == (2,) and logits.shape == (2, 3) and losses.shape == (2,)
assert batch.samples.tolist() == micro_batch.samples
assert set(gradients) == {name for name, _ in model.named_parameters()}
assert optimizer.param_groups and step.step == 5 and len(micro_batches) == 4
assert not torch.equal(weights_before["head.weight"], model.state_dict()["head.weight"])
print("all there")
"""


@pytest.mark.parametrize(("program", "code", "told"), [(PROGRAM, 0, "all there"), ("1 / 0", 1, "")])
def test_a_program_on_standard_input_has_all_in_scope(
    exact_run: Path,
    program: str,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(program))
    assert replay([str(exact_run), "--step", "5", "--shell"]) == code
    assert told in capsys.readouterr().out


NETWORK = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes, image_size, limit, fault):
            super().__init__()
            self.limit, self.fault = limit, fault
            self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
            self.first = nn.Linear(3 * image_size**2, 8)
            self.trap = Trap(self)
            self.head = nn.Linear(8, num_classes)

        def forward(self, images):
            if self.training:
                self.seen += 1
            return self.head(self.trap(self.first(images.flatten(1))))

    class Trap(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = [net]

        def forward(self, values):
            net = self.net[0]
            if not self.training or int(net.seen) < net.limit:
                return values
            return values * 3e38 * 3e38 if net.fault == "forward" else values + (values * 0).sqrt()

    def make(num_classes, image_size, limit=6, fault="forward"):
        return Net(num_classes, image_size, limit, fault)
"""


@pytest.mark.parametrize(
    ("fault", "step", "told"),
    [
        ("forward", 6, "first that is not finite: step 6, micro-batch 0: trap is the first layer whose output is not"),
        ("backward", 6, "first that is not finite: step 6, micro-batch 0: the gradient at the output of first is the"),
    ],
)
def test_a_run_whose_training_failed(
    fault: str,
    step: int,
    told: str,
    colours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = module_writer(tmp_path, monkeypatch)(NETWORK)
    settings = [each for each in small_run(colours, epochs=3, global_batch=8) if not each.startswith("model.")]
    settings += [f"model.name={name}:make", f"model.args={{limit: 6, fault: {fault}}}", "ema.decay=null"]
    with pytest.raises(TrainingFailedError):
        sd.fit(sd.load_config(None, settings), run_dir=tmp_path / "failed", quiet=True)
    rows = json.loads((tmp_path / "failed" / "non_finite_loss.json").read_text())["micro_batches"]
    assert (rows[0]["epoch"], rows[0]["step"]) == (2, 2 if fault == "forward" else 3)
    before = bytes_of(tmp_path / "failed")
    capsys.readouterr()
    assert replay([str(tmp_path / "failed"), "--failure", "--json", "n.json"]) == 0
    shown = capsys.readouterr().out
    assert told in shown
    assert "non_finite_loss.json names epoch 2, step" in shown
    assert "here the loss is not finite in micro-batch 0" in shown
    steps = [each["step"] for each in json.loads((tmp_path / "n.json").read_text())["steps"]]
    assert steps == ([6] if fault == "forward" else [6, 7])  # the step before is shown where it has the cause
    assert bytes_of(tmp_path / "failed") == before
    # A step that was finite, named as a failure.
    (tmp_path / "failed" / "non_finite_loss.json").write_text(json.dumps({"micro_batches": [rows[0] | {"step": 1}]}))
    assert replay([str(tmp_path / "failed"), "--failure"]) == 1
    assert (
        "here the loss of this step is finite. Why that can be: the file names other images" in capsys.readouterr().out
    )


def test_a_step_behind_a_failure_is_refused_with_the_step_that_failed(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module_writer(tmp_path, monkeypatch)(NETWORK)
    settings = [each for each in small_run(colours, epochs=3, global_batch=8) if not each.startswith("model.")]
    with pytest.raises(TrainingFailedError):
        sd.fit(sd.load_config(None, [*settings, f"model.name={name}:make"]), run_dir=tmp_path / "failed", quiet=True)
    with pytest.raises(UserError, match=r"the loss is not finite at step 6 already, before step 8. Type --step 6"):
        replay([str(tmp_path / "failed"), "--step", "8"])
