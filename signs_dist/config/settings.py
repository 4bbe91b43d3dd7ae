"""The config: one frozen, typed value with everything about a run.

The docstrings below the settings are the manual: `--explain` and docs/settings.md show them.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from signs_dist.config.augment_settings import AugmentConfig as AugmentConfig
from signs_dist.config.data_settings import DataConfig as DataConfig
from signs_dist.config.data_settings import SyntheticConfig as SyntheticConfig
from signs_dist.config.dotted_names import DottedNames, is_dotted
from signs_dist.config.learning_settings import OPTIMIZER_ARGUMENTS as OPTIMIZER_ARGUMENTS
from signs_dist.config.learning_settings import EmaConfig as EmaConfig
from signs_dist.config.learning_settings import LossConfig as LossConfig
from signs_dist.config.learning_settings import ModelConfig as ModelConfig
from signs_dist.config.learning_settings import OptimConfig as OptimConfig
from signs_dist.config.learning_settings import ScheduleConfig as ScheduleConfig
from signs_dist.config.section import (
    WEEK_SECONDS,
    Count,
    Seconds,
    Section,
    WaitSeconds,
)
from signs_dist.config.unread import refuse_unread

AS_SAVED = {"is_saved": True}
"""Context of `Config.model_validate` for what a run has written: a setting that nothing reads is no mistake there."""

BestBy = Literal["accuracy", "loss", "macro_f1"]
Dashboard = Literal["tensorboard", "wandb", "mlflow", "trackio"]


Part = Annotated[float, Field(gt=0, lt=1)]
SMALLEST_SIDE = 8
"""Of an image, in pixels."""


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
    progressive_sizes: Annotated[
        tuple[Annotated[tuple[Part, Part], Field(strict=False)], ...], Field(strict=False)
    ] = ()
    """Smaller training images first: [[0.5, 0.4], [0.75, 0.7]] has half of data.image_size until 0.4 of the epochs,
    then three quarters of it until 0.7, then all of it. Small images take less time."""
    epoch_steps: Count | None = None
    """End each epoch after this many steps, for a short trial of a long run. null: all full batches of the images."""
    gradient_compression: Literal["none", "bfloat16", "powersgd"] = "none"
    """What several processes send of their gradients, in fast mode. bfloat16: half of the bytes. powersgd: an
    approximation of rank powersgd_rank, for slow networks. It changes the result beyond rounding."""
    powersgd_rank: Annotated[int, Field(ge=1, le=1024)] = 1
    """Rank of the approximation: a higher rank is closer, and sends more."""
    powersgd_start_step: Annotated[int, Field(ge=2, le=2**31 - 1)] = 1000
    """Steps in which gradients are sent whole before PowerSGD begins: at the start, and after a resume or a thaw."""
    channels_last: bool = True
    """Memory format of images and weights. true: faster convolutions on CPUs and on GPUs with tensor cores."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    """CPU threads per operation. auto: 1 if exact, else OMP_NUM_THREADS, else this process's share of the cores; fewer
    while other programs keep these cores busy."""
    autotune: bool = False
    """Try numbers of threads and memory formats for a few seconds at the start, and train in the fastest way. What was
    chosen is kept for this machine and network. Without effect on the result but rounding; not in exact mode."""
    shard_optimizer: bool = False
    """Each process keeps and steps a part of the optimizer and of the moving average: less memory, the same result."""
    allocator: Literal["auto", "system"] = "auto"
    """auto: on a CPU, glibc's malloc keeps freed memory for the next step, which is faster. system: malloc as it is."""
    graph: bool | Literal["auto"] = False
    """A training step as a CUDA graph: the GPU then does not wait for Python. auto: where it can be done. It has not
    been run on a GPU yet, so it is off by default."""
    compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = False
    """Train the network through torch.compile, in one of its modes; true: default. Takes a minute at the start."""

    @model_validator(mode="after")
    def _sizes_rise(self) -> TrainConfig:
        for before, after in itertools.pairwise(self.progressive_sizes):
            if not (before[0] < after[0] and before[1] < after[1]):
                raise ValueError(
                    f"train.progressive_sizes has {list(after)} after {list(before)}. Both the size and the part of "
                    f"the epochs must rise, as in [[0.5, 0.4], [0.75, 0.7]]."
                )
        return self


class EvaluateConfig(Section):
    """How validation and test images are evaluated."""

    batch: Count = 64
    """Images per forward pass. It changes the result by rounding only."""
    flip_average: bool = False
    """Average the predictions for each image and its mirror image. It takes twice the time."""
    ten_crop: bool = False
    """Average the predictions for four corners, the centre, and the mirror of each. It takes ten times the time."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.875
    """For ten_crop: side of a corner or the centre, as a fraction of the image's side. It is enlarged to image_size."""
    every_epochs: Count = 1
    """Number of epochs from one validation to the next. The last epoch is always validated."""
    best_by: BestBy = "accuracy"
    """Which epoch is the best on the validation images: by accuracy, loss, or macro_f1, the classes' mean F1 score."""
    metrics: DottedNames = ()
    """Your own metrics, each as package.module:make, computed from the predictions of all images of a split."""

    @property
    def ten_crop_side(self) -> float | None:
        """The side of the ten crops as a fraction of the image's side; None without `ten_crop`."""
        return self.crop if self.ten_crop else None


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
    keep_every_epochs: Count | None = None
    """Also keep, for good, the checkpoint of each epoch that is a multiple of this. An exact run can be proved between
    two of them. Each takes the room of the weights, their average and the optimizer's state. null: none."""
    on_error: Literal["stop", "warn"] = "stop"
    """When a save fails, as on a full disk: stop ends the run with exit code 74, warn continues without the save."""
    takeover_seconds: Annotated[float, Field(ge=2, le=WEEK_SECONDS)] = 30.0
    """Seconds without a sign of life after which a run on another machine counts as ended, and its folder as free."""


class CheckConfig(Section):
    """How an exact run looks for hardware that computes something else."""

    recompute_every: Count | None = None
    """Steps from one check to the next: each process recomputes a micro-batch of another. 1000 is usual. null: none."""


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
    check: CheckConfig = CheckConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _all_is_read(self, info: ValidationInfo) -> Config:
        if info.context != AS_SAVED:
            refuse_unread(self)
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        if self.loss.class_weights == "balanced" and self.data.order == "balanced":
            raise ValueError(
                "loss.class_weights=balanced and data.order=balanced would make up for class imbalance twice. "
                "Set loss.class_weights=null, or data.order=shuffled."
            )
        if self.exact and self.train.micro_batch is None:
            largest = max(1, self.train.global_batch // 4)
            size = next(size for size in range(largest, 0, -1) if self.train.global_batch % size == 0)
            raise ValueError(
                "exact=true needs train.micro_batch, because BatchNorm and dropout work on micro-batches. "
                f"Type train.micro_batch={size}, for 1 to {self.train.global_batch // size} processes."
            )
        if self.train.shard_optimizer and is_dotted(self.optim.name):
            raise ValueError(
                f"train.shard_optimizer=true cuts tensors into pieces, which optim.name={self.optim.name} may not step "
                f"as it steps whole tensors. Choose a built-in optimizer, or train.shard_optimizer=false."
            )
        if self.exact and self.train.shard_optimizer and self.train.precision == "float16":
            raise ValueError(
                "train.shard_optimizer=true with exact=true needs gradients that are not scaled. Set "
                "train.precision=bfloat16 or float32, or train.shard_optimizer=false."
            )
        if self.exact and self.train.gradient_compression != "none":
            raise ValueError(
                f"exact=true does not work with train.gradient_compression={self.train.gradient_compression}, which "
                "changes the sums of gradients. Set train.gradient_compression=none, or exact=false."
            )
        if self.exact and self.train.sync_batchnorm:
            raise ValueError("exact=true needs BatchNorm over each micro-batch. Set train.sync_batchnorm=false.")
        if self.exact and self.train.compile is not False:
            raise ValueError(
                "exact=true does not work with train.compile: the compiler chooses by itself in which order a kernel "
                "adds, on each machine. Set train.compile=false, or exact=false."
            )
        if self.train.graph is True and self.train.compile in ("reduce-overhead", "max-autotune"):
            raise ValueError(
                f"train.compile={self.train.compile} makes CUDA graphs of its own, which cannot be within another one. "
                "Set train.graph=auto, or train.compile=default."
            )
        if self.augment.crop_from == "file" and self.data.storage != "files":
            raise ValueError(
                f"augment.crop_from=file crops the image files, and data.storage={self.data.storage} keeps small "
                "squares of them. Set data.storage=files, or augment.crop_from=square."
            )
        if self.data.storage == "device" and self.augment.backend == "torchvision":
            raise ValueError(
                "augment.backend=torchvision changes images one by one on the CPU, and data.storage=device holds them "
                "on the GPU. Set augment.backend=batch, or data.storage=packed."
            )
        if self.model.cache_features and (problem := self._what_changes_features()):
            raise ValueError(f"model.cache_features=true {problem}, or model.cache_features=false.")
        if is_dotted(self.loss.name) and self.augment.mix_probability and (self.augment.mixup or self.augment.cutmix):
            raise ValueError(
                f"loss.name={self.loss.name} gets a label for each image, and mixed images have shares of two classes. "
                f"Set augment.mixup=0 and augment.cutmix=0, or choose a built-in loss."
            )
        thaw = self.model.thaw_after_epochs
        if thaw is not None and thaw >= self.train.epochs:
            raise ValueError(
                f"model.thaw_after_epochs={thaw} is not before the end of the run, train.epochs={self.train.epochs}. "
                "Thaw earlier, train longer, or delete model.thaw_after_epochs."
            )
        sizes, side = self.train.progressive_sizes, self.data.image_size
        if sizes and round(sizes[0][0] * side) < SMALLEST_SIDE:
            raise ValueError(
                f"train.progressive_sizes has images of {sizes[0][0]:g} of data.image_size={side}, which is below "
                f"{SMALLEST_SIDE} pixels. Give a larger part, or a larger data.image_size."
            )
        if self.schedule.name != "one_cycle" and self.schedule.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs:g} is not shorter than "
                f"train.epochs={self.train.epochs}. Warm up for less, or train longer."
            )
        return self

    def _what_changes_features(self) -> str:
        """What would make the features of an image differ between passes, as a part of a sentence; "" for nothing."""
        if self.model.freeze != "backbone" or self.model.thaw_after_epochs is not None:
            return "needs a backbone that does not change. Set model.freeze=backbone without model.thaw_after_epochs"
        if self.augment.backend != "none":
            return (
                "computes the features of each image once, so augmentation would have no effect. Set "
                "augment.backend=none"
            )
        if self.data.storage == "device":
            return "reads the images once, so holding them on the device is of no use. Set data.storage=packed"
        if self.train.progressive_sizes:
            return "keeps features of images of one size. Set train.progressive_sizes=[]"
        if self.augment.mixup or self.augment.cutmix:
            return "keeps no features of mixed images. Set augment.mixup=0 and augment.cutmix=0"
        if self.evaluate.flip_average or self.evaluate.ten_crop:
            return "keeps the features of one view. Set evaluate.flip_average=false and evaluate.ten_crop=false"
        return ""
