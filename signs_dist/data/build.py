"""Make a data set of small square JPEGs from photos.

python -m signs_dist.data.build --source SIGNS.zip              # or the unpacked folder → data/64x64_SIGNS
python -m signs_dist.data.build --source my_photos/ --size 128  # class folders → data/128x128_my_photos

The output appears whole or not at all. A build that was stopped goes on when the same command is repeated.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.data.audit import (
    BadFile,
    Doubled,
    bad_lines,
    counts_table,
    doubled_lines,
    find_doubled,
)
from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.photos.build_plan import (
    BuildRequest,
    PlannedImage,
    check_classes,
    default_out,
    plan_images,
    planned_counts,
)
from signs_dist.data.photos.build_record import (
    BUILD_FILE,
    build_record,
    is_already_built,
    read_build_file,
    request_facts,
    summary,
)
from signs_dist.data.photos.part_folder import part_folder_of, prepare_part_folder, publish
from signs_dist.data.photos.sources import (
    Arrangement,
    SourceReader,
    arrange,
    list_source,
)
from signs_dist.data.workers import run_batches
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.files import write_json, written_aside
from signs_dist.run_folder.digest import file_sha256

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen

MAX_BAD_BEFORE_STOP = 20
"""With `stop`, so many bad images are looked for, so that they can be mended at once."""
_CONVERSION = 1  # another number makes unfinished builds start anew: raise it when the pixels would come out different


def build(request: BuildRequest, *, screen: Screen | None = None) -> Path:
    """Make the data set, or find it made, and return its folder.

    Raises:
        UserError: the source is no data set, an image is bad (with `stop`), the output exists and is another one, or
            the disk is full. The output folder is then as it was; what is done stays in a hidden folder beside it.
    """
    screen = screen or _quiet_screen()
    request.check()
    files = list_source(request.source)
    arrangement = arrange(files, request.source)
    out = request.out or default_out(request.source, request.size, arrangement)
    _check_places(request.source, out)
    plan = plan_images(arrangement, seed=request.seed, val_share=request.val_share)
    check_classes(planned_counts(plan), request.source)
    facts = request_facts(request, files, arrangement)
    with _locked(out, screen):
        if is_already_built(out, facts, request):
            screen.result(f"already built: {out} ({summary(read_build_file(out))})")
        else:
            _build_locked(request, out, arrangement, plan, facts, screen)
    return out


@contextlib.contextmanager
def _locked(out: Path, screen: Screen) -> Iterator[None]:
    """One build of a folder at a time. The system releases the lock of a process that is killed."""
    from filelock import FileLock, Timeout

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.parent / f".{out.name}.lock")
        try:
            acquired = lock.acquire(timeout=0)
        except Timeout:
            screen.say(f"another build of {out} is at work; waiting for it")
            acquired = lock.acquire()
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}. Choose another place with --out.") from error
    with acquired:
        yield


def _build_locked(
    request: BuildRequest,
    out: Path,
    arrangement: Arrangement,
    plan: list[PlannedImage],
    facts: dict[str, Any],
    screen: Screen,
) -> None:
    part = part_folder_of(out)
    recipe = f"{request.size} px, quality {request.quality}, conversion {_CONVERSION}"
    stamps = {
        image.output: f"{image.source.path}, {image.source.num_bytes} bytes, {image.source.stamp}, {recipe}"
        for image in plan
    }
    done = prepare_part_folder(part, stamps)
    if done:
        screen.say(f"going on: {len(done):,} of {len(plan):,} images are done")
    todo = [image for image in plan if image.output not in done]
    bad = [BadFile(path, reason) for path, reason in arrangement.bad_names]
    bad += _convert_all(request, part, todo, num_done=len(done), num_bad=len(bad), screen=screen)
    bad.sort(key=lambda file: file.path)
    if bad and request.bad_images == "stop":
        raise UserError("\n".join(_stop_lines(request, bad)))
    left_out = {file.path for file in bad}
    kept = [image for image in plan if image.source.path not in left_out]
    counts = planned_counts(kept)
    check_classes(counts, request.source)
    doubled = find_doubled({image.output: (image.split, file_sha256(part / image.output)) for image in kept})
    quarantine = out.parent / f"{out.name}.quarantine"
    if bad and request.bad_images == "quarantine":
        _copy_to_quarantine(request.source, bad, quarantine)
    write_json(part / BUILD_FILE, build_record(facts, counts, bad, doubled, request))
    publish(part, out)
    _tell(screen, out, counts, bad, doubled, arrangement, quarantine if request.bad_images == "quarantine" else None)


def _convert_all(
    request: BuildRequest, part: Path, todo: list[PlannedImage], *, num_done: int, num_bad: int, screen: Screen
) -> list[BadFile]:
    total = num_done + len(todo)
    bad: list[BadFile] = []
    batches = run_batches(
        functools.partial(_convert_batch, part, request.size, request.quality),
        todo,
        resource=functools.partial(SourceReader, request.source),
        processes=request.processes,
    )
    try:
        with contextlib.closing(batches), screen.preparing() as report:
            for results in batches:
                num_done += len(results)
                bad += [file for file in results if file is not None]
                report("building", num_done, total)
                if request.bad_images == "stop" and num_bad + len(bad) >= MAX_BAD_BEFORE_STOP:
                    break
    except UserError as error:
        raise UserError(f"{error} {_goes_on(num_done, total)}") from error
    except KeyboardInterrupt:
        screen.say(_goes_on(num_done, total))
        raise
    return bad


def _goes_on(num_done: int, total: int) -> str:
    return f"{num_done:,} of {total:,} images are done: the same command goes on from there."


def _convert_batch(
    part: Path, size: int, quality: int, reader: SourceReader, images: Sequence[PlannedImage]
) -> list[BadFile | None]:
    """In a worker: make these images. For each one None, or why it is bad."""
    results: list[BadFile | None] = []
    for image in images:
        try:
            _convert(reader, image, part / image.output, size, quality)
            results.append(None)
        except BadImageError as error:
            results.append(BadFile(image.source.path, error.reason))
    return results


def _convert(reader: SourceReader, image: PlannedImage, target: Path, size: int, quality: int) -> None:
    pixels = load_rgb(reader.read(image.source.path), name=image.source.path, size=size)
    pixels.info.clear()  # Pillow would write the photo's comment along
    encoded = io.BytesIO()
    pixels.save(encoded, "JPEG", quality=quality, subsampling=0)
    try:
        with written_aside(target) as aside:
            aside.write_bytes(encoded.getvalue())
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadImageError(image.source.path, "its name is too long; shorten it") from error
        raise


def _check_places(source: Path, out: Path) -> None:
    inside, outside = out.resolve(), source.resolve()
    if outside == inside or outside in inside.parents:
        raise UserError(f"the output {out} lies inside the source {source}. Choose another folder with --out.")
    if inside in outside.parents:
        raise UserError(f"the source {source} lies inside the output {out}. Choose another folder with --out.")


def _stop_lines(request: BuildRequest, bad: list[BadFile]) -> list[str]:
    count = f"at least {len(bad)}" if len(bad) >= MAX_BAD_BEFORE_STOP else str(len(bad))
    return [
        f"{count} image{'' if len(bad) == 1 else 's'} of {request.source} cannot be used; no data set was made:",
        *bad_lines(bad, num_shown=MAX_BAD_BEFORE_STOP),
        "Mend or remove them and repeat (what is done is kept), or leave them out with --bad-images skip, "
        "or leave them out and keep copies with --bad-images quarantine.",
    ]


def _copy_to_quarantine(source: Path, bad: list[BadFile], quarantine: Path) -> None:
    with SourceReader(source) as reader:
        for file in bad:
            try:
                content = reader.read(file.path)
                data = content if isinstance(content, bytes) else content.read_bytes()
            except (BadImageError, OSError):
                continue  # cannot be copied because it cannot be read, which is what it is named for
            with written_aside(quarantine / file.path) as aside:
                aside.write_bytes(data)


def _tell(
    screen: Screen,
    out: Path,
    counts: dict[str, dict[str, int]],
    bad: list[BadFile],
    doubled: Doubled,
    arrangement: Arrangement,
    quarantine: Path | None,
) -> None:
    screen.table(counts_table(counts))
    if arrangement.outside:
        screen.say(f"{len(arrangement.outside)} images outside the split folders were not used:")
        for line in arrangement.outside[:3]:
            screen.say(f"  {line}")
    for line in doubled_lines(doubled, num_shown=3):
        screen.say(line)
    if doubled.across or doubled.within:
        screen.say(f"all of them: python -m signs_dist.data.audit {shlex.quote(str(out))}")
    if bad:
        copied = f", copied to {quarantine}" if quarantine is not None else ""
        screen.result(f"left out {len(bad)} bad images{copied}:")
        for line in bad_lines(bad, num_shown=MAX_BAD_BEFORE_STOP):
            screen.result(line)
    screen.result(f"built {out}: {', '.join(f'{split} {sum(row.values()):,}' for split, row in counts.items())}")
    screen.say(f"train on it: python -m signs_dist.train data.root={shlex.quote(str(out))}")


def _quiet_screen() -> Screen:
    from signs_dist.console.screen import Screen

    return Screen(is_terminal=False, quiet=True)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m signs_dist.data.build",
        description="Make a data set of small square JPEGs from photos. A stopped build goes on when repeated.",
    )
    default = BuildRequest(Path())
    parser.add_argument(
        "--source", type=Path, required=True, help="SIGNS.zip, or a folder with train_signs/ or with class folders"
    )
    parser.add_argument("--out", type=Path, help="folder to make (default: data/64x64_SIGNS, or the source's name)")
    parser.add_argument("--size", type=int, default=default.size, help="side of the images in pixels (%(default)s)")
    parser.add_argument(
        "--val-share", type=float, default=default.val_share, help="share of train that becomes val (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of that division (%(default)s: published)")
    parser.add_argument(
        "--bad-images",
        choices=("stop", "skip", "quarantine"),
        default=default.bad_images,
        help="stop: make nothing; skip: leave them out; quarantine: and copy them to OUT.quarantine (%(default)s)",
    )
    parser.add_argument("--quality", type=int, default=default.quality, help="JPEG quality (%(default)s)")
    parser.add_argument("--processes", type=int, metavar="N", help="worker processes (default: all usable cores)")
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = vars(_parser().parse_args(arguments))
    quiet = options.pop("quiet")
    request = BuildRequest(**options)
    from signs_dist.console.screen import Screen

    build(request, screen=Screen(is_terminal=sys.stdout.isatty(), quiet=quiet))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
