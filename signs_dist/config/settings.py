"""The config: one frozen, typed value with everything about a run.

The docstrings below the settings are the manual: `--explain` and docs/settings.md show them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from signs_dist.config.section import (
    WEEK_SECONDS,
    Count,
    Deviation,
    NotNegative,
    Pair,
    Positive,
    Probability,
    Rate,
    Seconds,
    Section,
    Triple,
    WaitSeconds,
)

BestBy = Literal["accuracy", "loss", "macro_f1"]
Dashboard = Literal["tensorboard", "wandb", "mlflow", "trackio"]
DrawnImages = Annotated[int, Field(ge=1, le=10_000_000)]


class SyntheticConfig(Section):
    """The drawn data set, used when there are no photos."""

    train: DrawnImages = 1800
    """Number of drawn training images."""
    val: DrawnImages = 360
    """Number of drawn validation images."""
    test: DrawnImages = 360
    """Number of drawn test images."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the drawing. It is not the run's seed, so runs with different seeds share one data set."""


class DataConfig(Section):
    """Which images, and how they are read."""

    root: Annotated[str, Field(min_length=1)] | None = None
    """Folder with train, val and optional test images. null: data/64x64_SIGNS if it exists, else drawn hands."""
    image_size: Annotated[int, Field(ge=8, le=2048)] = 64
    """Side of the square images in pixels. Files of another size are resized when read."""
    storage: Literal["packed", "files"] = "packed"
    """packed: images are decoded once into a memory-mapped file. files: each image is decoded each time it is read."""
    cache: Annotated[str, Field(min_length=1)] = "data/cache"
    """Folder for packed images."""
    max_megapixels: Annotated[float, Field(gt=0, le=10_000)] = 250.0
    """Largest width times height of an image, in millions; a larger image is refused. Phones reach 200."""
    mean: Triple = (0.5, 0.5, 0.5)
    """Subtracted from the pixels (scaled to 0..1), per channel. For ImageNet weights: 0.485, 0.456, 0.406."""
    std: Annotated[tuple[Deviation, Deviation, Deviation], Field(strict=False)] = (0.5, 0.5, 0.5)
    """Divides the pixels after mean is subtracted, per channel. For ImageNet weights: 0.229, 0.224, 0.225."""
    num_workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """DataLoader worker processes. auto: 0 for packed images, else the usable cores, minus 1 when training on a CPU."""
    prefetch: Annotated[int, Field(ge=1, le=1024)] = 2
    """Batches that each worker prepares ahead."""
    timeout_seconds: Annotated[float, Field(gt=0, le=1_000_000)] = 1800.0
    """Seconds that one batch may take to be read and decoded before the run ends. A wait of 10 s prints a line."""
    pin_memory: bool | Literal["auto"] = "auto"
    """Use page-locked host memory for faster copies to a GPU. auto: true on a GPU, else false."""
    order: Literal["shuffled", "balanced"] = "shuffled"
    """Order of the training images. balanced, against class imbalance: every class equally often; images repeat."""
    synthetic: SyntheticConfig = SyntheticConfig()


class AugmentConfig(Section):
    """Random changes to training images. What happens to an image depends only on the seed, the epoch and the image."""

    backend: Literal["batch", "torchvision", "none"] = "batch"
    """batch: the settings below, on whole batches, on the device. torchvision: `transforms`, image by image. none."""
    flip: Probability = 0.5
    """Probability of a left-right mirror."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 25.0
    """Rotation by an angle uniform in ± this many degrees."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Shift along each axis, uniform in ± this fraction of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Zoom by a factor uniform in 1 ± this."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.2
    """All pixels are multiplied by a factor uniform in 1 ± this."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The pixels' distances from the image's mean are multiplied by a factor uniform in 1 ± this."""
    cutout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Side of a square, as a fraction of the image's side, that is filled with the image's mean. 0: no square."""
    transforms: tuple[dict[str, dict[str, Any]], ...] = Field(default=(), strict=False)
    """For backend torchvision: a list of `Name: {argument: value}` from torchvision.transforms.v2, in order."""

    @model_validator(mode="after")
    def _transforms_match_backend(self) -> AugmentConfig:
        if self.transforms and self.backend != "torchvision":
            raise ValueError(
                "augment.transforms is read only with augment.backend=torchvision. Set augment.backend, or delete "
                "augment.transforms."
            )
        if not self.transforms and self.backend == "torchvision":
            raise ValueError(
                "augment.backend=torchvision needs augment.transforms, such as [{RandomRotation: {degrees: 25}}]."
            )
        wrong = [entry for entry in self.transforms if len(entry) != 1]
        if wrong:
            raise ValueError(f"augment.transforms takes one `Name: {{...}}` per entry, not {wrong[0]}.")
        return self


class ModelConfig(Section):
    """The network."""

    name: str = "signs_fast"
    """signs_fast, signs_net, mlp, torchvision:NAME, or your own network as package.module:Class."""
    args: dict[str, Any] = Field(default={})
    """Arguments of the network, such as `channels: 32`."""
    weights: str | None = None
    """Weights to start from: a local file, or for torchvision networks a name of published weights, such as DEFAULT."""
    freeze: Literal["none", "backbone"] = "none"
    """backbone: train only the head; the other layers keep their weights and BatchNorm statistics."""
    cache_features: bool = False
    """Compute the frozen backbone's output of each image once, and train the head on it. Needs augment.backend=none."""


class LossConfig(Section):
    """The function that training minimizes."""

    name: Literal["cross_entropy", "bce", "mse", "l1"] = "cross_entropy"
    """bce compares logits with one-hot targets; mse and l1 compare softmax probabilities with them."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of each target that is spread over all classes. For cross_entropy and bce; 0 for the others."""

    @model_validator(mode="before")
    @classmethod
    def _default_to_no_smoothing(cls, values: Any) -> Any:
        # config.yaml of a run holds every setting, and must be legal for these losses too.
        if isinstance(values, dict) and values.get("name") in ("mse", "l1"):
            return {"label_smoothing": 0.0} | values
        return values

    @model_validator(mode="after")
    def _smoothing_has_a_meaning(self) -> LossConfig:
        if self.label_smoothing > 0 and self.name in ("mse", "l1"):
            raise ValueError(f"loss.label_smoothing does nothing for loss.name={self.name}. Set it to 0 or delete it.")
        return self


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

    name: Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"] = "sgd"
    """The optimizer of torch.optim with this name."""
    lr: Rate = 0.1
    """Peak learning rate. It is used as written and never scaled by the batch or the number of processes."""
    weight_decay: NotNegative = 5e-4
    """Weight decay: an L2 term in the gradient; for adamw decoupled from the gradient."""
    decay_norms_and_biases: bool = False
    """Whether biases and the parameters of norm layers (all tensors with one dimension) decay too."""
    clip_norm: Positive | None = None
    """Largest 2-norm of the whole gradient; a longer gradient is scaled down to it. null: no clipping."""
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

    @model_validator(mode="after")
    def _arguments_belong(self) -> OptimConfig:
        for key in ("momentum", "nesterov", "betas", "eps", "alpha"):
            if getattr(self, key) is not None and key not in OPTIMIZER_ARGUMENTS[self.name]:
                readers = ", ".join(name for name, keys in OPTIMIZER_ARGUMENTS.items() if key in keys)
                raise ValueError(
                    f"optim.{key} is not read by optim.name={self.name}; it is read by {readers}. "
                    f"Set it to null, or choose another optimizer."
                )
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "optim.nesterov=true needs optim.momentum above 0. Set optim.momentum, or optim.nesterov=false."
            )
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must each be at least 0 and below 1, not {list(self.betas)}.")
        return self


class ScheduleConfig(Section):
    """How the learning rate changes over the run: a factor on optim.lr that depends on the number of images seen."""

    name: Literal["constant", "step", "cosine", "one_cycle"] = "one_cycle"
    """step: times step_factor every step_epochs. cosine: falls to final_factor. one_cycle: rises, then falls."""
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


class EmaConfig(Section):
    """An exponential moving average of the weights. If it is on, the average is evaluated and written to model.pt."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the average that is kept at each step. null: no average."""


class TrainConfig(Section):
    """Length of the run, batch, number format and threads."""

    epochs: Count = 20
    """Passes over the training images."""
    patience: Count | None = None
    """End after so many epochs without a better validation, see evaluate.best_by. null: train all epochs."""
    final_weights: Literal["last", "best"] = "last"
    """Which weights model.pt holds: those after the last epoch, or those of the best epoch, see evaluate.best_by."""
    global_batch: Count = 32
    """Images per optimizer step, summed over all processes. There is no batch size per GPU."""
    micro_batch: Count | None = None
    """Images per forward pass; BatchNorm normalises over them. null: global_batch divided by the processes."""
    sync_batchnorm: bool = False
    """BatchNorm normalises over the micro-batches of all processes together. Needs several GPUs."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 if the hardware supports it, float16 on older GPUs, else float32."""
    epoch_steps: Count | None = None
    """End each epoch after this many steps, for a short trial of a long run. null: all full batches of the images."""
    channels_last: bool = True
    """Memory format of images and weights. true: faster convolutions on CPUs and on GPUs with tensor cores."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    """CPU threads per operation. auto: 1 if exact, else OMP_NUM_THREADS, else this process's share of the cores."""


class EvaluateConfig(Section):
    """How validation and test images are evaluated."""

    batch: Count = 64
    """Images per forward pass. It changes the result by rounding only."""
    flip_average: bool = False
    """Average the predictions for each image and its mirror image. It takes twice the time."""
    every_epochs: Count = 1
    """Number of epochs from one validation to the next. The last epoch is always validated."""
    best_by: BestBy = "accuracy"
    """Which epoch is the best on the validation images: by accuracy, loss, or macro_f1, the classes' mean F1 score."""


class ProcessesConfig(Section):
    """How long the processes of a run wait for each other."""

    rendezvous_seconds: WaitSeconds = 60.0
    """Seconds in which all processes must arrive at the start."""
    timeout_seconds: WaitSeconds = 120.0
    """Seconds after which the run ends because a process does not answer."""
    stall_seconds: WaitSeconds = 60.0
    """Seconds without progress after which each process writes its stack to its log."""


class CheckpointConfig(Section):
    """When checkpoints are saved, in addition to those at each epoch's end and at a stop signal, and which are kept."""

    every_steps: Count | None = None
    """Number of steps from one save to the next. null: no saves by steps."""
    every_seconds: Seconds | None = 300.0
    """Save when this many seconds have passed since the last save. null: no saves by time."""
    keep: Count = 3
    """How many of the newest checkpoints to keep, in addition to the best."""
    on_error: Literal["stop", "warn"] = "stop"
    """When a save fails, as on a full disk: stop ends the run with exit code 74, warn continues without the save."""
    takeover_seconds: Annotated[float, Field(ge=2, le=WEEK_SECONDS)] = 30.0
    """Seconds without a sign of life after which a run on another machine counts as ended, and its folder as free."""


class LogConfig(Section):
    """What is written while training."""

    every_steps: Count = 25
    """Number of steps from one line of metrics.jsonl to the next, in addition to a line per epoch."""
    samples: bool = False
    """Write which images each step used to logs/samples-rankN.jsonl, to check that none is lost or repeated."""
    report: bool = True
    """Write report.html into the run folder when the run ends: finished, stopped or failed."""
    to: Annotated[tuple[Dashboard, ...], Field(strict=False)] = ()
    """Dashboards that get the run while it trains; each is an extra, as in `pip install 'signs_dist[wandb]'`."""

    @field_validator("to", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("to", mode="after")
    @classmethod
    def _each_once(cls, value: tuple[Dashboard, ...]) -> tuple[Dashboard, ...]:
        return tuple(dict.fromkeys(value))


class Config(Section):
    """Everything about a run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Determines the initial weights, the order of the images, augmentation and dropout."""
    exact: bool = False
    """Exact mode: the same weights bit for bit on any number of processes. Needs train.micro_batch."""
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
                "exact=true needs train.micro_batch, because BatchNorm and dropout work on micro-batches. "
                f"Type train.micro_batch={size}, for 1 to {self.train.global_batch // size} processes."
            )
        if self.exact and self.train.sync_batchnorm:
            raise ValueError("exact=true needs BatchNorm over each micro-batch. Set train.sync_batchnorm=false.")
        if self.model.cache_features:
            self._require_fixed_features()
        if self.schedule.name != "one_cycle" and self.schedule.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs:g} is not shorter than "
                f"train.epochs={self.train.epochs}. Warm up for less, or train longer."
            )
        if self.schedule.name == "one_cycle" and self.schedule.warmup_epochs:
            raise ValueError(
                "schedule.warmup_epochs is not read by schedule.name=one_cycle, which rises until schedule.peak_at. "
                "Delete schedule.warmup_epochs, or set schedule.name=cosine."
            )
        return self

    def _require_fixed_features(self) -> None:
        """Refuse what would make the features of an image differ from one pass to the next."""
        if self.model.freeze != "backbone":
            raise ValueError(
                "model.cache_features=true needs a backbone that does not change. Set model.freeze=backbone, or "
                "model.cache_features=false."
            )
        if self.augment.backend != "none":
            raise ValueError(
                "model.cache_features=true computes the features of each image once, so augmentation would have no "
                "effect. Set augment.backend=none, or model.cache_features=false."
            )
        if self.evaluate.flip_average:
            raise ValueError(
                "model.cache_features=true keeps no features of mirrored images. Set evaluate.flip_average=false, or "
                "model.cache_features=false."
            )
