"""Which part of the machine each job gets."""

from __future__ import annotations

import pytest

from signs_dist.errors import UserError
from signs_dist.searching.places import Place, choose_num_jobs, choose_places, name_gpus, read_cores, share_machine


@pytest.mark.parametrize(
    ("num_jobs", "cores", "usable", "gpus", "places"),
    [
        (1, range(8), 8, (), [Place()]),
        (1, range(8), 8, ("3",), [Place(gpu="3")]),
        (2, range(8), 8, (), [Place((0, 1, 2, 3), None, 4), Place((4, 5, 6, 7), None, 4)]),
        (3, range(8), 8, (), [Place((0, 1), None, 2), Place((2, 3), None, 2), Place((4, 5), None, 2)]),
        (3, [4, 9], 2, (), [Place((4,), None, 1), Place((9,), None, 1), Place((4,), None, 1)]),
        (2, range(8), 2, (), [Place((0, 1, 2, 3), None, 1), Place((4, 5, 6, 7), None, 1)]),  # a control group
        (2, range(4), 4, ("1", "GPU-5d2a"), [Place((0, 1), "1", 2), Place((2, 3), "GPU-5d2a", 2)]),
    ],
)
def test_each_job_gets_its_part(
    num_jobs: int, cores: range, usable: int, gpus: tuple[str, ...], places: list[Place]
) -> None:
    assert share_machine(num_jobs, list(cores), usable, gpus, {}) == places


def test_the_variables_of_a_place() -> None:
    assert Place().variables() == {}
    assert Place((1,), "2", 1).variables() == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "2"}
    (first, _) = share_machine(2, [0, 1], 2, (), {"OMP_NUM_THREADS": "7"})
    assert first.variables() == {}


def test_how_many_jobs() -> None:
    assert [choose_num_jobs(None, 0), choose_num_jobs(None, 4), choose_num_jobs(3, 0), choose_num_jobs(2, 4)] == [
        *(1, 4, 3, 2)
    ]
    with pytest.raises(UserError, match=r"--jobs 5: each job has a GPU of its own.* shows 4. Type --jobs 4, or add"):
        choose_num_jobs(5, 4)
    with pytest.raises(UserError, match=r"--jobs 0: at least 1."):
        choose_num_jobs(0, 0)


@pytest.mark.parametrize(
    ("visible", "num_devices", "names"),
    [
        (None, 2, ("0", "1")),
        ("2,5", 2, ("2", "5")),
        ("2,5", 1, ("2",)),
        ("", 0, ()),
        ("MIG-93c6,MIG-81f0", 1, ("MIG-93c6", "MIG-81f0")),
    ],
)
def test_the_names_of_the_gpus(visible: str | None, num_devices: int, names: tuple[str, ...]) -> None:
    assert name_gpus(visible, num_devices) == names


def test_each_job_gets_a_gpu_that_the_command_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    assert [place.gpu for place in choose_places(None, "auto", 2)] == ["3", "7"]
    assert [place.gpu for place in choose_places(1, "auto", 2)] == ["3"]
    assert [place.gpu for place in choose_places(None, "cpu", 2)] == [None]


def test_this_process_has_cores() -> None:
    assert read_cores()
