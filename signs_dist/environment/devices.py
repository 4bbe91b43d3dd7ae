"""Which devices a process uses: pure functions of its flags, its place in the run and the GPUs that CUDA shows it.

CUDA_VISIBLE_DEVICES renumbers GPUs: CUDA_VISIBLE_DEVICES=4,6 makes them cuda:0 and cuda:1, and the ids of all flags are
these new numbers. Messages show each GPU with its name in CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

from signs_dist.environment.installation import spell
from signs_dist.errors import UserError

_HEXADECIMAL = r"[0-9a-fA-F][0-9a-fA-F-]*"
_NUMBER = re.compile(r"[0-9]{1,4}")
_NAME_KINDS = (
    _NUMBER,
    re.compile(rf"GPU-{_HEXADECIMAL}"),
    re.compile(rf"MIG-(?:{_HEXADECIMAL}|GPU-{_HEXADECIMAL}/[0-9]+/[0-9]+)"),
)
_NO_DEVICES = ("", "-1", "NoDevFiles")
"""Values that hide all GPUs: empty, the usual -1, and SLURM's value for a job without GPUs."""


@dataclasses.dataclass(frozen=True)
class DevicePlan:
    """The devices of one process.

    Attributes:
        kind: `cpu` or `cuda`.
        indices: N of each cuda:N, the main device first; several for nn.DataParallel only; () on the CPU.
        physical: their names in CUDA_VISIBLE_DEVICES, or the indices if it is not set.
        note: one line for the user, or "".
    """

    kind: Literal["cpu", "cuda"]
    indices: tuple[int, ...] = ()
    physical: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What the flags ask for. `flag` is the flag as given; `ids` are the GPUs that it names, () for none."""

    flag: str
    kind: str
    ids: tuple[int, ...]
    is_parallel: bool


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What CUDA shows this process: the text and the names of CUDA_VISIBLE_DEVICES, and the number of GPUs."""

    visible: str | None
    names: tuple[str, ...] | None
    num_devices: int

    @property
    def num_instances(self) -> int:
        """MIG instances that CUDA_VISIBLE_DEVICES names."""
        return sum(name.startswith("MIG-") for name in self.names or ())


def parse_visible(text: str | None) -> tuple[str, ...] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES names, in order; () if it hides all, None if it is not set.

    Names are numbers, `GPU-<uuid or its beginning>`, `MIG-<uuid>` or `MIG-GPU-<uuid>/<instance>/<instance>` (CUDA
    programming guide, environment variables).

    Raises:
        UserError: an entry is none of these, or is given twice. CUDA would show fewer GPUs without a message.
    """
    if text is None:
        return None
    return () if text.strip() in _NO_DEVICES else _parse_names(text, "CUDA_VISIBLE_DEVICES=")


def parse_gpus(text: str) -> tuple[str, ...]:
    """The GPUs of `--gpus`: names that CUDA_VISIBLE_DEVICES takes, at least one. Raises `UserError`."""
    return _parse_names(text, "--gpus ")


def parse_ids(text: str, flag: str) -> tuple[int, ...]:
    """The ids of a flag such as `--device-ids 1,3`, in the given order.

    Raises:
        UserError: an entry is not a number from 0, or is given twice.
    """
    entries = text.split(",")
    if not all(_NUMBER.fullmatch(entry) for entry in entries):
        raise UserError(f"{flag} {_shown(text)}: GPUs are numbers from 0 with commas between them. Type {flag} 0,1")
    return _distinct_numbers(entries, f"{flag} ")


def parse_device(text: str) -> tuple[str, tuple[int, ...] | None]:
    """(kind, ids) of `--device`: auto, cpu, cuda, cuda:N or cuda:1,3; ids are None if none are given.

    Raises:
        UserError: anything else.
    """
    if text in ("auto", "cpu", "cuda"):
        return text, None
    kind, _, numbers = text.partition(":")
    entries = numbers.split(",")
    if kind != "cuda" or not all(_NUMBER.fullmatch(entry) for entry in entries):
        raise UserError(
            f"--device {_shown(text)}: it must be auto, cpu, cuda, cuda:N such as cuda:0, or cuda:1,3 for "
            f"nn.DataParallel over these two. Type --device auto"
        )
    return kind, _distinct_numbers(entries, "--device cuda:")


def plan_devices(
    *,
    device: str,
    data_parallel: bool,
    device_ids: str | None,
    visible: str | None,
    num_devices: int,
    rank: int,
    world_size: int,
    local_rank: int,
    local_world_size: int,
    launcher: str,
) -> DevicePlan:
    """The devices of one process.

    Args:
        device: `--device`.
        data_parallel: whether `--dp` is given.
        device_ids: `--device-ids`, or None.
        visible: CUDA_VISIBLE_DEVICES, or None.
        num_devices: GPUs that CUDA shows this process; ignored with `--device cpu`.
        rank, world_size, local_rank, local_world_size, launcher: as in `LaunchedProcess`.

    Raises:
        UserError: the flags contradict each other, or ask for GPUs that do not exist.
    """
    wanted = _read_flags(device, data_parallel, device_ids, world_size)
    if wanted.kind == "cpu":
        return DevicePlan("cpu")
    seen = _Seen(visible, parse_visible(visible), num_devices)
    if num_devices == 0:
        return _plan_without_gpu(wanted, seen)
    _require_all_shown(seen)
    if world_size > 1:
        return _plan_gpus((_index_of_process(seen, rank, local_rank, local_world_size, launcher),), seen)
    return _plan_parallel(wanted, seen) if wanted.is_parallel else _plan_single(wanted, seen)


def _read_flags(device: str, data_parallel: bool, device_ids: str | None, world_size: int) -> _Wanted:
    kind, numbers = parse_device(device)
    ids = None if device_ids is None else parse_ids(device_ids, "--device-ids")
    is_parallel = data_parallel or len(numbers or ()) > 1
    if world_size > 1:
        _refuse_for_several(device, numbers, data_parallel or ids is not None, world_size)
    if ids is not None and not is_parallel:
        raise UserError(
            f"--device-ids {device_ids} is for nn.DataParallel. Type --dp --device-ids {device_ids}, or for one GPU "
            f"--device cuda:{ids[0]}"
        )
    if kind == "cpu" and is_parallel:
        raise UserError("--dp uses several GPUs, and --device cpu uses none. Omit --dp or --device cpu.")
    if ids is not None and numbers is not None and ids != numbers:
        raise UserError(f"--device {device} and --device-ids {device_ids} name different GPUs. Omit one of them.")
    flag = f"--device {device}" if ids is None else f"--device-ids {device_ids}"
    return _Wanted(flag, kind, ids or numbers or (), is_parallel)


def _refuse_for_several(device: str, numbers: tuple[int, ...] | None, is_parallel: bool, world_size: int) -> None:
    if is_parallel:
        raise UserError(
            f"--dp and --device-ids are for one process, and this run has {world_size}. Omit them under torchrun or "
            f"srun, or start one process: python -m signs_dist.train --dp"
        )
    if numbers is not None:
        raise UserError(
            f"--device {device}: this run has {world_size} processes, and each takes a GPU of its own. Omit --device; "
            f"to choose the GPUs, set CUDA_VISIBLE_DEVICES, or type {spell('local')} --gpus 0,1"
        )


def _plan_without_gpu(wanted: _Wanted, seen: _Seen) -> DevicePlan:
    if wanted.kind == "cuda" or wanted.ids:
        way_out = "--dp alone" if wanted.is_parallel and wanted.kind == "auto" else "--device auto"
        named = ""
        if seen.names and not wanted.ids:
            named = (
                f" {spell('local')} --gpus sets this variable: for processes on the CPU, type --nproc N in its place. "
                "If SLURM set it to fake GPUs, add -- --device cpu"
            )
        raise UserError(f"{wanted.flag}: {_why_no_gpu(seen)}. Type {way_out}, which then runs on the CPU.{named}")
    if seen.names is None and not wanted.is_parallel:
        return DevicePlan("cpu")  # no flag and no variable asks for GPUs: nothing to note
    what = "--dp runs on the CPU as one process" if wanted.is_parallel else "the run is on the CPU"
    return DevicePlan("cpu", note=f"{_why_no_gpu(seen)}: {what}.")


def _plan_single(wanted: _Wanted, seen: _Seen) -> DevicePlan:
    _require_visible(wanted, seen)
    note = ""
    if seen.names is not None and seen.num_devices < seen.num_instances:
        note = f"CUDA shows a process one MIG instance: of {seen.num_instances} named, the run uses {seen.names[0]}."
    return _plan_gpus(wanted.ids or (0,), seen, note)


def _plan_parallel(wanted: _Wanted, seen: _Seen) -> DevicePlan:
    if seen.num_instances > 1:
        raise UserError(
            f"--dp cannot use the MIG instances of CUDA_VISIBLE_DEVICES={seen.visible}: CUDA shows a process one of "
            f"them. Omit --dp to run on the first instance, or name whole GPUs."
        )
    _require_visible(wanted, seen)
    indices = wanted.ids or tuple(range(seen.num_devices))
    note = f"--dp over one GPU: the run is on cuda:{indices[0]}, without nn.DataParallel." if len(indices) == 1 else ""
    return _plan_gpus(indices, seen, note)


def _plan_gpus(indices: tuple[int, ...], seen: _Seen, note: str = "") -> DevicePlan:
    named = dict(enumerate(seen.names or ()))
    return DevicePlan("cuda", indices, tuple(named.get(index, str(index)) for index in indices), note)


def _index_of_process(seen: _Seen, rank: int, local_rank: int, local_world_size: int, launcher: str) -> int:
    """N of cuda:N for one of several processes."""
    if seen.num_instances > 1 and local_world_size > 1:
        raise UserError(
            f"the {local_world_size} processes of this machine cannot share the MIG instances of CUDA_VISIBLE_DEVICES="
            f"{seen.visible}: CUDA shows each process the first. Start one process, or name whole GPUs."
        )
    if seen.num_devices == 1 and launcher in ("srun", "submitit"):
        return 0  # SLURM shows each task its own GPU, which CUDA calls cuda:0 in every task
    if local_world_size > seen.num_devices:
        renumbered = "" if seen.visible is None else f" (CUDA_VISIBLE_DEVICES={seen.visible})"
        raise UserError(
            f"this machine has {local_world_size} processes of the run, but rank {rank} sees "
            f"{_num_gpus(seen.num_devices)}{renumbered}. {_start_fewer(launcher, seen.num_devices)}, or "
            f"add --device cpu."
        )
    return local_rank


def _require_all_shown(seen: _Seen) -> None:
    names, count = seen.names, seen.num_devices
    # CUDA shows only one of several MIG instances; the functions that this concerns check it.
    if names is not None and count < len(names) and seen.num_instances <= 1:
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={seen.visible} names {_num_gpus(len(names))}, but the driver shows "
            f"{count}: this machine has no {names[count]}, and CUDA stops there. `nvidia-smi -L` lists the GPUs. To "
            f"use the first {count}: CUDA_VISIBLE_DEVICES={','.join(names[:count])}"
        )


def _require_visible(wanted: _Wanted, seen: _Seen) -> None:
    missing = next((number for number in wanted.ids if number >= seen.num_devices), None)
    if missing is not None:
        last = seen.num_devices - 1
        sees = "cuda:0 only" if last == 0 else f"cuda:0 to cuda:{last}"
        renumbers = f"; ids count the GPUs of CUDA_VISIBLE_DEVICES={seen.visible} from 0" if seen.visible else ""
        raise UserError(
            f"{wanted.flag}: this process has no such GPU as cuda:{missing}; it sees {sees}{renumbers}. "
            f"Type {'--dp alone, for all of these' if wanted.is_parallel else '--device auto'}."
        )


def _why_no_gpu(seen: _Seen) -> str:
    if seen.names is None:
        return "this process sees no GPU"
    if seen.names:
        return f"CUDA_VISIBLE_DEVICES={seen.visible} names GPUs, but the driver shows none"
    value = (seen.visible or "").strip()
    return f"CUDA_VISIBLE_DEVICES={value} hides all GPUs" if value else "CUDA_VISIBLE_DEVICES is empty"


def _parse_names(text: str, typed: str) -> tuple[str, ...]:
    # CUDA and torch allow spaces around numbers, not around names.
    entries = [entry.strip() if _NUMBER.fullmatch(entry.strip()) else entry for entry in text.split(",")]
    if not any(all(kind.fullmatch(entry) for entry in entries) for kind in _NAME_KINDS):
        wrong = next((entry for entry in entries if not any(kind.fullmatch(entry) for kind in _NAME_KINDS)), None)
        problem = "numbers, GPU-… and MIG-… are mixed" if wrong is None else f"{wrong!r} is not a GPU"
        raise UserError(
            f"{typed}{_shown(text)}: {problem}. Give numbers, such as 0,2, or names from `nvidia-smi -L`, such as "
            f"GPU-5d2a,GPU-81f0 or MIG-93c6, with commas and no spaces."
        )
    names = [str(int(entry)) if _NUMBER.fullmatch(entry) else entry for entry in entries]
    _refuse_repeats(names, typed)
    return tuple(names)


def _distinct_numbers(entries: Sequence[str], typed: str) -> tuple[int, ...]:
    numbers = tuple(int(entry) for entry in entries)
    _refuse_repeats([str(number) for number in numbers], typed)
    return numbers


def _refuse_repeats(entries: Sequence[str], typed: str) -> None:
    """Raise `UserError` if an entry is given twice; `typed` is the text before the entries, such as `--gpus `."""
    distinct = list(dict.fromkeys(entries))
    if len(distinct) < len(entries):
        repeated = next(entry for entry in distinct if entries.count(entry) > 1)
        raise UserError(
            f"{typed}{','.join(entries)}: {repeated} is given more than once. Type {typed}{','.join(distinct)}"
        )


def _start_fewer(launcher: str, num_devices: int) -> str:
    if launcher == "torchrun":
        return f"Type torchrun --nproc_per_node={num_devices}"
    if launcher in ("srun", "submitit"):
        return f"Ask SLURM for --ntasks-per-node={num_devices}"
    return f"Start {num_devices} of them on each machine"


def _num_gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _shown(text: str) -> str:
    return text if text.isprintable() and text and text == text.strip() else repr(text)
