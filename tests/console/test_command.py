"""Exit codes and messages that all commands share."""

from __future__ import annotations

import importlib
import io
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from launch import local
from signs_dist import checkpoint, evaluate, predict, train
from signs_dist.console.command import CommandParser, add_config_arguments, config_arguments, run_command
from signs_dist.data import audit, build
from signs_dist.errors import PeerLostError, SaveError, StoppedError, TrainingFailedError, UserError
from signs_dist.monitoring.signals import StoppedBySignal
from tests.processes import rank_environment


def raises(error: BaseException) -> Callable[[Sequence[str]], int]:
    def main(arguments: Sequence[str]) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("a=1; it is 2"), 2, "error: a=1; it is 2\n"),
        (TrainingFailedError("the loss is not a number"), 1, "error: the loss is not a number\n"),
        (PeerLostError("rank 1 never arrived"), 3, "error: rank 1 never arrived\n"),
        (SaveError("no space left"), 74, "error: no space left\n"),
        (StoppedError("at step 3", 75), 75, "stopped\n"),
        (StoppedError("at step 3"), 130, "interrupted\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (StoppedBySignal(signal.SIGHUP), 75, "stopped by SIGHUP: repeat the command\n"),
        (PermissionError(13, "Permission denied", "a/b"), 2, "error: cannot open a/b: Permission denied."),
        (OSError(28, "No space left on device"), 2, "error: no space left while writing the output: No space left"),
        (OSError(27, "File too large"), 2, "error: cannot write the output: File too large. The file system takes no"),
    ],
)
def test_errors_are_printed_without_a_traceback(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, told: str
) -> None:
    assert run_command(raises(error), []) == code
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize(
    ("command", "arguments", "name"),
    [
        (predict, ["RUN", ""], "INPUT"),
        (predict, ["", "a.jpg"], "MODEL"),
        (evaluate, ["RUN", "--data", ""], "--data"),
        (evaluate, ["RUN", "--data="], "--data"),
        (train, ["--run-dir", ""], "--run-dir"),
        (audit, [""], "source"),
        (build, ["--source", ""], "--source"),
        (checkpoint, ["verify", ""], "FILE"),  # of a subcommand
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    capsys: pytest.CaptureFixture[str], command: types.ModuleType, arguments: list[str], name: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert f"error: argument {name}: the text is empty. Is a variable of the shell not set?" in capsys.readouterr().err


def test_bugs_keep_their_traceback() -> None:
    for error in (RuntimeError("a bug"), ValueError("a bug"), OSError(5, "Input/output error")):
        with pytest.raises(type(error)):
            run_command(raises(error), [])


@pytest.mark.parametrize(("rank", "told"), [("0", "interrupted\n"), ("1", "")])
def test_only_rank_0_tells_of_a_signal_that_all_processes_get(
    rank: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rank_environment(int(rank), 2, 29500).items():
        monkeypatch.setenv(name, value)
    assert run_command(raises(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == told


def test_success_is_zero_and_arguments_arrive() -> None:
    seen: list[str] = []

    def main(arguments: Sequence[str]) -> int:
        seen.extend(arguments)
        return 0

    assert run_command(main, ["a", "b c"]) == 0
    assert seen == ["a", "b c"]


def test_a_character_that_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))

    def main(arguments: Sequence[str]) -> int:
        print("10 … \udcff")
        return 0

    assert run_command(main, []) == 0
    assert raw.getvalue() == b"10 \\u2026 \\udcff\n"


def error_of(build: Callable[[], CommandParser], arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    parser = build()
    parse = parser.parse_intermixed_args if build is train.build_parser else parser.parse_args
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    usage, _, message = capsys.readouterr().err.partition("error: ")
    assert usage.startswith("usage: python -m signs_dist.")
    return message.removesuffix("\n")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--epochs", "3"], "Settings are written without dashes: train.epochs=3"),
        (["--epcohs", "3"], "Settings are written without dashes: train.epochs=3"),
        (["--epochs=3"], "Settings are written without dashes: train.epochs=3"),
        (["--epochs"], "Settings are written without dashes: train.epochs=VALUE"),
        (["--epochs", "seed=1"], "Settings are written without dashes: train.epochs=VALUE"),
        (["--lr", "0.1"], "Settings are written without dashes: optim.lr=0.1"),
        (["--lr", "-1"], "Settings are written without dashes: optim.lr=-1"),
        (["--batch-size", "64", "seed=1"], "Settings are written without dashes: train.global_batch=64"),
        (["seed=1", "--optim.lr=0.1"], "Settings are written without dashes: optim.lr=0.1"),
        (["--explian"], "Did you mean --explain?"),
        (["--rundir", "x"], "Did you mean --run-dir?"),
        (["--zzz"], ""),
        (["-x"], ""),
    ],
)
def test_train_says_what_to_type(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(train.build_parser, arguments, capsys)
    assert message.startswith("unrecognized arguments: ")
    told = message.partition(".")[2].strip()
    assert told.endswith(hint) if hint else told == ""


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--nproc", "2", "--run-dir", "x"], "type it after --, as in python -m launch.local … -- --run-dir …"),
        (["--config=a.yaml"], "type it after --, as in python -m launch.local … -- --config=a.yaml …"),
        (["--lr", "0.1"], "Settings are written without dashes: optim.lr=0.1, after --"),
        (["--nprco", "2"], "Did you mean --nproc?"),
        (["--zzz"], "error: unrecognized arguments: --zzz."),
    ],
)
def test_a_launcher_says_what_goes_after_the_dashes(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        local.build_parser().parse_args(arguments)
    assert capsys.readouterr().err.strip().endswith(hint)


def test_commands_without_settings_do_not_mention_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(evaluate.build_parser, ["run", "--epochs"], capsys) == "unrecognized arguments: --epochs."
    assert error_of(evaluate.build_parser, ["run", "--spilt", "val"], capsys).endswith("Did you mean --split?")


def test_a_wrong_choice_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(evaluate.build_parser, ["run", "--split", "tst"], capsys).endswith("Did you mean test?")
    assert "required: INPUT" in error_of(predict.build_parser, ["run"], capsys)


def test_settings_may_stand_between_flags(tmp_path: Path) -> None:
    options = train.build_parser().parse_intermixed_args(["a.b=1", "--quiet", "c=2", "--run-dir", "x", "d=3"])
    assert (options.overrides, options.quiet, options.run_dir) == (["a.b=1", "c=2", "d=3"], True, Path("x"))


def script(body: str) -> list[str]:
    code = "import sys, time\nfrom signs_dist.console.command import run_command\n"
    code += "def main(arguments):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", f"{code}    return 0\nsys.exit(run_command(main))\n"]


def test_control_c_ends_with_130_and_one_line() -> None:
    process = subprocess.Popen(
        script("print('ready', flush=True)\ntime.sleep(60)"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)
    assert (process.returncode, error) == (130, "interrupted\n")


def test_a_closed_output_gives_no_traceback() -> None:
    process = subprocess.Popen(
        script("for number in range(100_000): print(number)"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=10) == 141


@pytest.mark.parametrize("module", ["signs_dist.train", "signs_dist.predict", "launch.local"])
def test_help_that_cannot_be_written_is_told(module: str) -> None:
    """Also of commands whose result is in files: of `--help` the output is the result."""
    command = [sys.executable, "-m", module, "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        unread = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert (unread.returncode, unread.stderr) == (141, "")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: no space left while writing the output")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_to_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(script("print('x')"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left while writing the output")


@pytest.mark.parametrize(
    "given", [[], ["--config", "a b.yaml"], ["--config", "c.yaml", "seed=1", "optim.lr=2"], ["seed=1"]]
)
def test_config_and_settings_can_be_passed_on(given: list[str]) -> None:
    parser = CommandParser()
    add_config_arguments(parser)
    options = parser.parse_intermixed_args(given)
    assert config_arguments(options.config, options.overrides) == given


@pytest.mark.parametrize(
    ("module", "flag"),
    [
        *(("parity", "--steps"), ("drill", "--kills"), ("drill", "--runs"), ("drill", "--seed")),
        *(("drill", "--world-size"), ("data.synthetic", "--train"), ("data.synthetic", "--seed")),
        *(("data.synthetic", "--size"), ("data.synthetic", "--processes"), ("data.audit", "--processes")),
    ],
)
@pytest.mark.parametrize("text", ["1e308", "nan", "inf", str(10**30), f"-{10**30}", "9" * 5000, "", "1.5", "x"])
def test_a_flag_s_number_has_bounds(module: str, flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"signs_dist.{module}").main
    with pytest.raises(SystemExit) as ended:
        main([*(["."] if module == "data.audit" else []), f"{flag}={text}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"error: argument {flag}: .{{0,40}} is not legal: type a whole number of at most \d+\.", said)
