"""Choose the floating-point type that a run computes in."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Literal

import torch

from signs_dist.errors import UserError

PrecisionName = Literal["float32", "bfloat16", "float16"]


@dataclasses.dataclass(frozen=True)
class Capability:
    """What a device computes in natively."""

    device_type: str
    has_bfloat16: bool


@dataclasses.dataclass(frozen=True)
class Precision:
    """The dtype of matrix products and convolutions; weights and sums are always float32."""

    name: PrecisionName
    device_type: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A context in which the forward pass computes in this precision."""
        if self.name == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, getattr(torch, self.name))

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler: float16 needs one for its small exponent range; for the others it does nothing."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "float16")


def choose_precision(requested: str, capability: Capability) -> Precision:
    """Settle `train.precision` for a device.

    Raises:
        UserError: float16 on a CPU, or bfloat16 on a GPU that only emulates it.
    """
    device_type = capability.device_type
    if requested == "auto":
        if capability.has_bfloat16:
            return Precision("bfloat16", device_type)
        return Precision("float16" if device_type == "cuda" else "float32", device_type)
    if requested == "float16" and device_type == "cpu":
        raise UserError("train.precision=float16 needs a GPU. Type train.precision=auto, bfloat16 or float32.")
    if requested == "bfloat16" and not capability.has_bfloat16 and device_type == "cuda":
        raise UserError("train.precision=bfloat16: this GPU has no bfloat16 arithmetic. Type train.precision=auto.")
    if requested == "bfloat16":
        return Precision("bfloat16", device_type)  # CPUs without it emulate it: slow, but the same numbers
    return Precision("float16" if requested == "float16" else "float32", device_type)


def find_capability(device: torch.device) -> Capability:
    """Find what `device` computes in."""
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return Capability("cuda", has_bfloat16=major >= 8)
    return Capability(device.type, has_bfloat16=_cpu_has_bfloat16())


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions (AVX512_BF16 or AMX); without them, it is slower than float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"))
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(probe()) for probe in probes if probe is not None)
