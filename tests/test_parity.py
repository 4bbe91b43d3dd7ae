"""The command parity: its flags, and real comparisons on several processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.diverging import comparison
from signs_dist.errors import TrainingFailedError, UserError
from signs_dist.parity import build_parser, parse_world_sizes, tell_where
from signs_dist.parity import main as parity
from tests.processes import rank_environment, run, train_command
from tests.sets import small_run, write_colour_set


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 17, "val": 5})


def settings(root: Path, *more: str) -> list[str]:
    return small_run(root, *more, epochs=3, global_batch=16)


def test_numbers_of_processes() -> None:
    assert parse_world_sizes("1,2, 4") == [1, 2, 4]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,1", "different whole numbers from 1, such as 1,2,4"),
        ("0,1", "different whole numbers from 1, such as 1,2,4"),
        ("two", "different whole numbers from 1, such as 1,2,4"),
        ("1", "nothing to be compared with. Type --world-sizes 1,2"),
        ("3", "nothing to be compared with. Type --world-sizes 1,3"),
    ],
)
def test_wrong_numbers_of_processes(text: str, told: str) -> None:
    with pytest.raises(UserError, match=f"--world-sizes {text}: .*{told}"):
        parse_world_sizes(text)


def test_a_user_meets_no_flag_of_its_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(build_parser().flags()) == sorted(
        ["-h", "--help", "--config", "--world-sizes", "--steps", "--device", "--json"]
    )
    with pytest.raises(SystemExit) as caught:
        run_command(parity, ["--record", "here", "--nudge", "1"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --record --nudge" in capsys.readouterr().err


def test_processes_of_a_launcher_start_no_comparison(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rank_environment(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    assert run_command(parity, ["train.micro_batch=2"]) == 2
    assert "start it with plain python, without torchrun or srun" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.cold  # with a hash seed for each process, as a user has them
def test_exact_mode_gives_equal_bits_on_1_and_2_processes(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "signs_dist.parity", "--world-sizes", "1,2", "--steps", "5", "--json", "out.json"]
    ended = run([*command, *settings(colours, "exact=true")], tmp_path)
    assert ended.code == 0, ended.out + ended.err
    assert "PASS: 5 steps, exact mode, " in ended.out
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["exact"] is True
    assert [row["world_size"] for row in out["rows"]] == [1, 2]
    assert len({row["weights_sha256"] for row in out["rows"]}) == 1
    assert [row["weights_difference"] for row in out["rows"]] == [0, 0]


@pytest.mark.slow
def test_fast_mode_agrees_up_to_rounding_and_parity_shows_it(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "signs_dist.parity", "--world-sizes", "1,3", "--steps", "4", "--json", "out.json"]
    ended = run([*command, *settings(colours, "train.precision=float32", "optim.lr=0.001")], tmp_path)
    assert ended.code == 0, ended.out + ended.err
    assert "PASS: 4 steps, fast mode, float32" in ended.out
    first, other = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert other["order"]
    assert other["augmentation"]
    assert first["loss_difference"] == 0
    assert other["loss_difference"] < 1e-4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--world-sizes", "2"], "error: --world-sizes 2: one number of processes has nothing to be compared with. "),
        (["--world-sizes", "1,9"], "is 8 micro-batches of 2, too few for 9 processes"),
        pytest.param(["--world-sizes", "1,2", "model.name=nope"], "error: model.name=nope", marks=pytest.mark.slow),
        (["--world-sizes", "1,2", "--steps", "0"], "error: --steps 0: at least 1."),
    ],
)
def test_parity_says_what_is_wrong_in_one_line(
    colours: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert run_command(parity, [*settings(colours), *arguments]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_parity_sees_a_difference_and_exact_mode_refuses_it(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "import os\nfrom torch import nn\n\n\n"
        "class Wrong(nn.Module):\n"
        "    def __init__(self, num_classes, image_size, how):\n"
        "        super().__init__()\n        self.layer, self.how = nn.Linear(3, num_classes), how\n\n"
        "    def forward(self, images):\n"
        "        drawn = int.from_bytes(os.urandom(4), 'big') / 2**32\n"
        "        noise = drawn if self.how == 'entropy' else int(os.environ.get('RANK', '0')) / 256\n"
        "        return self.layer(images.mean((2, 3))) * (1 + noise)\n"
    )
    arguments = settings(colours, "model.name=wrong:Wrong", "train.precision=float32", "model.args={how: rank}")
    command = [sys.executable, "-m", "signs_dist.parity", "--world-sizes", "1,2", "--steps", "2"]
    ended = run([*command, *arguments], tmp_path)
    assert ended.code == 1, ended.out + ended.err
    assert "<- differs" in ended.out
    assert "FAIL" in ended.out
    ended = run([*command, *arguments, "exact=true"], tmp_path)
    assert ended.code == 2, ended.out + ended.err
    assert "rank 1 computes other bits than rank 0" in ended.err
    ended = run(train_command("--run-dir", "run", *arguments, "model.args={how: entropy}", "exact=true"), tmp_path)
    assert ended.code == 2
    assert "the loss gives other bits each time" in ended.err
    assert not (tmp_path / "run").exists()


def test_what_parity_has_found_stands_where_training_side_by_side_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TrainingFailedError("side B on 2 processes ended with exit code 1")

    options = build_parser().parse_intermixed_args([])
    monkeypatch.setattr(comparison, "compare", fail)
    assert tell_where(options, [], (1, 2)) == {"error": "side B on 2 processes ended with exit code 1"}
    assert "where the bits part is not known" in capsys.readouterr().out


def test_equal_bits_side_by_side_do_not_take_a_failure_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = build_parser().parse_intermixed_args([])
    monkeypatch.setattr(comparison, "compare", lambda *_, **__: comparison.Result(None, None))
    assert tell_where(options, [], (1, 2))["equal"]
    assert capsys.readouterr().out.startswith("FAIL all the same: the difference above did not come again")
