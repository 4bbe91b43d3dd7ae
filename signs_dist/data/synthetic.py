"""Draw a data set of hands that show 0 to 5, laid out and named like the real photos.

python -m signs_dist.data.synthetic                          # the set that training draws when there are no photos
python -m signs_dist.data.synthetic --out hands --size 128   # another size, in a folder of your choice

The same command makes the same files on any number of processes. The folder appears only when it is complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.console.command import MOST_PROCESSES, MOST_SEED, CommandParser, run_command, whole_number
from signs_dist.data.next_step import next_lines
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.files import explained, write_json

DRAWING_VERSION = 1
"""Raise it with every change of the pictures: sets are then drawn again, in other folders."""
NUM_CLASSES = 6
"""Hands show 0 to 5."""
SPLITS = ("train", "val", "test")
"""In the order of image ids. The position of a split is part of its images' seed: only append."""
MIN_SIZE, MAX_SIZE = 16, 1024
"""Sides of the pictures in pixels."""
RECORD_NAME = "synthetic.json"
"""Records what a folder was drawn from."""
JPEG_QUALITY = 92


@dataclasses.dataclass(frozen=True)
class DrawnImage:
    """One image of a set.

    Attributes:
        split: train, val or test.
        index: its number within the split.
        image_id: its number within the set.
    """

    split: str
    index: int
    image_id: int

    @property
    def label(self) -> int:
        """How many fingers it shows. All classes are equally frequent."""
        return self.index % NUM_CLASSES

    @property
    def path(self) -> Path:
        """Its place below the set's folder."""
        return Path(f"{self.split}_signs", f"{self.label}_IMG_{self.image_id:04d}.jpg")


def plan_set(counts: Mapping[str, int]) -> list[DrawnImage]:
    """All images of a set with `counts[split]` images in each split."""
    plan: list[DrawnImage] = []
    for split in SPLITS:
        plan += [DrawnImage(split, index, len(plan) + index) for index in range(counts.get(split, 0))]
    return plan


def default_root(image_size: int, counts: Mapping[str, int], seed: int) -> Path:
    """The folder of a set if none is given: below `data/`, one for each request and drawing version."""
    record = json.dumps(_request_record(image_size, counts, seed), sort_keys=True)
    return Path("data", f"synthetic-{image_size}-{hashlib.sha256(record.encode()).hexdigest()[:10]}")


def encode_image(image: DrawnImage, *, image_size: int, seed: int) -> bytes:
    """The JPEG of an image: a pure function of the seed, its split, its index and the size."""
    import numpy as np

    from signs_dist.data.hands.drawing import draw_hand

    random = np.random.default_rng([seed, SPLITS.index(image.split), image.index])
    encoded = io.BytesIO()
    draw_hand(image.label, image_size, random).save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


def write_synthetic_set(
    root: Path,
    *,
    image_size: int,
    counts: Mapping[str, int],
    seed: int,
    num_processes: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw the set into `root`, unless it is already drawn.

    If several processes ask for the same folder, one draws and the others wait.

    Args:
        root: gets `train_signs/`, `val_signs/`, `test_signs/` and `synthetic.json`.
        image_size: side of the pictures in pixels, 16 to 1024.
        counts: number of images of each split; a split with none gets no folder.
        seed: 0 or more.
        num_processes: worker processes. The files do not depend on them.
        on_progress: called with (images drawn, images in all).

    Raises:
        UserError: a value is out of range, `root` holds something else, or it cannot be written. An unfinished
            drawing is removed.
    """
    _check_request(image_size, counts, seed, num_processes)
    record = _request_record(image_size, counts, seed)
    if _is_drawn(root, record):
        return
    from filelock import FileLock

    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        # The system releases the lock of a process that is killed.
        with FileLock(root.parent / f".{root.name}.lock"):
            if not _is_drawn(root, record):
                _draw_locked(root, record, num_processes, on_progress)
    except OSError as error:
        raise explained(error, root) from error


def _check_request(image_size: int, counts: Mapping[str, int], seed: int, num_processes: int) -> None:
    if not MIN_SIZE <= image_size <= MAX_SIZE:
        raise UserError(f"image size {image_size}: hands are drawn with {MIN_SIZE} to {MAX_SIZE} pixels per side.")
    if seed < 0:
        raise UserError(f"seed {seed} of the drawn set is negative. Give 0 or more.")
    if num_processes < 1:
        raise UserError(f"{num_processes} processes cannot draw. Give 1 or more.")
    assert set(counts) <= set(SPLITS), counts
    for split in SPLITS:
        num_images = counts.get(split, 0)
        if num_images < 0 or 0 < num_images < NUM_CLASSES:
            raise UserError(
                f"{num_images} drawn {split} images: give {NUM_CLASSES} or more, so that each class has one, "
                f"or 0 to omit {split}."
            )
    if not any(counts.values()):
        raise UserError(f"a drawn set of 0 images. Give one of {', '.join(SPLITS)} {NUM_CLASSES} or more.")


def _request_record(image_size: int, counts: Mapping[str, int], seed: int) -> dict[str, Any]:
    return {
        "drawing_version": DRAWING_VERSION,
        "image_size": image_size,
        "counts": {split: counts.get(split, 0) for split in SPLITS},
        "seed": seed,
    }


def _is_drawn(root: Path, record: Mapping[str, Any]) -> bool:
    """Whether `root` is this set. False if nothing is there.

    Raises:
        UserError: something else is there.
    """
    try:
        found = json.loads((root / RECORD_NAME).read_text(encoding="utf-8"))
    except NotADirectoryError:
        raise UserError(f"{root} is not a folder, or lies below a file. Choose another folder with --out.") from None
    except FileNotFoundError:
        if not root.exists() or not any(root.iterdir()):
            return False
        raise UserError(
            f"{root} exists and is not a drawn set: it has no {RECORD_NAME}. Choose another folder with --out."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {root / RECORD_NAME}: {error}. Remove {root} and repeat the command.") from error
    remedy = f"Choose another folder with --out, or remove this one: rm -r {shlex.quote(str(root))}"
    if found != record:
        raise UserError(f"{root} is another drawn set: {_difference(found, record)}. {remedy}")
    num_found = sum(1 for _ in root.glob("*_signs/*.jpg"))
    num_images = sum(record["counts"].values())
    if num_found != num_images:
        raise UserError(f"{root} was changed: it has {num_found} images, and {num_images} were drawn. {remedy}")
    return True


def _difference(found: Any, record: Mapping[str, Any]) -> str:
    if not isinstance(found, dict):
        return f"its {RECORD_NAME} was not written by this command"
    return ", ".join(
        f"{key} is {found.get(key)}, not {value}" for key, value in record.items() if found.get(key) != value
    )


def _draw_locked(
    root: Path, record: Mapping[str, Any], num_processes: int, on_progress: Callable[[int, int], None] | None
) -> None:
    for leftover in root.parent.glob(f".{root.name}.*.part"):
        # This process holds the lock, so the process that left it has ended. Its workers may live a moment longer
        # and leave files here; the next drawing removes them.
        shutil.rmtree(leftover, ignore_errors=True)
    part = root.parent / f".{root.name}.{secrets.token_hex(4)}.part"
    try:
        part.mkdir()
        for done, total in _draw_all(part, record, num_processes):
            if on_progress is not None:
                on_progress(done, total)
        write_json(part / RECORD_NAME, dict(record))
        part.replace(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _draw_all(part: Path, record: Mapping[str, Any], num_processes: int) -> Iterator[tuple[int, int]]:
    from signs_dist.data.workers import run_batches

    plan = plan_set(record["counts"])
    for folder in {image.path.parent for image in plan}:
        (part / folder).mkdir()
    draw = functools.partial(_draw_batch, part, record["image_size"], record["seed"])
    batches = run_batches(draw, plan, resource=contextlib.nullcontext, processes=num_processes)
    done = 0
    with contextlib.closing(batches):
        for results in batches:
            done += len(results)
            yield done, len(plan)


def _draw_batch(part: Path, image_size: int, seed: int, _: None, images: Sequence[DrawnImage]) -> list[None]:
    """In a worker: draw these images."""
    for image in images:
        (part / image.path).write_bytes(encode_image(image, image_size=image_size, seed=seed))
    return [None] * len(images)


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.data.synthetic",
        description="Draw hands that show 0 to 5, in folders and with names like the real photos.",
    )
    parser.add_argument("--out", type=Path, help="folder to make (default: data/synthetic-SIZE-DIGEST)")
    parser.add_argument(
        "--size", type=whole_number(1024), help="side of the images in pixels (default: data.image_size)"
    )
    for split in SPLITS:
        parser.add_argument(
            f"--{split}",
            type=whole_number(10_000_000),
            metavar="N",
            help=f"number of {split} images (default: data.synthetic.{split})",
        )
    parser.add_argument(
        "--seed", type=whole_number(MOST_SEED), help="another seed draws other hands (default: data.synthetic.seed)"
    )
    parser.add_argument(
        "--processes",
        type=whole_number(MOST_PROCESSES),
        metavar="N",
        help="worker processes (default: all usable cores)",
    )
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = build_parser().parse_args(arguments)
    from signs_dist.config.settings import DataConfig
    from signs_dist.console.screen import Screen
    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import is_watched
    from signs_dist.environment.cores import read_usable_cores

    defaults = DataConfig()
    chosen = {split: getattr(options, split) for split in SPLITS}
    counts = {split: getattr(defaults.synthetic, split) if n is None else n for split, n in chosen.items()}
    seed = defaults.synthetic.seed if options.seed is None else options.seed
    image_size = defaults.image_size if options.size is None else options.size
    root = options.out or default_root(image_size, counts, seed)
    screen = Screen(is_terminal=is_watched(), quiet=options.quiet, file=lasting(sys.stdout))
    with screen.preparing() as report:
        write_synthetic_set(
            root,
            image_size=image_size,
            counts=counts,
            seed=seed,
            num_processes=read_usable_cores(os.environ) if options.processes is None else options.processes,
            on_progress=lambda done, total: report("drawing hands", done, total),
        )
    numbers = ", ".join(f"{split} {num_images:,}" for split, num_images in counts.items() if num_images)
    screen.result(f"drawn hands in {root}: {numbers}")
    for line in next_lines(root, image_size, counts["train"]):
        screen.say(line)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
