"""Download the published SIGNS photos (one zip of 1.16 GB on Google Drive) and verify them.

python -m signs_dist.data.download        # → data/SIGNS.zip; to resume, repeat the command
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import shlex
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.data.locks import locked
from signs_dist.data.photos.archive import list_zip, open_zip
from signs_dist.data.photos.sources import arrange
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.extras import require_extra
from signs_dist.files import explained

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen

PUBLISHED_FILE_ID = "1ufiR6hUKhXoAyiBNsySPkUwlvE_wfEHC"
"""The zip on Google Drive, as the CS230 course published it."""
PUBLISHED_COUNTS = {"train": 1080, "test": 120}
ZIP_NAME = "SIGNS.zip"
SILENT_SECONDS = 60.0
"""A connection on which nothing comes for so long is given up; the next try continues from there."""
_READ_BYTES = 2**20


def download(out: Path, *, file_id: str, counts: Mapping[str, int], screen: Screen) -> Path:
    """Download the zip, unless it exists, verify it, and return its path.

    An unfinished download is kept in a hidden folder in `out`, and resumed.

    Args:
        out: folder for the zip.
        file_id: of the zip on Google Drive.
        counts: split → number of images that the zip must have.
        screen: shows the progress.

    Raises:
        UserError: gdown is not installed, Google Drive does not send the file, or it is not the published one.
    """
    target = out / ZIP_NAME
    if target.exists():
        check_zip(target, counts, screen)
        screen.say(f"already there: {target}")
        return target
    aside = out / f".{ZIP_NAME}.download"
    with _locked(aside):
        if not target.exists():  # else another process has downloaded it meanwhile
            _fetch_whole(aside, file_id, counts, screen)
            (aside / ZIP_NAME).replace(target)
    return target


def _fetch_whole(aside: Path, file_id: str, counts: Mapping[str, int], screen: Screen) -> None:
    arrived = aside / ZIP_NAME
    if not arrived.exists():
        require_extra("download", "gdown", "downloading from Google Drive")
        screen.say(f"downloading {_address(file_id)} to {aside.parent / ZIP_NAME} (the published zip has 1.16 GB)")
        try:
            fetch(file_id, aside)
        except OSError as error:  # requests' errors are OSErrors too
            explanation = explained(error, arrived)
            raise (
                explanation if isinstance(explanation, UserError) else UserError(_by_hand(file_id, aside, str(error)))
            ) from error
        except RuntimeError as error:
            raise UserError(_by_hand(file_id, aside, str(error))) from error
    if not arrived.exists():
        raise UserError(_by_hand(file_id, aside, "it sent no file"))
    try:
        check_zip(arrived, counts, screen)
    except UserError:
        arrived.unlink()  # complete but wrong: the next attempt must download it again
        raise


def fetch(file_id: str, folder: Path) -> None:
    """Download a file from Google Drive to `folder`/SIGNS.zip with torchvision's helper. Needs the network.

    The helper calls gdown and cannot resume. If `folder` holds a part of an earlier download, gdown is called first,
    with the same arguments and `resume=True`; the helper then finds the complete file.

    Raises:
        OSError: no connection, or the disk is full.
        RuntimeError: Google Drive did not send the file.
    """
    import gdown  # type: ignore[import-not-found, unused-ignore]
    from torchvision.datasets import utils

    parts = sorted((path for path in folder.iterdir() if path.name != ZIP_NAME), key=lambda path: path.stat().st_size)
    for smaller in parts[:-1]:
        smaller.unlink()  # gdown refuses to resume if there are two parts
    with _gdown_errors_converted(), _silence_limited():
        if parts:
            gdown.download(id=file_id, output=str(folder / ZIP_NAME), user_agent=utils.USER_AGENT, resume=True)
        utils.download_file_from_google_drive(file_id, str(folder), ZIP_NAME)


@contextlib.contextmanager
def _silence_limited() -> Iterator[None]:
    """Within the block, requests gives up a connection on which nothing comes. gdown, which calls it, sets no limit."""
    if importlib.util.find_spec("requests") is None:
        yield
        return
    from requests.adapters import HTTPAdapter  # type: ignore[import-untyped, import-not-found, unused-ignore]

    send = HTTPAdapter.send

    def send_with_limit(self: Any, request: Any, **options: Any) -> Any:
        return send(self, request, **{**options, "timeout": options.get("timeout") or SILENT_SECONDS})

    HTTPAdapter.send = send_with_limit
    try:
        yield
    finally:
        HTTPAdapter.send = send


@contextlib.contextmanager
def _gdown_errors_converted() -> Iterator[None]:
    """Turn gdown's own exceptions into RuntimeError. Its progress bar is shown on a terminal only."""
    import gdown.exceptions  # type: ignore[import-not-found, unused-ignore]

    classes = [value for _, value in inspect.getmembers(gdown.exceptions, inspect.isclass)]
    own_errors = tuple(value for value in classes if issubclass(value, Exception))
    shown = io.StringIO()
    try:
        with contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(shown):
            yield
    except own_errors as error:
        raise RuntimeError(str(error).strip()) from error
    except RuntimeError as error:
        # Older versions of gdown print the reason, and torchvision then reports only a missing file.
        lines = [line.strip() for line in shown.getvalue().splitlines() if line.strip()]
        raise RuntimeError(" ".join([str(error), *lines[-3:]])) from error


def check_zip(path: Path, counts: Mapping[str, int], screen: Screen) -> None:
    """Verify that a file is a complete zip with `counts[split]` images in each split, and every member's checksum.

    Raises:
        UserError: it is something else; the message says what was found.
    """
    _check_not_a_page(path)
    arrangement = arrange(list_zip(path), path)
    found = {split: sum(image.split == split for image in arrangement.images) for split in counts}
    if found != dict(counts):
        raise UserError(
            f"{path} holds {_counted(found)} images; the published zip holds {_counted(counts)}. "
            f"Remove it and repeat the command. To build a data set from it as it is: "
            f"python -m signs_dist.data.build --source {shlex.quote(str(path))}"
        )
    with open_zip(path) as archive, screen.preparing() as report:
        members = archive.infolist()
        for number, member in enumerate(members, start=1):
            _check_sum(path, archive, member)
            report("checking", number, len(members))


def _check_not_a_page(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(1024).lstrip().lower()
    if not start:
        raise UserError(f"{path} has 0 bytes. Remove it and repeat the command.")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{path} is a web page, not a zip. Google Drive sends one if a file was downloaded too often today, or is "
            f"no longer shared. Try again tomorrow; or open {_address(PUBLISHED_FILE_ID)} in a browser, "
            f"save the file as {ZIP_NAME}, and type: python -m signs_dist.data.build --source {ZIP_NAME}"
        )


def _check_sum(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    try:
        with archive.open(member) as content:
            while content.read(_READ_BYTES):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{path}: the member {member.filename} is damaged ({error}). Remove the zip and repeat the command."
        ) from error


def _by_hand(file_id: str, aside: Path, reason: str) -> str:
    return (
        f"Google Drive did not send the file: {reason.strip().rstrip('.')}. Repeat the command to resume. "
        f"If it fails again, open {_address(file_id)} in a browser, save the file as {aside.parent / ZIP_NAME}, "
        f"and repeat the command to verify it."
    )


def _address(file_id: str) -> str:
    return f"https://drive.google.com/uc?id={file_id}"


def _counted(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{count:,} {split}" for split, count in counts.items())


@contextlib.contextmanager
def _locked(aside: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            aside.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(aside.parent / f"{aside.name}.lock", "downloads the same file"))
        except OSError as error:
            raise explained(error, aside) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                aside.rmdir()  # fails if it holds a part, which is kept


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.data.download",
        description="Get the published SIGNS photos (1.16 GB) from Google Drive and verify them. To resume, repeat it.",
    )
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder for SIGNS.zip (%(default)s)")
    parser.add_argument("--file-id", default=PUBLISHED_FILE_ID, help="Google Drive id of the zip (%(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = build_parser().parse_args(arguments)
    from signs_dist.console.screen import Screen
    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import is_watched

    screen = Screen(is_terminal=is_watched(), file=lasting(sys.stdout))
    path = download(options.out, file_id=options.file_id, counts=PUBLISHED_COUNTS, screen=screen)
    screen.result(f"{path}: {_counted(PUBLISHED_COUNTS)} images, checksums verified")
    screen.result(f"build the data set: python -m signs_dist.data.build --source {shlex.quote(str(path))}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
