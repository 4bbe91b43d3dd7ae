"""The config: one frozen, typed value that says everything about a run. Reading it from YAML is in config_source.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = Annotated[tuple[Finite, Finite, Finite], Field(strict=False)]
Pair = Annotated[tuple[float, float], Field(strict=False)]


class Section(BaseModel):
    """A part of the config. Frozen, unknown keys refused, no silent conversions (`"3"` is not 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class SyntheticConfig(Section):
    """The drawn data set that stands in when there are no photos."""

    train: Count = 1800
    """Number of drawn training images."""
    val: Count = 360
    """Number of drawn validation images."""
    test: Count = 360
    """Number of drawn test images."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the drawing. Apart from the run's seed: runs of several seeds share one data set."""


class DataConfig(Section):
    """Which images, and how they are read."""

    root: Annotated[str, Field(min_length=1)] | None = None
    """Folder with train, val and perhaps test images. null: data/64x64_SIGNS where it exists, else drawn hands."""
    image_size: Annotated[int, Field(ge=8, le=2048)] = 64
    """Side of the square images in pixels. Files of another size are resized when read."""
    storage: Literal["packed", "files"] = "packed"
    """packed: decoded once into a memory-mapped file. files: each image is decoded each time it is read."""
    cache: Annotated[str, Field(min_length=1)] = "data/cache"
    """Folder for packed images."""
    mean: Triple = (0.5, 0.5, 0.5)
    """Subtracted from the pixels (scaled to 0..1), per channel. ImageNet weights want 0.485, 0.456, 0.406."""
    std: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)] = (0.5, 0.5, 0.5)
    """The pixels are divided by it after that, per channel. ImageNet weights want 0.229, 0.224, 0.225."""
    num_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """DataLoader worker processes. auto: none for packed images, else as many as usable cores, less one on a CPU."""
    prefetch: Count = 2
    """Batches that each worker prepares ahead."""
    pin_memory: bool | Literal["auto"] = "auto"
    """Page-locked host memory for faster copies to a GPU. auto: only with a GPU."""
    order: Literal["shuffled", "balanced"] = "shuffled"
    """Order of the training images. balanced: each class as often as every other, small classes repeating."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """The drawn data set, if it is used."""


class AugmentConfig(Section):
    """Random changes to training images. Each image's draw depends on (seed, epoch, image) alone."""

    backend: Literal["batch", "torchvision"] = "batch"
    """batch: the settings below, a whole batch at once on the device. torchvision: `transforms`, image by image."""
    flip: Probability = 0.5
    """Probability of a left-right mirror."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 25.0
    """Rotation, uniform in ± this many degrees."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Shift along each axis, uniform in ± this share of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Zoom by a factor uniform in 1 ± this."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.2
    """All pixels times a factor uniform in 1 ± this."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Distance of all pixels from the image's mean times a factor uniform in 1 ± this."""
    cutout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Side of a square, as a share of the image's, that is blanked with the image's mean. 0: none."""
    transforms: tuple[dict[str, dict[str, Any]], ...] = Field(default=(), strict=False)
    """For backend torchvision: a list of `Name: {argument: value}` from torchvision.transforms.v2, in order."""

    @model_validator(mode="after")
    def _transforms_match_backend(self) -> AugmentConfig:
        if self.transforms and self.backend == "batch":
            raise ValueError("augment.transforms is read only with augment.backend=torchvision. Set that, or drop it.")
        if not self.transforms and self.backend == "torchvision":
            raise ValueError(
                "augment.backend=torchvision needs augment.transforms, such as [{RandomRotation: {degrees: 25}}]."
            )
        wrong = [entry for entry in self.transforms if len(entry) != 1]
        if wrong:
            raise ValueError(f"augment.transforms wants one `Name: {{...}}` an entry, not {wrong[0]}.")
        return self


class ModelConfig(Section):
    """The network."""

    name: str = "signs_fast"
    """signs_fast, signs_net, mlp, torchvision:NAME, or package.module:Class of your own."""
    args: dict[str, Any] = {}
    """Arguments of the network by name, such as `channels: 32`."""
    weights: str | None = None
    """Weights to start from: a local file, or for torchvision networks an enum name such as DEFAULT."""
    freeze: Literal["none", "backbone"] = "none"
    """backbone: train the head only; the rest keeps its weights and BatchNorm statistics."""


class LossConfig(Section):
    """What training makes small."""

    name: Literal["cross_entropy", "bce", "mse", "l1"] = "cross_entropy"
    """bce, mse and l1 compare with one-hot targets: bce the logits, mse and l1 the softmax probabilities."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each target spread over all classes. For cross_entropy and bce; 0 for the others."""

    @model_validator(mode="before")
    @classmethod
    def _no_smoothing_where_none_is_read(cls, values: Any) -> Any:
        # So that the written config, which names every setting, is legal for these losses too.
        if isinstance(values, dict) and values.get("name") in ("mse", "l1"):
            return {"label_smoothing": 0.0} | values
        return values

    @model_validator(mode="after")
    def _smoothing_has_a_meaning(self) -> LossConfig:
        if self.label_smoothing > 0 and self.name in ("mse", "l1"):
            raise ValueError(f"loss.label_smoothing does nothing for loss.name={self.name}. Set it to 0 or drop it.")
        return self


OPTIMIZER_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("betas", "eps"),
    "adamw": ("betas", "eps"),
    "adagrad": ("eps",),
    "rmsprop": ("momentum", "alpha", "eps"),
}
"""The settings that each optimizer reads beside lr and weight_decay."""


class OptimConfig(Section):
    """The optimizer."""

    name: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"] = "sgd"
    """torch.optim's optimizer of that name."""
    lr: Positive = 0.1
    """Peak learning rate for the global batch, as written: nothing scales it."""
    weight_decay: NotNegative = 5e-4
    """Decay of weights: an L2 term in the gradient, decoupled for adamw."""
    decay_norms_and_biases: bool = False
    """Whether norm layers' parameters and biases (all tensors of one dimension) decay too."""
    clip_norm: Positive | None = None
    """Largest allowed 2-norm of the whole gradient; longer ones are scaled down. null: no clipping."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """sgd and rmsprop. null: 0.9 for sgd, 0 for rmsprop."""
    nesterov: bool | None = None
    """sgd. null: true where there is momentum."""
    betas: Pair | None = None
    """adam and adamw: decay rates of the two moments. null: 0.9, 0.999."""
    eps: Positive | None = None
    """All but sgd: added to the denominator. null: torch's default."""
    alpha: Probability | None = None
    """rmsprop: smoothing constant. null: 0.99."""

    @model_validator(mode="after")
    def _arguments_belong(self) -> OptimConfig:
        for key in ("momentum", "nesterov", "betas", "eps", "alpha"):
            if getattr(self, key) is not None and key not in OPTIMIZER_ARGUMENTS[self.name]:
                readers = ", ".join(name for name, keys in OPTIMIZER_ARGUMENTS.items() if key in keys)
                raise ValueError(
                    f"optim.{key} is not read by optim.name={self.name} (it is by {readers}). "
                    f"Set it to null, or choose another optimizer."
                )
        if self.nesterov and self.momentum == 0:
            raise ValueError("optim.nesterov=true needs optim.momentum above 0. Set momentum, or nesterov to false.")
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must each be at least 0 and below 1, not {list(self.betas)}.")
        return self


class ScheduleConfig(Section):
    """The learning rate over the run, as a factor on optim.lr: a pure function of images seen."""

    name: Literal["constant", "step", "cosine", "one_cycle"] = "one_cycle"
    """constant; step: times `step_factor` each `step_epochs`; cosine to `final_factor`; one_cycle: up, then down."""
    warmup_epochs: NotNegative = 0.0
    """constant, step, cosine: epochs of linear rise from 0 at the start."""
    step_epochs: Positive = 10.0
    """step: epochs between two drops."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """step: factor of each drop."""
    start_factor: Annotated[float, Field(ge=0, le=1)] = 0.04
    """one_cycle: factor at the first image."""
    peak_at: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """one_cycle: share of the run at which the peak is reached."""
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """cosine, one_cycle: factor at the last image."""


class EmaConfig(Section):
    """An exponential moving average of the weights, evaluated and saved in place of the last ones."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the average that stays at each step. null: no average."""


class TrainConfig(Section):
    """How long, how much at once, in which arithmetic."""

    epochs: Count = 20
    """Passes over the training images."""
    global_batch: Count = 32
    """Images per optimizer step over all processes together. There is no other batch size."""
    micro_batch: Count | None = None
    """Images per forward pass, what BatchNorm normalises over. null: the global batch over the processes."""
    sync_batchnorm: bool = False
    """BatchNorm over the micro-batches of all processes at once, for small ones. Several GPUs only."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the machine computes in it natively, float16 on older GPUs, else float32."""
    epoch_steps: Count | None = None
    """End each epoch after so many steps, for a short trial of a long run. null: all that the images give."""
    channels_last: bool = True
    """Memory order of images and weights; faster convolutions on CPUs and on GPUs with tensor cores."""
    num_threads: Count | Literal["auto"] = "auto"
    """CPU threads of one operation. auto: OMP_NUM_THREADS, else this process's share of the cores; 1 if exact."""


class EvaluateConfig(Section):
    """How validation and test images are judged."""

    batch: Count = 64
    """Images per forward pass; processes take whole batches. Has no influence on the result but rounding."""
    flip_average: bool = False
    """Average the predictions for each image and its mirror: twice the time, a little more accuracy."""
    every_epochs: Count = 1
    """Validate each so many epochs, and after the last one."""


class ProcessesConfig(Section):
    """How long the processes of a run wait for each other."""

    rendezvous_seconds: Positive = 60.0
    """For all processes to arrive at the start."""
    timeout_seconds: Positive = 120.0
    """For a process that has stopped answering; the run then ends."""
    stall_seconds: Positive = 60.0
    """Without progress, after which each process writes its stack to its log."""


class CheckpointConfig(Section):
    """When the state of a run is saved, beside the end of each epoch and a stop signal, and what is kept."""

    every_steps: Count | None = None
    """Also each so many steps of the run. null: not by steps."""
    every_seconds: Positive | None = 300.0
    """Also when so many seconds have passed since the last save. null: not by time."""
    keep: Count = 3
    """How many of the newest checkpoints to keep, beside the best."""
    on_error: Literal["stop", "warn"] = "stop"
    """What a save that fails (a full disk) does: stop ends the run with exit code 74, warn goes on without it."""
    takeover_seconds: Annotated[float, Field(ge=2, allow_inf_nan=False)] = 30.0
    """After which a run that gives no sign of life, on a machine that cannot be asked, counts as dead."""


class LogConfig(Section):
    """What is written down while training."""

    every_steps: Count = 25
    """A line in metrics.jsonl each so many steps, beside one per epoch."""
    samples: bool = False
    """Write which images each step trained on to logs/samples-rankN.jsonl, to check that none is lost or repeated."""


class Config(Section):
    """Everything about a run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Fixes initial weights, order of images, augmentation and dropout."""
    exact: bool = False
    """The same weights bit for bit on any number of processes: gradients are summed in one fixed order."""
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: EmaConfig = EmaConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    processes: ProcessesConfig = ProcessesConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        if self.exact and self.train.micro_batch is None:
            largest = max(1, self.train.global_batch // 4)
            size = next(size for size in range(largest, 0, -1) if self.train.global_batch % size == 0)
            raise ValueError(
                "exact=true needs train.micro_batch, since BatchNorm and dropout work on micro-batches. "
                f"Type train.micro_batch={size}, for 1 to {self.train.global_batch // size} processes."
            )
        if self.exact and self.train.sync_batchnorm:
            raise ValueError("exact=true normalises over micro-batches. Set train.sync_batchnorm=false.")
        if self.schedule.name != "one_cycle" and self.schedule.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs:g} leaves nothing of "
                f"train.epochs={self.train.epochs}. Warm up for less, or train longer."
            )
        if self.schedule.name == "one_cycle" and self.schedule.warmup_epochs:
            raise ValueError(
                "schedule.warmup_epochs is not read by schedule.name=one_cycle: its rise ends at schedule.peak_at."
            )
        return self


def section_of(annotation: Any) -> type[Section] | None:
    """The section class that a field's annotation names, or None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def flatten(config: BaseModel, prefix: str = "") -> list[tuple[str, Any]]:
    """All (dotted key, value) pairs of a config in the schema's order."""
    rows: list[tuple[str, Any]] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            rows += flatten(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows
