"""One part of `benchmarks/gpu.py`, in a process of its own. It writes into the current folder.

    python benchmarks/gpu_parts.py signs --device cuda

Each figure is a line of JSON on standard output as soon as it is known. What the program refuses, or what fails, is a
line as well, and the next figure is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signs_dist.checkpointing.store import Cursor
from signs_dist.config.reading import load_config
from signs_dist.config.settings import Config
from signs_dist.console.screen import Screen
from signs_dist.distributed.exactness import choose_cublas_workspace
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.environment.context import read_context
from signs_dist.errors import UserError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.precision import choose_precision, find_capability
from signs_dist.models.trainable import set_training_mode
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.prepare import build_model, prepare
from signs_dist.training.process import Process
from signs_dist.training.stepper import Stepper

REPOSITORY = Path(__file__).resolve().parent.parent
STEADY = ("train.epochs=100000", "train.progressive_sizes=[]", "optim.lr=0.0001", "schedule.name=constant")
"""Images of one size, and a rate at which random pixels leave the loss finite."""
TINY = ("data.image_size=16", "train.global_batch=8", "train.precision=float32", "train.num_threads=1")
"""Of a rehearsal."""
NUM_CLASSES = 6
NUM_WARM_UP = 3
STORAGES, GRAPHS = ("packed", "device"), ("false", "true")


class Bench:
    """Measures, and prints figures.

    Args:
        device: of the networks.
        is_rehearsal: whether sizes are tiny.
        photos: a folder with train_signs and val_signs; None: random pixels are written where they are needed.
    """

    def __init__(self, device: torch.device, *, is_rehearsal: bool, photos: Path | None) -> None:
        self.device, self.is_rehearsal, self.photos = device, is_rehearsal, photos
        self.seconds = 0.2 if is_rehearsal else 3.0

    def tell(self, figure: str, settings: Sequence[str], measure: Callable[[], float], unit: str) -> None:
        """Measure, and print the figure; or say what was refused, or what failed."""
        about = {"figure": figure, "settings": " ".join(settings)}
        try:
            value = {"value": measure(), "unit": unit}
        except UserError as error:
            print(json.dumps({**about, "text": f"refused: {textwrap.shorten(str(error), 200)}"}), flush=True)
        except Exception as error:  # noqa: BLE001 - the other figures are measured all the same
            traceback.print_exc()
            first = (str(error).strip() or type(error).__name__).partition("\n")[0]
            print(json.dumps({**about, "text": f"failed: {type(error).__name__}: {first}"}), flush=True)
        else:
            print(json.dumps({**about, **value}), flush=True)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def config(self, name: str | None, *overrides: str, num_photos: int = 864, side: int = 64) -> Config:
        """The config of a file in configs/, with photos; tiny in a rehearsal. Raises `UserError`."""
        small = TINY if self.is_rehearsal else ()
        root = self.photos if self.photos is not None and side == 64 else self.write_photos(num_photos, side)
        path = REPOSITORY / "configs" / name if name is not None else None
        return load_config(path, [f"data.root={root}", "data.cache=cache", *STEADY, *overrides, *small])

    def write_photos(self, num_photos: int, side: int) -> Path:
        """A folder with JPEGs of random pixels, a fifth as many for validation; written if it is missing."""
        from PIL import Image

        num_photos, side = (24, 16) if self.is_rehearsal else (num_photos, side)
        root = Path(f"photos-{num_photos}-{side}")
        if root.exists():
            return root
        draws = np.random.default_rng(0)
        for split, count in (("train", num_photos), ("val", num_photos // 4)):
            (root / f"{split}_signs").mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 256, (side, side, 3), np.uint8)
                Image.fromarray(pixels).save(root / f"{split}_signs" / f"{number % NUM_CLASSES}_IMG_{number}.jpg")
        return root

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, work: Callable[[], int]) -> float:
        """Images per second of `work`, which does some steps and returns how many images they had: a median."""
        for _ in range(NUM_WARM_UP):
            work()
        self.synchronize()
        begun, found = time.perf_counter(), []
        while len(found) < 3 or time.perf_counter() - begun < self.seconds:
            started = time.perf_counter()
            num_images = work()
            self.synchronize()
            found.append(num_images / (time.perf_counter() - started))
        return statistics.median(found)

    def training_rate(self, config: Config) -> float:
        """Images per second of training, epoch by epoch, with the sums that are read for the log."""
        strategy = SingleProcess(self.device)
        screen = Screen(is_terminal=False, quiet=True, file=sys.stderr)
        process = Process(read_context(), str(self.device), strategy, screen, Pulse())
        prepared = prepare(config, process)
        stepper = Stepper(prepared, process)
        epochs = iter(range(config.train.epochs))

        def train() -> int:
            for number, report in enumerate(stepper.steps(Cursor(next(epochs), 0)), 1):
                if number % config.log.every_steps == 0:
                    strategy.total(report.sums.tensors())
            return prepared.plan.num_steps * prepared.plan.global_batch

        try:
            return self.rate(train)
        finally:
            stepper.close()

    def training(self, name: str | None, figure: str, *overrides: str, **photos: int) -> None:
        """Print the speed of training."""
        fixed = ("model.name", "data.image_size", "train.global_batch")
        shown = [one for one in overrides if not one.startswith(fixed)]
        self.tell(figure, shown, lambda: self.training_rate(self.config(name, *overrides, **photos)), "images/s")

    def bare(self, name: str) -> None:
        """Print the speed of the network alone on random tensors: as a plain script runs it, and as one CUDA graph."""
        config = self.config(name)
        figure = f"bare network, {name}"
        for way, is_graphed in (("step by step", False), ("one CUDA graph", True)):
            self.tell(figure, [way], lambda is_graphed=is_graphed: self._bare_rate(config, is_graphed), "images/s")  # type: ignore[misc]

    def _bare_rate(self, config: Config, is_graphed: bool) -> float:
        side, batch, num_steps = config.data.image_size, config.train.global_batch, 1 if self.is_rehearsal else 27
        model = build_model(config, NUM_CLASSES, self.device)
        set_training_mode(model)
        precision = choose_precision(config.train.precision, find_capability(self.device))
        if precision.name == "float16":
            raise UserError("a bare network in float16 needs a scaler, which is not measured here.")
        loss_function, optimizer = build_loss(config.loss, NUM_CLASSES), build_optimizer(model, config.optim)
        layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
        images = torch.randn(batch, 3, side, side, device=self.device).contiguous(memory_format=layout)
        labels = torch.randint(NUM_CLASSES, (batch,), device=self.device)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with precision.autocast():
                logits = model(images)
            loss_function(logits, labels).mean().backward()
            optimizer.step()

        act = record(step, optimizer, self.device) if is_graphed else step

        def work() -> int:
            for _ in range(num_steps):
                act()
            return num_steps * batch

        return self.rate(work)


def record(step: Callable[[], None], optimizer: torch.optim.Optimizer, device: torch.device) -> Callable[[], None]:
    """A step as one CUDA graph: what replays it.

    Source: PyTorch, "CUDA semantics", "Whole-network capture".
    """
    if device.type != "cuda":
        raise UserError("there are no CUDA graphs on a CPU.")
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(NUM_WARM_UP):
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    optimizer.zero_grad(set_to_none=True)  # new gradients are then made in the graph's own memory
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def machine(bench: Bench) -> None:
    """Print what this machine is."""
    facts = {"python": platform.python_version(), "torch": torch.__version__, "cores": len(os.sched_getaffinity(0))}
    if bench.device.type == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            driver = "unknown"
        about: dict[str, Any] = {"card": torch.cuda.get_device_name(bench.device), "driver": driver}
        facts = {**about, "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version(), **facts}
    text = ", ".join(f"{name} {value}" for name, value in facts.items())
    print(json.dumps({"figure": "machine", "settings": "", "text": text, "facts": facts}), flush=True)


def bare(bench: Bench) -> None:
    """The bare networks of the two recipes."""
    bench.bare("signs.yaml")
    bench.bare("cs230.yaml")


def signs(bench: Bench) -> None:
    """Training by signs.yaml, with images of 64 x 64 from the first epoch on."""
    for storage in STORAGES:
        for graph in GRAPHS:
            bench.training("signs.yaml", "training, signs.yaml", f"data.storage={storage}", f"train.graph={graph}")


def exact(bench: Bench) -> None:
    """Exact mode against fast mode, in equal micro-batches."""
    choose_cublas_workspace()
    for mode in ("false", "true"):  # kernels that exact mode has chosen stay
        for graph in GRAPHS:
            alike = ("data.storage=device", f"train.graph={graph}", f"exact={mode}")
            bench.training("signs.yaml", "training in micro-batches of 8, signs.yaml", *alike, "train.micro_batch=8")


def compiled(bench: Bench) -> None:
    """Training through torch.compile."""
    for graph, mode in (("false", "default"), ("true", "default"), ("auto", "reduce-overhead")):
        settings = ("data.storage=device", f"train.graph={graph}", f"train.compile={mode}")
        bench.training("signs.yaml", "training, signs.yaml", *settings)


def cs230(bench: Bench) -> None:
    """Training by cs230.yaml."""
    for storage, graph in (("packed", "false"), ("device", "false"), ("device", "true")):
        bench.training("cs230.yaml", "training, cs230.yaml", f"data.storage={storage}", f"train.graph={graph}")


def resnet18(bench: Bench) -> None:
    """Training of a ResNet-18 on images of 224 x 224, from the beginning."""
    network = ("model.name=torchvision:resnet18", "data.image_size=224", "train.global_batch=128")
    for storage, graph in (("packed", "false"), ("packed", "true"), ("device", "false"), ("device", "true")):
        settings = (*network, f"data.storage={storage}", f"train.graph={graph}")
        bench.training(None, "training, resnet18 at 224", *settings, num_photos=512, side=224)


def checkpointing(bench: Bench) -> None:
    """Speed and memory of a ResNet-50 with gradient checkpointing and without."""
    layers = "resnet18" if bench.is_rehearsal else "resnet50"
    network = (f"model.name=torchvision:{layers}", "data.image_size=224", "train.global_batch=64")
    for checkpoints in ("false", "true"):
        asked = f"model.gradient_checkpointing={checkpoints}"
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(bench.device)
        settings = (*network, "data.storage=device", "train.graph=false", asked)
        bench.training(None, f"training, {layers} at 224", *settings, num_photos=256, side=224)
        bench.tell(f"most memory, {layers} at 224", [asked], lambda: _peak_bytes(bench.device) / 1e6, "MB")


def _peak_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        raise UserError("the memory of a CPU is not measured here.")
    return torch.cuda.max_memory_allocated(device)


def save(bench: Bench) -> None:
    """How long a save stops training."""
    small = ["--megabytes", "1", "--repeats", "1"] if bench.is_rehearsal else []
    bench.tell("a save stops training for", ["benchmarks/save_stall.py"], lambda: _read_stall(small), "ms")


def _read_stall(flags: Sequence[str]) -> float:
    ended = _run([sys.executable, str(REPOSITORY / "benchmarks" / "save_stall.py"), *flags])
    found = re.search(r"training stands still +([\d.]+) ms", ended.stdout)
    if found is None:
        raise RuntimeError(_last_line(ended))
    return float(found[1])


def recipe(bench: Bench) -> None:
    """The whole recipe as it is, from the command line: images/s of its training."""
    for storage, graph in (("packed", "false"), ("device", "auto")):
        settings = [f"data.storage={storage}", f"train.graph={graph}"]
        bench.tell("the whole recipe, signs.yaml", settings, lambda s=settings: _command_rate(bench, [], s), "images/s")  # type: ignore[misc]


def processes(bench: Bench) -> None:
    """Several processes: one over NCCL, and two on one GPU, which NCCL and so the program refuse."""
    for number in (1, 2):
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
        settings = ["data.storage=device", "train.micro_batch=4" if bench.is_rehearsal else "train.micro_batch=16"]
        told = [f"{number} process{'es' if number > 1 else ''} of torchrun", *settings]
        bench.tell(
            "the whole recipe, signs.yaml",
            told,
            lambda start=start, settings=settings: _command_rate(bench, start, settings),  # type: ignore[misc]
            "images/s",
        )


def _command_rate(bench: Bench, start: Sequence[str], settings: Sequence[str]) -> float:
    """Images per second from result.json of a whole run of signs.yaml. Raises `UserError` if it was refused."""
    root = bench.photos if bench.photos is not None else bench.write_photos(864, 64).resolve()
    folder = Path(f"run-{time.monotonic_ns()}")
    epochs = ["train.epochs=2", *TINY, "evaluate.every_epochs=1"] if bench.is_rehearsal else []
    given = ["--config", str(REPOSITORY / "configs" / "signs.yaml"), "--device", str(bench.device.type), "--quiet"]
    run = ["--run-dir", str(folder), f"data.root={root}", "data.cache=cache", "log.report=false", *settings, *epochs]
    ended = _run([sys.executable, *start, "-m", "signs_dist.train", *given, *run])
    if ended.returncode:
        raise UserError(_last_line(ended))
    rate: float = json.loads((folder / "result.json").read_text(encoding="utf-8"))["images_per_second"]
    return rate


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    """What a command says at its end: the error of the program, if there is one."""
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower() or "refused" in line]
    return (errors or lines or [f"exit code {ended.returncode}"])[0 if errors else -1].strip()


WORK: dict[str, Callable[[Bench], None]] = {
    one.__name__: one
    for one in (machine, bare, signs, exact, recipe, compiled, cs230, resnet18, checkpointing, save, processes)
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(WORK))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no GPU is visible. To try this script on a CPU, type: python benchmarks/gpu.py --rehearse")
    if options.rehearse:
        torch.set_num_threads(1)
    WORK[options.part](Bench(torch.device(options.device), is_rehearsal=options.rehearse, photos=options.data))


if __name__ == "__main__":
    main()
