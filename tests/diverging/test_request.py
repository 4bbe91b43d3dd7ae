"""What the flags ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.diverge import build_parser
from signs_dist.diverging.orders import Subject
from signs_dist.diverging.request import Request, default_processes, read_request
from signs_dist.errors import UserError


def read(*arguments: str) -> Request:
    return read_request(build_parser().parse_intermixed_args(list(arguments)))


def test_one_config_on_two_settings() -> None:
    request = read("seed=3", "--left", "processes=1 optim.lr=0.2", "--right-processes", "3", "train.global_batch=32")
    left, right = request.subjects
    assert (left.num_processes, right.num_processes, request.steps) == (1, 3, 20)
    assert left.overrides == ("seed=3", "train.global_batch=32", "optim.lr=0.2", "train.micro_batch=8")
    assert right.overrides == ("seed=3", "train.global_batch=32", "train.micro_batch=8")
    assert request.notes == ("train.micro_batch is not set: using 8, so that both sides have the same micro-batches",)


def test_the_same_in_exact_mode() -> None:
    left, right = (
        Subject(1, config=Path("c.yaml"), overrides=("seed=1", "exact=false")),
        Subject(2, overrides=("seed=1", "optim.lr=1", "exact=true")),
    )
    assert Request((left, right), 20, "auto").exact_command == (
        "python -m signs_dist.diverge --config c.yaml seed=1 exact=true --left processes=1 "
        "--right 'processes=2 optim.lr=1'"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to compare"),
        (["exact=true"], "nothing to compare"),
        (["--left", "processes=2", "--left-processes", "3"], "differ. Give one of them"),
        (["--left", "seed=1", "--steps", "0"], "--steps 0: at least 1"),
        (["--left", "seed=1", "--data", "photos"], "Type data.root=photos"),
        (["runs/a"], "give two run folders"),
        (["a", "b", "c"], "give two run folders"),
        (["a", "b", "seed=1"], "seed=1: run folders are compared with the settings that they have"),
        (["a", "b", "--right", "seed=1"], "seed=1: run folders are compared"),
        (["a", "b"], "a does not exist"),
        (["--left", "seeed=1"], "seeed"),
    ],
)
def test_wrong_requests(arguments: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        read(*arguments)
    assert told in str(caught.value)


@pytest.mark.parametrize(("world_size", "num_cores", "here"), [(1, 1, 1), (4, 2, 4), (8, 2, 1), (8, 8, 8), (64, 16, 1)])
def test_on_how_many_processes_a_run_trains_here(world_size: int, num_cores: int, here: int) -> None:
    assert default_processes(world_size, num_cores) == here
