"""Make a data set of small square JPEGs from photos.

python -m signs_dist.data.build --source SIGNS.zip              # or the unpacked folder → data/64x64_SIGNS
python -m signs_dist.data.build --source my_photos/ --size 128  # class folders → data/128x128_my_photos
python -m signs_dist.data.build --source labels.csv             # a table of paths and classes → data/64x64_labels
python -m signs_dist.data.build --source my_photos/ --shards    # tar shards → data/64x64_my_photos_shards

The output folder appears only when it is complete. To continue a build that was stopped, repeat the command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, add_max_megapixels, checked_megapixels, run_command
from signs_dist.data.audit import outside_lines
from signs_dist.data.duplicates import Duplicates, duplicate_lines, find_duplicates
from signs_dist.data.images import MAX_MEGAPIXELS, BadImageError
from signs_dist.data.locks import locked
from signs_dist.data.next_step import next_lines
from signs_dist.data.photos.build_plan import (
    BuildRequest,
    PlannedImage,
    check_classes,
    choose_division,
    default_out,
    plan_images,
    planned_counts,
    without_small_classes,
)
from signs_dist.data.photos.build_record import (
    BUILD_FILE,
    build_record,
    is_already_built,
    read_build_file,
    request_facts,
    summary,
)
from signs_dist.data.photos.conversion import CONVERSION_VERSION, MAX_BAD_BEFORE_STOP, convert_all
from signs_dist.data.photos.copies import Copies, find_copies
from signs_dist.data.photos.part_folder import move_into_place, part_folder_of, prepare_part_folder
from signs_dist.data.photos.sources import Arrangement, SourceReader, require_usable
from signs_dist.data.photos.split import Division
from signs_dist.data.problems import BadFile, bad_lines, listed
from signs_dist.data.shards.writing import pack_into_shards
from signs_dist.data.sources.arrangement import read_source
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.files import write_json, written_aside
from signs_dist.run_folder.digest import file_sha256

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen


def build(request: BuildRequest, *, screen: Screen | None = None) -> Path:
    """Make the data set, unless it is already built, and return its folder.

    Args:
        request: what to build, and how.
        screen: shows the progress and the result. None: shows nothing.

    Raises:
        UserError: the source is not a data set, an image is bad (with `stop`), the output exists and does not fit the
            request, or the disk is full. The output folder is then unchanged; finished images stay in a hidden folder
            beside it.
    """
    screen = screen or _quiet_screen()
    request.check()
    files, arrangement = read_source(request.source)
    for note in arrangement.notes:
        screen.say(note)
    require_usable(arrangement, request.source)
    out = request.out or default_out(request.source, request.size, arrangement, shards=request.shards)
    if arrangement.root is None:
        _check_places(request.source, out)
    division = choose_division(request, arrangement)
    _plan(request, arrangement, division)  # refuses before anything is written
    facts = request_facts(request, files, division)
    with _locked(out, screen):
        if is_already_built(out, facts, request):
            record = read_build_file(out)
            screen.result(f"already built: {out} ({summary(record)})")
            _show_next_step(screen, out, request, record["splits"]["train"]["images"])
        else:
            copies = _find_copies(request, arrangement, screen) if division == "stratified" else ()
            plan = _plan(request, arrangement, division, copies)
            _build_locked(request, out, arrangement, plan, division, facts, screen)
    return out


def _plan(
    request: BuildRequest, arrangement: Arrangement, division: Division | None, copies: Copies = ()
) -> list[PlannedImage]:
    plan = plan_images(arrangement, division, seed=request.seed, val_share=request.val_share, copies=copies)
    check_classes(planned_counts(without_small_classes(plan, request)[0]), request.source, division)
    return plan


def _find_copies(request: BuildRequest, arrangement: Arrangement, screen: Screen) -> Copies:
    files = [image.file for image in arrangement.images]
    with screen.preparing() as report:
        return find_copies(
            _place(request, arrangement), files, lambda done, total: report("comparing files", done, total)
        )


@contextlib.contextmanager
def _locked(out: Path, screen: Screen) -> Iterator[None]:
    """Let one process build a folder at a time. The system releases the lock of a process that is killed."""
    lock = locked(out.parent / f".{out.name}.lock", f"builds {out}", tell=screen.result)
    with contextlib.ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock)
        except OSError as error:
            raise UserError(
                f"cannot write to {out.parent}: {error.strerror}. Choose another folder with --out."
            ) from error
        yield


def _build_locked(
    request: BuildRequest,
    out: Path,
    arrangement: Arrangement,
    plan: list[PlannedImage],
    division: Division | None,
    facts: dict[str, Any],
    screen: Screen,
) -> None:
    part = part_folder_of(out)
    recipe = f"{request.size} px, quality {request.quality}, conversion {CONVERSION_VERSION}"
    stamps = {
        image.output: f"{image.source.path}, {image.source.num_bytes} bytes, {image.source.stamp}, {recipe}"
        for image in plan
    }
    done = prepare_part_folder(part, stamps)
    if done:
        screen.say(f"continuing: {len(done):,} of {len(plan):,} images are done")
    todo = [image for image in plan if image.output not in done]
    bad = [BadFile(path, reason) for path, reason in arrangement.bad_names]
    reading = dataclasses.replace(request, source=_place(request, arrangement))
    bad += convert_all(reading, part, todo, num_done=len(done), num_bad=len(bad), screen=screen)
    bad.sort(key=lambda file: file.path)
    if bad and request.bad_images == "stop":
        raise UserError("\n".join(_stop_lines(request, bad)))
    left_out = {file.path for file in bad}
    usable = [image for image in plan if image.source.path not in left_out]
    kept, small_classes = without_small_classes(usable, request)
    counts = planned_counts(kept)
    check_classes(counts, request.source, division)
    duplicates = find_duplicates(
        {image.output: (image.split, file_sha256(part / image.output)) for image in kept},
        {image.output: image.class_name for image in kept},
    )
    quarantine = out.parent / f"{out.name}.quarantine" if request.bad_images == "quarantine" else None
    if bad and quarantine is not None:
        _copy_to_quarantine(reading.source, bad, quarantine)
    for image in set(usable) - set(kept):
        (part / image.output).unlink()
    if request.shards:
        with screen.preparing() as report:
            pack_into_shards(part, shard_megabytes=request.shard_megabytes, report=report)
    write_json(part / BUILD_FILE, build_record(facts, counts, bad, small_classes, duplicates, request))
    move_into_place(part, out)
    _show_result(
        screen, out, counts, bad, small_classes, duplicates, arrangement, quarantine, is_in_shards=request.shards
    )
    if duplicates.across and division == "published":
        screen.say("to keep copies on one side, in another split than the published one: --split stratified")
    _show_next_step(screen, out, request, sum(counts["train"].values()))


def _place(request: BuildRequest, arrangement: Arrangement) -> Path:
    """The zip or folder that holds the images."""
    return arrangement.root or request.source


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
        *bad_lines(bad),
        "Repair or remove them and repeat the command (finished images are kept). Or omit them: --bad-images skip. "
        "Or omit them and keep copies: --bad-images quarantine.",
    ]


def _copy_to_quarantine(source: Path, bad: list[BadFile], quarantine: Path) -> None:
    with SourceReader(source) as reader:
        for file in bad:
            try:
                content = reader.read(file.path)
                data = content if isinstance(content, bytes) else content.read_bytes()
            except (BadImageError, OSError):
                continue  # it cannot be read; the result names it as bad
            with written_aside(quarantine / file.path) as aside:
                aside.write_bytes(data)


def _show_result(
    screen: Screen,
    out: Path,
    counts: dict[str, dict[str, int]],
    bad: list[BadFile],
    small_classes: dict[str, int],
    duplicates: Duplicates,
    arrangement: Arrangement,
    quarantine: Path | None,
    *,
    is_in_shards: bool = False,
) -> None:
    from signs_dist.console.class_tables import count_table

    screen.tables(lambda width: [count_table(counts, width)])
    for line in outside_lines(arrangement.outside):
        screen.say(line)
    for line in duplicate_lines(duplicates, num_shown=3):
        screen.say(line)
    if (duplicates.across or duplicates.within) and not is_in_shards:
        screen.say(f"list all: python -m signs_dist.data.audit {shlex.quote(str(out))} --all")
    if small_classes:
        words = "class" if len(small_classes) == 1 else f"{len(small_classes):,} classes"
        names = listed([f"{name} ({_images(number)})" for name, number in small_classes.items()])
        screen.result(f"omitted {words} without an image for train or for val: {names}")
    if bad:
        copied = f", copied to {quarantine}" if quarantine is not None else ""
        screen.result(f"omitted {_images(len(bad), 'bad ')}{copied}:")
        for line in bad_lines(bad):
            screen.result(line)
    screen.result(f"built {out}: {', '.join(f'{split} {sum(row.values()):,}' for split, row in counts.items())}")


def _show_next_step(screen: Screen, out: Path, request: BuildRequest, num_train: int) -> None:
    for line in next_lines(out, request.size, num_train):
        screen.say(line)


def _quiet_screen() -> Screen:
    from signs_dist.console.screen import Screen

    return Screen(is_terminal=False, quiet=True)


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.data.build",
        description="Make a data set of small square JPEGs from photos. Repeat it to continue a stopped build.",
    )
    default = BuildRequest(Path())
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        help="SIGNS.zip, a folder with train_signs/ or class folders, or a table",
    )
    parser.add_argument("--out", type=Path, help="folder to make (default: data/64x64_SIGNS, or the source's name)")
    parser.add_argument("--size", type=int, default=default.size, help="side of the images in pixels (%(default)s)")
    parser.add_argument(
        "--val-share", type=float, default=default.val_share, help="share of train that becomes val (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of that division (%(default)s: published)")
    parser.add_argument(
        "--split",
        choices=("published", "stratified"),
        help="stratified: divide each class by itself, copies of a photo on one side; published: all photos together, "
        "as SIGNS was (default: stratified for class folders, published for names such as 3_IMG_5942.jpg)",
    )
    parser.add_argument(
        "--small-classes",
        choices=("stop", "skip"),
        default=default.small_classes,
        help="at a class without an image for train or for val: make no data set, or omit the class (%(default)s)",
    )
    parser.add_argument(
        "--bad-images",
        choices=("stop", "skip", "quarantine"),
        default=default.bad_images,
        help="stop: make no data set; skip: omit them; quarantine: omit and copy them to OUT.quarantine (%(default)s)",
    )
    parser.add_argument("--quality", type=int, default=default.quality, help="JPEG quality (%(default)s)")
    parser.add_argument(
        "--shards", action="store_true", help="write tar shards (WebDataset's format) instead of a file for each image"
    )
    parser.add_argument(
        "--shard-megabytes",
        type=int,
        metavar="N",
        default=default.shard_megabytes,
        help="largest size of a shard, in millions of bytes (%(default)s)",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="worker processes (default: all usable cores)")
    add_max_megapixels(parser)
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = vars(build_parser().parse_args(arguments))
    quiet = options.pop("quiet")
    options["max_megapixels"] = checked_megapixels(options["max_megapixels"]) or MAX_MEGAPIXELS
    request = BuildRequest(**options)
    from signs_dist.console.screen import Screen
    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import is_watched

    build(request, screen=Screen(is_terminal=is_watched(), quiet=quiet, file=lasting(sys.stdout)))
    return EXIT_OK


def _images(number: int, kind: str = "") -> str:
    return f"{number:,} {kind}image{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(run_command(main))
