"""The config's sections on what learns, and how: network, loss, optimizer, schedule, moving average.

The docstrings below the settings are the manual, as in `settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from signs_dist.config.dotted_names import DottedName, is_dotted
from signs_dist.config.entries import fault_of_group
from signs_dist.config.section import Count, NotNegative, Pair, Positive, Probability, Rate, Section

ClassWeights = Literal["balanced"] | Annotated[tuple[NotNegative, ...], Field(strict=False)] | dict[str, NotNegative]


class ModelConfig(Section):
    """The network."""

    name: str = "signs_fast"
    """signs_fast, signs_net, mlp, torchvision:NAME, timm:NAME, or your own network as package.module:Class."""
    args: dict[str, Any] = Field(default={})
    """Arguments of the network, such as `channels: 32`."""
    weights: str | None = None
    """Weights to start from: a local file, or for torchvision: and timm: published weights by name, such as DEFAULT."""
    freeze: Literal["none", "backbone"] = "none"
    """backbone: train only the head; the other layers keep their weights and BatchNorm statistics."""
    thaw_after_epochs: Count | None = None
    """For freeze backbone: epochs after which the whole network trains. null: never."""
    cache_features: bool = False
    """Compute the frozen backbone's output of each image once, and train the head on it. Needs augment.backend=none."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Probability that an image skips a residual block in training, in networks that have it. null: their default."""
    gradient_checkpointing: bool = False
    """Compute the values within blocks again in the backward pass: less memory, more time, the same result."""


class LossConfig(Section):
    """The function that training minimizes."""

    name: Literal["cross_entropy", "focal", "bce", "mse", "l1"] | DottedName = "cross_entropy"
    """focal: for rare classes. bce compares logits with one-hot targets; mse and l1 softmax probabilities with them. Or
    your own, as package.module:make."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of each target that is spread over all classes. Default for focal: 0. mse and l1 take 0 only."""
    focal_gamma: Annotated[float, Field(ge=0, le=100)] = 2.0
    """For focal: a class that has probability p counts (1 - p) to this power. 0: as cross_entropy."""
    class_weights: ClassWeights | None = None
    """Against class imbalance: factor on the loss of each class's training images. balanced: the rarer, the larger."""
    args: dict[str, Any] = Field(default={})
    """Arguments of your own loss, such as `gamma: 2`."""

    @model_validator(mode="before")
    @classmethod
    def _default_to_no_smoothing(cls, values: Any) -> Any:
        # config.yaml of a run holds every setting, and must be legal for these losses too.
        name = values.get("name") if isinstance(values, dict) else None
        if name == "focal" or (isinstance(name, str) and _smooths_no_labels(name)):
            return {"label_smoothing": 0.0} | values
        return values

    @field_validator("class_weights", mode="before")
    @classmethod
    def _class_names_are_text(cls, value: Any) -> Any:
        # YAML reads the key of {0: 2.5} as a number.
        return {str(name): weight for name, weight in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _smoothing_has_a_meaning(self) -> LossConfig:
        if self.label_smoothing > 0 and _smooths_no_labels(self.name):
            raise ValueError(f"loss.label_smoothing does nothing for loss.name={self.name}. Set it to 0 or delete it.")
        return self


def _smooths_no_labels(loss: str) -> bool:
    return loss in ("mse", "l1") or is_dotted(loss)


OPTIMIZER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("betas", "eps"),
    "adamw": ("betas", "eps"),
    "adagrad": ("eps",),
    "rmsprop": ("momentum", "alpha", "eps"),
}
"""The settings that each optimizer reads in addition to lr and weight_decay."""


class OptimConfig(Section):
    """The optimizer."""

    name: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"] | DottedName = "sgd"
    """The optimizer of torch.optim with this name, or your own, as package.module:make."""
    lr: Rate = 0.1
    """Peak learning rate. It is used as written and never scaled by the batch or the number of processes."""
    weight_decay: NotNegative = 5e-4
    """Weight decay: an L2 term in the gradient; for adamw decoupled from the gradient."""
    decay_norms_and_biases: bool = False
    """Whether biases and the parameters of norm layers (all tensors with one dimension) decay too."""
    clip_norm: Positive | None = None
    """Largest 2-norm of the whole gradient; a longer gradient is scaled down to it. null: no clipping."""
    groups: tuple[dict[str, Any], ...] = Field(default=(), strict=False)
    """Parameters with their own lr or weight_decay: a list of `{match: head.*, lr: 1e-3}`. The first match wins."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor on the learning rate from each block to the block before it; the head has lr. null: one rate for all."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """For sgd and rmsprop. null: 0.9 for sgd, 0 for rmsprop."""
    nesterov: bool | None = None
    """For sgd. null: true if momentum is above 0."""
    betas: Pair | None = None
    """For adam and adamw: decay rates of the two moments. null: 0.9, 0.999."""
    eps: Positive | None = None
    """For all but sgd: added to the denominator. null: torch's default."""
    alpha: Probability | None = None
    """For rmsprop: smoothing constant. null: 0.99."""
    args: dict[str, Any] = Field(default={})
    """Arguments of your own optimizer, besides lr and weight_decay, such as `betas: [0.9, 0.99]`."""

    @model_validator(mode="after")
    def _groups_are_legal(self) -> OptimConfig:
        for number, entry in enumerate(self.groups, 1):
            if fault := fault_of_group(entry):
                raise ValueError(
                    f"optim.groups entry {number} {fault}. An entry is such as {{match: head.*, lr: 0.001, "
                    "weight_decay: 0}, with lr, weight_decay or both."
                )
        return self

    @model_validator(mode="after")
    def _arguments_are_legal(self) -> OptimConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "optim.nesterov=true needs optim.momentum above 0. Set optim.momentum, or optim.nesterov=false."
            )
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must each be at least 0 and below 1, not {list(self.betas)}.")
        return self


class ScheduleConfig(Section):
    """How the learning rate changes over the run: a factor on optim.lr that depends on the number of images seen."""

    name: Literal["constant", "step", "cosine", "one_cycle"] | DottedName = "one_cycle"
    """step: times step_factor every step_epochs. cosine: falls to final_factor. one_cycle: rises, then falls. Or your
    own, as package.module:make."""
    warmup_epochs: NotNegative = 0.0
    """For constant, step and cosine: epochs of linear rise from 0 at the start."""
    step_epochs: Annotated[float, Field(ge=0.001, le=1e9)] = 10.0
    """For step: epochs between two drops."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """For step: factor of each drop."""
    start_factor: Annotated[float, Field(ge=0, le=1)] = 0.04
    """For one_cycle: factor at the first image."""
    peak_at: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """For one_cycle: fraction of the run after which the peak is reached."""
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """For cosine and one_cycle: factor at the last image."""
    args: dict[str, Any] = Field(default={})
    """Arguments of your own schedule, such as `power: 0.9`."""


class EmaConfig(Section):
    """An exponential moving average of the weights. If it is on, the average is evaluated and written to model.pt."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the average that is kept at each step. null: no average."""
