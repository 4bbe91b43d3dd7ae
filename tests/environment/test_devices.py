"""Which devices a process uses: pure functions, as tables. No GPU is needed."""

from __future__ import annotations

from typing import Any

import pytest

from signs_dist.environment.devices import DevicePlan, parse_device, parse_gpus, parse_ids, parse_visible, plan_devices
from signs_dist.errors import UserError

GPU = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MIG = "MIG-2c1f0b5e-7c5e-5b0a-8a0e-0d9c3a3c1f11"
OLD_MIG = f"MIG-{GPU}/1/2"
CPU = DevicePlan("cpu")

ALONE: dict[str, Any] = {
    "device": "auto",
    "data_parallel": False,
    "device_ids": None,
    "visible": None,
    "num_devices": 4,
    "rank": 0,
    "world_size": 1,
    "local_rank": 0,
    "local_world_size": 1,
    "launcher": "python",
}
DP = {"data_parallel": True}
NO_GPU = {"num_devices": 0}
FOURTH = {"rank": 3, "world_size": 4, "local_rank": 3, "local_world_size": 4, "launcher": "torchrun"}
SECOND_NODE = {"rank": 5, "world_size": 8, "local_rank": 1, "local_world_size": 4, "launcher": "torchrun"}
TASK = FOURTH | {"launcher": "srun"}


def cuda(*indices: int, physical: str = "", note: str = "") -> DevicePlan:
    names = tuple(physical.split(",")) if physical else tuple(map(str, indices))
    return DevicePlan("cuda", indices, names, note)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, None),
        ("", ()),
        (" ", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0", ("0",)),
        ("0,2", ("0", "2")),
        ("2,0", ("2", "0")),
        ("0, 2", ("0", "2")),
        ("03", ("3",)),
        (GPU, (GPU,)),
        ("GPU-8932f937,GPU-5", ("GPU-8932f937", "GPU-5")),
        (MIG, (MIG,)),
        (f"{MIG},{OLD_MIG}", (MIG, OLD_MIG)),
    ],
)
def test_visible_devices(text: str | None, names: tuple[str, ...] | None) -> None:
    assert parse_visible(text) == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0,,1", "CUDA_VISIBLE_DEVICES=0,,1: '' is not a GPU. Give numbers, such as 0,2, or names"),
        ("0,x", "'x' is not a GPU"),
        ("0, 1,x", "'x' is not a GPU"),
        ("1.5", "'1.5' is not a GPU"),
        ("0,", "'' is not a GPU"),
        ("0-3", "'0-3' is not a GPU"),
        ("0;1", "'0;1' is not a GPU"),
        ("²", "'²' is not a GPU"),
        ("0,-1", "'-1' is not a GPU"),
        ("-1,0", "'-1' is not a GPU"),
        ("all", "'all' is not a GPU"),
        ("gpu-8932f937", "'gpu-8932f937' is not a GPU"),
        ("GPU-", "'GPU-' is not a GPU"),
        ("GPU-5d2a, GPU-81f0", "' GPU-81f0' is not a GPU"),
        (f"MIG-{GPU}/1", "is not a GPU"),
        (f"0,{GPU}", "numbers, GPU-… and MIG-… are mixed"),
        (f"{GPU},{MIG}", "numbers, GPU-… and MIG-… are mixed"),
        ("1,2,1", "CUDA_VISIBLE_DEVICES=1,2,1: 1 is given more than once. Type CUDA_VISIBLE_DEVICES=1,2"),
        ("1,01", "1 is given more than once. Type CUDA_VISIBLE_DEVICES=1"),
        (f"{GPU},{GPU}", f"{GPU} is given more than once"),
    ],
)
def test_visible_devices_that_cuda_would_cut_short_are_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_visible(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(("text", "ids"), [("0", (0,)), ("1,3", (1, 3)), ("3,1", (3, 1)), ("12", (12,))])
def test_ids(text: str, ids: tuple[int, ...]) -> None:
    assert parse_ids(text, "--device-ids") == ids


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "--device-ids '': GPUs are numbers from 0 with commas between them. Type --device-ids 0,1"),
        ("1,x", "--device-ids 1,x: GPUs are numbers from 0"),
        ("-1", "--device-ids -1: GPUs are numbers from 0"),
        ("1,,3", "GPUs are numbers from 0"),
        ("1,3,", "GPUs are numbers from 0"),
        ("1, 3", "GPUs are numbers from 0"),
        ("1\n", "--device-ids '1\\n': GPUs are numbers from 0"),
        ("cuda:1", "GPUs are numbers from 0"),
        (GPU, "GPUs are numbers from 0"),
        ("1,3,1", "--device-ids 1,3,1: 1 is given more than once. Type --device-ids 1,3"),
    ],
)
def test_wrong_ids_are_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_ids(text, "--device-ids")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names"), [("2,5", ("2", "5")), (GPU, (GPU,)), (f"{MIG},{OLD_MIG}", (MIG, OLD_MIG)), ("0", ("0",))]
)
def test_gpus(text: str, names: tuple[str, ...]) -> None:
    assert parse_gpus(text) == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "--gpus '': '' is not a GPU"),
        ("-1", "--gpus -1: '-1' is not a GPU"),
        ("2,two", "--gpus 2,two: 'two' is not a GPU"),
        ("2,2", "--gpus 2,2: 2 is given more than once. Type --gpus 2"),
        (f"2,{MIG}", "are mixed"),
    ],
)
def test_wrong_gpus_are_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_gpus(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto", None)),
        ("cpu", ("cpu", None)),
        ("cuda", ("cuda", None)),
        ("cuda:0", ("cuda", (0,))),
        ("cuda:12", ("cuda", (12,))),
        ("cuda:1,3", ("cuda", (1, 3))),
    ],
)
def test_device_flag(text: str, expected: tuple[str, tuple[int, ...] | None]) -> None:
    assert parse_device(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpu", "--device gpu: it must be auto, cpu, cuda, cuda:N such as cuda:0, or cuda:1,3 for nn.DataParallel"),
        ("", "--device '': it must be auto"),
        ("cuda:0\n", "--device 'cuda:0\\n': it must be auto"),
        *(
            (word, f"--device {word}: it must be auto")
            for word in (
                "cuda:",
                "cuda:-1",
                "cuda:x",
                "cuda:²",
                "cuda:1,",
                "cuda1",
                "CUDA",
                "cpu:0",
                "auto:1",
                "mps",
                "0",
            )
        ),
        ("cuda:1,1", "--device cuda:1,1: 1 is given more than once. Type --device cuda:1"),
    ],
)
def test_a_wrong_device_is_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_device(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # One process, one device.
        ({}, cuda(0)),
        ({"device": "cuda"}, cuda(0)),
        ({"device": "cuda:2"}, cuda(2)),
        ({"device": "cpu"}, CPU),
        ({"visible": "5,7", "num_devices": 2}, cuda(0, physical="5")),
        ({"visible": "5,7", "num_devices": 2, "device": "cuda:1"}, cuda(1, physical="7")),
        ({"visible": GPU, "num_devices": 1}, cuda(0, physical=GPU)),
        ({"visible": MIG, "num_devices": 1}, cuda(0, physical=MIG)),
        (
            {"visible": f"{MIG},{OLD_MIG}", "num_devices": 1},
            cuda(0, physical=MIG, note=f"CUDA shows a process one MIG instance: of 2 named, the run uses {MIG}."),
        ),
        ({"launcher": "torchrun"}, cuda(0)),
        ({"launcher": "srun", "device": "cuda:3"}, cuda(3)),
        # No GPU.
        (NO_GPU, CPU),
        (NO_GPU | {"device": "cpu"}, CPU),
        (NO_GPU | {"device": "cpu", "visible": "0,,1"}, CPU),
        (NO_GPU | {"visible": ""}, DevicePlan("cpu", note="CUDA_VISIBLE_DEVICES is empty: the run is on the CPU.")),
        (
            NO_GPU | {"visible": "-1"},
            DevicePlan("cpu", note="CUDA_VISIBLE_DEVICES=-1 hides all GPUs: the run is on the CPU."),
        ),
        (
            NO_GPU | {"visible": "0,1"},
            DevicePlan(
                "cpu", note="CUDA_VISIBLE_DEVICES=0,1 names GPUs, but the driver shows none: the run is on the CPU."
            ),
        ),
        (
            NO_GPU | DP,
            DevicePlan("cpu", note="this process sees no GPU: --dp runs on the CPU as one process."),
        ),
        (
            NO_GPU | DP | {"visible": ""},
            DevicePlan("cpu", note="CUDA_VISIBLE_DEVICES is empty: --dp runs on the CPU as one process."),
        ),
        # nn.DataParallel.
        (DP, cuda(0, 1, 2, 3)),
        (DP | {"device": "cuda"}, cuda(0, 1, 2, 3)),
        (DP | {"visible": "1,3", "num_devices": 2}, cuda(0, 1, physical="1,3")),
        (DP | {"device_ids": "1,3"}, cuda(1, 3)),
        (DP | {"device_ids": "3,1"}, cuda(3, 1)),
        (DP | {"device": "cuda:1,3"}, cuda(1, 3)),
        ({"device": "cuda:1,3"}, cuda(1, 3)),
        ({"device": "cuda:1,3", "device_ids": "1,3"}, cuda(1, 3)),
        (DP | {"device_ids": "0,2", "visible": "4,5,6", "num_devices": 3}, cuda(0, 2, physical="4,6")),
        (DP | {"num_devices": 1}, cuda(0, note="--dp over one GPU: the run is on cuda:0, without nn.DataParallel.")),
        (DP | {"device_ids": "2"}, cuda(2, note="--dp over one GPU: the run is on cuda:2, without nn.DataParallel.")),
        (
            DP | {"visible": MIG, "num_devices": 1},
            cuda(0, physical=MIG, note="--dp over one GPU: the run is on cuda:0, without nn.DataParallel."),
        ),
        # Several processes.
        (FOURTH, cuda(3)),
        (FOURTH | {"device": "cuda"}, cuda(3)),
        (FOURTH | {"device": "cpu"}, CPU),
        (FOURTH | NO_GPU, CPU),
        (
            FOURTH | NO_GPU | {"visible": ""},
            DevicePlan("cpu", note="CUDA_VISIBLE_DEVICES is empty: the run is on the CPU."),
        ),
        (FOURTH | {"num_devices": 8}, cuda(3)),
        (FOURTH | {"visible": "7,6,5,4"}, cuda(3, physical="4")),
        (FOURTH | {"launcher": "environment"}, cuda(3)),
        (SECOND_NODE, cuda(1)),
        ({"rank": 1, "world_size": 2, "launcher": "torchrun", "num_devices": 1}, cuda(0)),  # one process a machine
        # SLURM: all GPUs of the node for every task, or one for each.
        (TASK, cuda(3)),
        (TASK | {"num_devices": 1, "visible": "3"}, cuda(0, physical="3")),
        (TASK | {"num_devices": 1, "visible": "0"}, cuda(0, physical="0")),
        (TASK | {"num_devices": 1, "visible": MIG, "launcher": "submitit"}, cuda(0, physical=MIG)),
    ],
)
def test_plans(changes: dict[str, Any], expected: DevicePlan) -> None:
    assert plan_devices(**(ALONE | changes)) == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            NO_GPU | {"device": "cuda"},
            "--device cuda: this process sees no GPU. Type --device auto, which then runs on the CPU.",
        ),
        (NO_GPU | {"device": "cuda:1,3"}, "--device cuda:1,3: this process sees no GPU"),
        (NO_GPU | {"device": "cuda", "visible": ""}, "--device cuda: CUDA_VISIBLE_DEVICES is empty. Type"),
        (NO_GPU | {"device": "cuda", "visible": "-1"}, "CUDA_VISIBLE_DEVICES=-1 hides all GPUs"),
        (NO_GPU | {"device": "cuda", "visible": "9"}, "CUDA_VISIBLE_DEVICES=9 names GPUs, but the driver shows none"),
        (NO_GPU | DP | {"device_ids": "1,x"}, "--device-ids 1,x: GPUs are numbers"),
        (
            NO_GPU | DP | {"device_ids": "1,3"},
            "--device-ids 1,3: this process sees no GPU. Type --dp alone, which then runs on the CPU.",
        ),
        (
            FOURTH | NO_GPU | {"device": "cuda", "visible": "9"},
            "names GPUs, but the driver shows none. Type --device auto, which then runs on the CPU. python -m "
            "launch.local --gpus sets this variable: for processes on the CPU, type --nproc N in its place. If SLURM "
            "set it to fake GPUs, add -- --device cpu",
        ),
        (NO_GPU | {"visible": "0,,1"}, "'' is not a GPU"),
        (FOURTH | NO_GPU | {"device": "cuda"}, "--device cuda: this process sees no GPU"),
        # Not visible.
        (
            {"device": "cuda:4"},
            "--device cuda:4: this process has no such GPU as cuda:4; it sees cuda:0 to cuda:3. Type --device auto.",
        ),
        ({"device": "cuda:1", "num_devices": 1}, "it sees cuda:0 only. Type --device auto."),
        (
            {"device": "cuda:5", "visible": "5,7", "num_devices": 2},
            "it sees cuda:0 to cuda:1; ids count the GPUs of CUDA_VISIBLE_DEVICES=5,7 from 0. Type --device auto.",
        ),
        (
            DP | {"device_ids": "1,3", "visible": "1,3", "num_devices": 2},
            "--device-ids 1,3: this process has no such GPU as cuda:3; it sees cuda:0 to cuda:1; ids count the GPUs of "
            "CUDA_VISIBLE_DEVICES=1,3 from 0. Type --dp alone, for all of these.",
        ),
        ({"device": "cuda:1,4"}, "--device cuda:1,4: this process has no such GPU as cuda:4"),
        # Named, but not there.
        (
            {"visible": "0,9", "num_devices": 1},
            "CUDA_VISIBLE_DEVICES=0,9 names 2 GPUs, but the driver shows 1: this machine has no 9, and CUDA stops "
            "there. `nvidia-smi -L` lists the GPUs. To use the first 1: CUDA_VISIBLE_DEVICES=0",
        ),
        (
            FOURTH | {"visible": "0,1,2,8", "num_devices": 3},
            "names 4 GPUs, but the driver shows 3: this machine has no 8",
        ),
        # Contradictions.
        (
            {"device_ids": "1,3"},
            "--device-ids 1,3 is for nn.DataParallel. Type --dp --device-ids 1,3, or for one GPU --device cuda:1",
        ),
        ({"device_ids": "1", "device": "cpu"}, "Type --dp --device-ids 1"),
        (DP | {"device": "cpu"}, "--dp uses several GPUs, and --device cpu uses none. Omit --dp or --device cpu."),
        (
            DP | {"device": "cuda:1,3", "device_ids": "0,1"},
            "--device cuda:1,3 and --device-ids 0,1 name different GPUs",
        ),
        ({"device": "cuda:1,3", "device_ids": "3,1"}, "name different GPUs"),  # another main device
        (DP | {"device": "cuda:1", "device_ids": "1,3"}, "name different GPUs"),
        # Several processes.
        (
            FOURTH | DP,
            "--dp and --device-ids are for one process, and this run has 4. Omit them under torchrun or srun, or "
            "start one process: python -m signs_dist.train --dp",
        ),
        (FOURTH | NO_GPU | DP, "are for one process, and this run has 4"),
        (FOURTH | {"device_ids": "1,3"}, "are for one process, and this run has 4"),
        (
            FOURTH | {"device": "cuda:1"},
            "--device cuda:1: this run has 4 processes, and each takes a GPU of its own. Omit --device; to "
            "choose the GPUs, set CUDA_VISIBLE_DEVICES, or type python -m launch.local --gpus 0,1",
        ),
        (FOURTH | {"device": "cuda:1,3"}, "--device cuda:1,3: this run has 4 processes"),
        (
            FOURTH | {"num_devices": 2},
            "this machine has 4 processes of the run, but rank 3 sees 2 GPUs. Type torchrun --nproc_per_node=2, or add "
            "--device cpu.",
        ),
        (SECOND_NODE | {"num_devices": 2}, "rank 5 sees 2 GPUs"),  # though its own local rank would fit
        (
            FOURTH | {"num_devices": 1, "visible": "6"},
            "4 processes of the run, but rank 3 sees 1 GPU (CUDA_VISIBLE_DEVICES=6). Type torchrun --nproc_per_node=1",
        ),
        (FOURTH | {"num_devices": 1, "launcher": "environment"}, "sees 1 GPU. Start 1 of them on each machine, or add"),
        (
            TASK | {"num_devices": 2},
            "4 processes of the run, but rank 3 sees 2 GPUs. Ask SLURM for --ntasks-per-node=2",
        ),
        # MIG.
        (
            DP | {"visible": f"{MIG},{OLD_MIG}", "num_devices": 1},
            "--dp cannot use the MIG instances of CUDA_VISIBLE_DEV",
        ),
        (DP | {"visible": f"{MIG},{OLD_MIG}", "num_devices": 2}, "CUDA shows a process one of them. Omit --dp"),
        (
            DP | {"visible": f"{MIG},{OLD_MIG}", "num_devices": 1, "device_ids": "0,1"},
            "--dp cannot use the MIG instances",
        ),
        (
            TASK | {"visible": f"{MIG},{OLD_MIG}", "num_devices": 1},
            "the 4 processes of this machine cannot share the MIG instances",
        ),
    ],
)
def test_contradictory_flags_and_missing_gpus_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_devices(**(ALONE | changes))
    assert told in str(caught.value)
