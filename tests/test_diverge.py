"""The command diverge: its flags, two run folders, one config on two settings, and planted faults."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import signs_dist as sd
from signs_dist.console.command import run_command
from signs_dist.diverge import main as diverge
from signs_dist.environment.process_table import find_descendants, process_state
from tests.diverging.faults import FAULTS, STEPS, Fault, base_settings
from tests.processes import PATIENCE, environment, rank_environment, run
from tests.sets import small_run, write_colour_set


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 17, "val": 5})


def find(folder: Path, *arguments: str, code: int = 1) -> dict[str, Any]:
    """What the command writes as JSON."""
    file = folder / "out.json"
    assert run_command(diverge, [*arguments, "--json", str(file)]) == code
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["equal"] == (code == 0)
    return found


def digests(*folders: Path) -> dict[Path, str]:
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.longer
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_named(fault: Fault, colours: Path, tmp_path: Path) -> None:
    one, other = fault.processes
    found = find(
        tmp_path,
        *base_settings(colours),
        *shlex.split(fault.both),
        *("--left", f"processes={one} {fault.left}", "--right", f"processes={other} {fault.right}"),
        *("--steps", str(STEPS)),
    )
    require_named(fault, found)


def require_named(fault: Fault, found: dict[str, Any]) -> None:
    """That what was found is what was planted."""
    place = found["first_difference"]
    names = ("direction", "number", "micro_batch", *(("layer",) if fault.layer else ()))
    wanted = [fault.direction, fault.step, fault.micro_batch, *([fault.layer] if fault.layer else [])]
    assert [place[name] for name in names] == wanted
    if fault.tensor is not None:
        assert place["tensor"] == fault.tensor
    assert not fault.entry or fault.entry in place["entries"]
    assert tuple(place["odd"]) == fault.odd
    assert place["unsteady"].keys() == ({"B"} if fault.unsteady else set())
    assert not place["vanished"]
    before = found["before"]["weights"]
    assert before == ([fault.right.partition("@")[2].partition(",")[0]] if "start@" in fault.right else before)


def test_fifty_faults_are_planted() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 50


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to compare: give two run folders"),
        (["nowhere", "elsewhere"], "nowhere does not exist"),
        (["--left", "processes=none"], "give a whole number from 1"),
    ],
)
def test_wrong_input_is_told_in_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(diverge, arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1


def test_processes_of_a_launcher_start_no_comparison(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rank_environment(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    assert run_command(diverge, ["--left", "seed=1"]) == 2
    assert "start it with plain python, without torchrun or srun" in capsys.readouterr().err


@pytest.mark.slow
def test_two_runs_are_compared_and_not_touched(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small_run(colours, "exact=true", "train.precision=float32", epochs=2, global_batch=16)
    for name, more in {"a": [], "b": ["optim.clip_norm=0.01"]}.items():
        sd.fit(sd.load_config(None, [*settings, *more]), run_dir=tmp_path / name, quiet=True)
    runs = [str(tmp_path / name) for name in "ab"]
    before = digests(tmp_path / "a", tmp_path / "b")
    found = find(tmp_path, *runs, "--right-processes", "2")
    assert (found["bracket"]["equal"], found["bracket"]["differs"]) == (0, 3)
    place = found["first_difference"]
    assert (place["number"], place["direction"]) == (1, "clipping")
    assert found["before"]["settings"] == {"optim.clip_norm": [1.0, 0.01]}
    find(tmp_path, runs[0], runs[0], code=0)
    assert "EQUAL: the same bits in the saved states up to step 6" in capsys.readouterr().out
    assert digests(tmp_path / "a", tmp_path / "b") == before
    # States that training does not give: something has changed them.
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    shutil.copytree(tmp_path / "b" / "checkpoints", tmp_path / "c" / "checkpoints", dirs_exist_ok=True)
    metrics = tmp_path / "c" / "metrics.jsonl"
    metrics.write_text("".join(line for line in metrics.read_text().splitlines(True) if '"state"' not in line))
    found = find(tmp_path, runs[0], str(tmp_path / "c"))
    assert found["first_difference"] is None
    assert found["saved_states_repeat"] == [True, False]
    assert "B: its saved state is not what its config, images and code give here" in capsys.readouterr().out


@pytest.mark.slow
def test_a_changed_photo_is_named(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "colours"
    shutil.copytree(colours, other, ignore=shutil.ignore_patterns("cache"))
    photos = sorted((other / "train_signs").iterdir())
    shutil.copyfile(photos[-1], photos[3])
    settings = [word for word in base_settings(colours) if not word.startswith("data.root")]
    found = find(tmp_path, *settings, "--left", f"data.root={colours}", "--right", f"data.root={other}")
    assert found["before"]["data"] == ["train"]
    assert found["images"] == [f"train_signs/{photos[3].name}: other contents"]
    assert found["first_difference"]["direction"] == "input"
    assert [Path(file).name for file in found["files"]] == [photos[3].name]
    assert f"({found['files'][0]})" in capsys.readouterr().out


@pytest.mark.longer
def test_code_of_one_side_alone(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from torch import nn\n\n\nclass Own(nn.Module):\n    def __init__(self, num_classes, image_size):\n"
        "        super().__init__()\n        self.layer = nn.Linear(3, num_classes)\n\n"
        "    def forward(self, images):\n        return self.layer(images.mean((2, 3)) * FACTOR)\n"
    )
    for folder, factor in {"one": "1", "other": "2"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "its_own_net.py").write_text(source.replace("FACTOR", factor))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "one"), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path / "one"))
    codes = ["--right-code", str(tmp_path / "other")]
    found = find(tmp_path, *base_settings(colours), "model.name=its_own_net:Own", "--steps", "2", *codes)
    place = found["first_difference"]
    assert (place["number"], place["micro_batch"], place["layer"], place["direction"]) == (1, 0, "layer", "forward")


OF_RANK_1 = """
import os
import torch
from torch import nn


class OfRank1(nn.Module):
    def __init__(self, num_classes, image_size):
        super().__init__()
        self.layer, self.head = nn.Linear(3, 5), nn.Linear(5, num_classes)
        self.is_other = os.environ.get("RANK", "0") != "0"
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, images):
        hidden = self.layer(images.mean((2, 3)))
        if self.training:
            self.steps += 1
            if self.is_other and int(self.steps) == 6:
                hidden = hidden * 1.001
        return self.head(hidden)
"""
"""A network that computes otherwise in step 6 on all processes but the first: no trial before the run sees it."""


@pytest.mark.slow
def test_parity_says_where(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "of_rank_1.py").write_text(OF_RANK_1)
    command = [sys.executable, "-m", "signs_dist.parity", "--world-sizes", "1,2", "--steps", "6", "--json", "out.json"]
    ended = run([*command, *base_settings(colours), "model.name=of_rank_1:OfRank1"], tmp_path)
    assert ended.code == 1, ended.out + ended.err
    place = json.loads((tmp_path / "out.json").read_text())["diverge"]["first_difference"]
    assert (place["number"], place["micro_batch"], place["layer"], place["direction"]) == (6, 4, "head", "forward")
    assert "FAIL" in ended.out
    assert "first difference: step 6 (epoch 2, step 3 of the epoch), micro-batch 5 of 8, layer" in ended.out


@pytest.mark.longer
def test_fast_mode_is_told(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*base_settings(colours), "exact=false", "train.num_threads=1"]
    found = find(tmp_path, *settings, "--left-processes", "1", "--right-processes", "2", "--steps", "3")
    assert found["first_difference"]["direction"] == "reduction"
    said = capsys.readouterr().out
    assert "This is fast mode: other processes add the gradients in another order" in said
    assert "exact=true --left processes=1 --right processes=2" in said


NUM_CHILDREN = 4
"""Side A, and torchrun with its two processes."""


@pytest.mark.slow
def test_ctrl_c_leaves_no_process(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "signs_dist.diverge", *base_settings(colours)]
    command += ["train.epochs=100000", "--left-processes", "1", "--right-processes", "2", "--steps", "100000"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(TMPDIR=str(tmp_path))
    )
    until = time.monotonic() + PATIENCE
    children: list[int] = []
    while len(children) < NUM_CHILDREN and time.monotonic() < until:
        time.sleep(0.05)
        children = find_descendants(process.pid)
    assert len(children) >= NUM_CHILDREN
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    while any(process_state(pid) != "gone" for pid in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert [pid for pid in children if process_state(pid) != "gone"] == []
    assert list(tmp_path.iterdir()) == []
