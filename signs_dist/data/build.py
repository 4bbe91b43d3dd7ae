"""Make a data set of small square JPEGs from photos.

python -m signs_dist.data.build --source SIGNS.zip              # or the unpacked folder → data/64x64_SIGNS
python -m signs_dist.data.build --source my_photos/ --size 128  # class folders → data/128x128_my_photos

The output folder appears only when it is complete. To continue a build that was stopped, repeat the command.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.data.audit import (
    BadFile,
    Duplicates,
    bad_lines,
    duplicate_lines,
    find_duplicates,
)
from signs_dist.data.images import BadImageError
from signs_dist.data.locks import locked
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
from signs_dist.data.photos.conversion import CONVERSION_VERSION, MAX_BAD_BEFORE_STOP, convert_all
from signs_dist.data.photos.part_folder import move_into_place, part_folder_of, prepare_part_folder
from signs_dist.data.photos.sources import Arrangement, SourceReader, arrange, list_source
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
    bad += convert_all(request, part, todo, num_done=len(done), num_bad=len(bad), screen=screen)
    bad.sort(key=lambda file: file.path)
    if bad and request.bad_images == "stop":
        raise UserError("\n".join(_stop_lines(request, bad)))
    left_out = {file.path for file in bad}
    kept = [image for image in plan if image.source.path not in left_out]
    counts = planned_counts(kept)
    check_classes(counts, request.source)
    duplicates = find_duplicates({image.output: (image.split, file_sha256(part / image.output)) for image in kept})
    quarantine = out.parent / f"{out.name}.quarantine" if request.bad_images == "quarantine" else None
    if bad and quarantine is not None:
        _copy_to_quarantine(request.source, bad, quarantine)
    write_json(part / BUILD_FILE, build_record(facts, counts, bad, duplicates, request))
    move_into_place(part, out)
    _show_result(screen, out, counts, bad, duplicates, arrangement, quarantine)


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
    duplicates: Duplicates,
    arrangement: Arrangement,
    quarantine: Path | None,
) -> None:
    from signs_dist.console.class_tables import count_table

    screen.tables(lambda width: [count_table(counts, width)])
    if arrangement.outside:
        screen.say(f"{_images(len(arrangement.outside))} outside the split folders not used:")
        for line in arrangement.outside[:3]:
            screen.say(f"  {line}")
    for line in duplicate_lines(duplicates, num_shown=3):
        screen.say(line)
    if duplicates.across or duplicates.within:
        screen.say(f"list all: python -m signs_dist.data.audit {shlex.quote(str(out))}")
    if bad:
        copied = f", copied to {quarantine}" if quarantine is not None else ""
        screen.result(f"omitted {_images(len(bad), 'bad ')}{copied}:")
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
        description="Make a data set of small square JPEGs from photos. Repeat it to continue a stopped build.",
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
        help="stop: make no data set; skip: omit them; quarantine: omit and copy them to OUT.quarantine (%(default)s)",
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


def _images(number: int, kind: str = "") -> str:
    return f"{number:,} {kind}image{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(run_command(main))
