"""The errors that commands report carry their exit codes."""

from __future__ import annotations

import contextlib

import pytest

from signs_dist.errors import (
    CheckpointError,
    CommandError,
    NonFiniteLossError,
    PeerLostError,
    SaveError,
    StoppedError,
    TrainingFailedError,
    UserError,
    in_python_words,
    require_kind,
)


@pytest.mark.parametrize(
    ("kind", "code", "builtin"),
    [
        (UserError, 2, ValueError),
        (TrainingFailedError, 1, RuntimeError),
        (PeerLostError, 3, RuntimeError),
        (SaveError, 74, RuntimeError),
        (StoppedError, 130, RuntimeError),
    ],
)
def test_each_error_has_its_code_and_stays_what_python_calls_it(
    kind: type[CommandError], code: int, builtin: type[Exception]
) -> None:
    error = kind("why")
    assert (str(error), error.exit_code) == ("why", code)
    assert isinstance(error, builtin)


def test_a_stop_has_the_code_of_its_signal() -> None:
    assert StoppedError("at step 3", 75).exit_code == 75
    assert StoppedError("at step 3", 75).is_saved
    assert not StoppedError("at step 3", is_saved=False).is_saved


def test_what_the_run_itself_handles_is_no_error_of_a_command() -> None:
    assert not issubclass(CheckpointError, CommandError)
    error = NonFiniteLossError([{"epoch": 1, "step": 2, "micro_batch": 0, "samples": [3]}])
    assert not isinstance(error, CommandError)
    assert (str(error), error.found[0]["step"]) == ("the loss is not a finite number", 2)


@pytest.mark.parametrize(
    ("value", "kind", "passes"),
    [(3, int, True), (None, (str, type(None)), True), (True, bool, True), (True, int, False), ("3", int, False)],
)
def test_which_types_are_legal(value: object, kind: type, passes: bool) -> None:
    with contextlib.nullcontext() if passes else pytest.raises(UserError, match=r"^step="):
        require_kind("step", value, kind, "step=3")


def test_an_argument_of_another_type_is_refused() -> None:
    with pytest.raises(UserError, match=r"^step=True is of type bool\. Type step=3$"):
        require_kind("step", True, int, "step=3")
    with pytest.raises(UserError, match=r"^text='a{56}\.\.\. is of type str"):
        require_kind("text", "a" * 99, int, "a number")


@pytest.mark.parametrize(
    ("message", "spelled"),
    [
        ("type --accept-change train.epochs,data", 'type accept_change="train.epochs,data"'),
        ("choose another --run-dir, or", "choose another run_dir, or"),
        ("--run-dir runs/a is not a folder", "run_dir runs/a is not a folder"),
        ("--device cuda:9: no such GPU. Type --device auto", 'device="cuda:9": no such GPU. Type device="auto"'),
        ("Omit --device; it is chosen", "Omit device; it is chosen"),
        ("--config nope.yaml: no such file", "nope.yaml: no such file"),
        ("type --split val or --weights best", 'type split="val" or weights="best"'),
        ("python -m signs_dist.data.build --source a", "python -m signs_dist.data.build --source a"),
        ("--deviceless stays", "--deviceless stays"),
    ],
)
def test_python_callers_read_their_arguments_and_not_flags(message: str, spelled: str) -> None:
    with pytest.raises(UserError) as caught, in_python_words():
        raise UserError(message)
    assert str(caught.value) == spelled
