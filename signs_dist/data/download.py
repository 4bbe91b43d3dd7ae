"""Get the published SIGNS photos (one zip of 1.16 GB on Google Drive) and check them.

python -m signs_dist.data.download        # → data/SIGNS.zip; repeated after an interruption, it goes on
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
from typing import TYPE_CHECKING

from signs_dist.console.command import CommandParser, run_command
from signs_dist.data.photos.archive import list_zip, open_zip
from signs_dist.data.photos.sources import arrange
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.files import explained

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen

PUBLISHED_FILE_ID = "1ufiR6hUKhXoAyiBNsySPkUwlvE_wfEHC"
"""The zip on Google Drive, as the CS230 course published it."""
PUBLISHED_COUNTS = {"train": 1080, "test": 120}
ZIP_NAME = "SIGNS.zip"
_READ_BYTES = 2**20


def download(out: Path, *, file_id: str, counts: Mapping[str, int], screen: Screen) -> Path:
    """Get and check the zip, unless it is there, and return its path.

    What is there of an unfinished download is kept in a hidden folder in `out`, and continued.

    Raises:
        UserError: gdown is not installed, Google Drive does not hand out the file, or it is not what was published.
    """
    target = out / ZIP_NAME
    if target.exists():
        check_zip(target, counts, screen)
        screen.say(f"already there: {target}")
        return target
    aside = out / f".{ZIP_NAME}.download"
    with _only_one(aside):
        if not target.exists():  # else another process got it while we waited
            _fetch_whole(aside, file_id, counts, screen)
            (aside / ZIP_NAME).replace(target)
    return target


def _fetch_whole(aside: Path, file_id: str, counts: Mapping[str, int], screen: Screen) -> None:
    arrived = aside / ZIP_NAME
    if not arrived.exists():
        _check_gdown_is_installed()
        screen.say(f"downloading {_address(file_id)} to {aside.parent / ZIP_NAME} (the published zip has 1.16 GB)")
        try:
            fetch(file_id, aside)
        except OSError as error:  # requests' errors are OSErrors too
            told = explained(error, arrived)
            raise told if isinstance(told, UserError) else UserError(_by_hand(file_id, aside, str(error))) from error
        except RuntimeError as error:
            raise UserError(_by_hand(file_id, aside, str(error))) from error
    if not arrived.exists():
        raise UserError(_by_hand(file_id, aside, "no file came"))
    try:
        check_zip(arrived, counts, screen)
    except UserError:
        arrived.unlink()  # whole, but not what it should be: the next try must not take it for done
        raise


def _check_gdown_is_installed() -> None:
    if importlib.util.find_spec("gdown") is None:
        raise UserError(
            "downloading from Google Drive needs the package gdown. Type: pip install 'signs_dist[download]'"
        )


def fetch(file_id: str, folder: Path) -> None:
    """Get a file of Google Drive as `folder`/SIGNS.zip through torchvision's helper. Needs the network.

    The helper cannot resume. So where a part of an earlier try lies in `folder`, gdown, which the helper calls, is
    asked to go on with it first, in the same words plus `resume`; the helper then finds the file whole.

    Raises:
        OSError: no connection, or the disk is full.
        RuntimeError: Google Drive did not hand out the file.
    """
    import gdown  # type: ignore[import-not-found, unused-ignore]
    from torchvision.datasets import utils

    parts = sorted((path for path in folder.iterdir() if path.name != ZIP_NAME), key=lambda path: path.stat().st_size)
    for smaller in parts[:-1]:
        smaller.unlink()  # gdown refuses to choose between two
    with _gdown_told():
        if parts:
            gdown.download(id=file_id, output=str(folder / ZIP_NAME), user_agent=utils.USER_AGENT, resume=True)
        utils.download_file_from_google_drive(file_id, str(folder), ZIP_NAME)


@contextlib.contextmanager
def _gdown_told() -> Iterator[None]:
    """gdown's bar goes to a terminal only; its exceptions, which share no base with others, become RuntimeError."""
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
        # Older versions of gdown print why, and torchvision then says only that there is no file.
        lines = [line.strip() for line in shown.getvalue().splitlines() if line.strip()]
        raise RuntimeError(" ".join([str(error), *lines[-3:]])) from error


def check_zip(path: Path, counts: Mapping[str, int], screen: Screen) -> None:
    """Check that a file is a whole zip with so many images in each split, every member's checksum included.

    Raises:
        UserError: it is not, and what it is instead.
    """
    _check_not_a_page(path)
    arrangement = arrange(list_zip(path), path)
    found = {split: sum(image.split == split for image in arrangement.images) for split in counts}
    if found != dict(counts):
        raise UserError(
            f"{path} holds {_listed(found)} images; published were {_listed(counts)}. "
            f"It is another zip, or a part of one. Remove it and repeat the command. If it is meant as it is: "
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
            f"{path} is a web page, not a zip: Google Drive says so when a file was fetched too often today, or is no "
            f"longer shared. Try again tomorrow, or get it by hand in a browser: {_address(PUBLISHED_FILE_ID)}, "
            f"save it as {ZIP_NAME}, and type: python -m signs_dist.data.build --source {ZIP_NAME}"
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
        f"Google Drive did not hand out the file: {reason.strip().rstrip('.')}. Repeat the command to go on. "
        f"If it fails again, open {_address(file_id)} in a browser, save the file as {aside.parent / ZIP_NAME}, "
        f"and repeat the command to have it checked."
    )


def _address(file_id: str) -> str:
    return f"https://drive.google.com/uc?id={file_id}"


def _listed(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{count:,} {split}" for split, count in counts.items())


@contextlib.contextmanager
def _only_one(aside: Path) -> Iterator[None]:
    from filelock import FileLock

    try:
        aside.mkdir(parents=True, exist_ok=True)
        acquired = FileLock(aside.parent / f"{aside.name}.lock").acquire()
    except OSError as error:
        raise explained(error, aside) from error
    with acquired:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                aside.rmdir()  # stays where it holds a part


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m signs_dist.data.download",
        description="Get the published SIGNS photos (1.16 GB) from Google Drive and check them. Repeated, it goes on.",
    )
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder for SIGNS.zip (%(default)s)")
    parser.add_argument("--file-id", default=PUBLISHED_FILE_ID, help="Google Drive id of the zip (%(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring. Raises UserError."""
    options = _parser().parse_args(arguments)
    from signs_dist.console.screen import Screen

    screen = Screen(is_terminal=sys.stdout.isatty())
    path = download(options.out, file_id=options.file_id, counts=PUBLISHED_COUNTS, screen=screen)
    screen.result(f"{path}: {_listed(PUBLISHED_COUNTS)} images, all whole")
    screen.result(f"build the data set: python -m signs_dist.data.build --source {shlex.quote(str(path))}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
