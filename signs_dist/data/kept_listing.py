"""Listings of many images, kept in a file that all processes of a machine map, and that later runs take up.

One process lists a folder while the others wait. A listing is taken up again only after every folder of it was read
and every file looked at: names, sizes and times are those of the listing, else the folder is listed again.

The file `<key>-<digest>.listing` begins with a line of JSON; then come facts in JSON and arrays, in the order of
`_ARRAYS`, each at a multiple of 64 bytes. The digest is over all that follows the line.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.data import folder_state
from signs_dist.data.listing import Listing, PassedOver, Tally, TooManyFilesError, folder_identity, list_images
from signs_dist.data.locks import locked
from signs_dist.data.paths import Paths
from signs_dist.environment.cores import read_usable_cores
from signs_dist.errors import UserError
from signs_dist.files import written_aside

VERSION = 1
"""Raise it when the same folder would give another listing."""
MANY_FILES = 10_000
"""A folder with more files has its listing kept; fewer are listed in a tenth of a second."""
FILES_PER_CHECKER = 50_000
"""As many files are looked at by one process in a tenth of a second; more are shared by several."""
MOST_CHECKERS = 16
_ARRAYS = ("block", "starts", "folder_of", "stamps")
_ALIGNMENT = 64
_LONGEST_LINE = 4096
_STALE_SECONDS = 7 * 86400.0
"""A listing of a folder that has changed is removed after this time: running jobs may still map it."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclasses.dataclass(frozen=True)
class KeptListings:
    """Where listings are kept, and what one process must know to share them with the others of its run.

    Attributes:
        cache: data.cache; they are in its folder `listings`.
        since: `time.monotonic()` before any process of the run could begin to list. What another process has checked
            since then need not be checked again. None: the time of each call.
        tell: gets a line when this waits long for another process; None: standard error.
        many_files: folders with fewer files are not kept.
    """

    cache: Path
    since: float | None = None
    tell: Callable[[str], None] | None = None
    many_files: int = MANY_FILES

    def listing(self, folder: Path) -> Listing:
        """The photos below a folder, with sizes and times. Errors as `list_images`."""
        since = time.monotonic() if self.since is None else self.since
        try:
            return list_images(folder, with_stamps=True, at_most=self.many_files)
        except TooManyFilesError:
            return _Kept(self.cache / "listings", folder).agree(since, self.tell)


class _Kept:
    """The kept listings of one folder."""

    def __init__(self, place: Path, folder: Path) -> None:
        self._place, self._folder = place, folder
        self._key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]

    def agree(self, since: float, tell: Callable[[str], None] | None) -> Listing:
        """The listing of the folder as it is now; where nothing can be written, in memory."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # without a lock each process lists by itself
                self._place.mkdir(parents=True, exist_ok=True)
                what = f"lists the images in {self._folder}"
                stack.enter_context(locked(self._place / f"{self._key}.lock", what, tell=tell))
            known = self._newest()
            if known is not None and self._checked_since(since, known):
                return known
            begun = time.monotonic()
            if known is None or not is_unchanged(self._folder, known):
                known = self._keep(list_images(self._folder, with_stamps=True))
            self._note_check(begun, known)
            return known

    def _files(self) -> list[Path]:
        """The files of its listings, newest first."""
        found = []
        with contextlib.suppress(OSError):
            for path in self._place.glob(f"{self._key}-*.listing"):
                with contextlib.suppress(OSError):
                    found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found, reverse=True)]

    def _newest(self) -> Listing | None:
        for path in self._files():
            if (listing := read_listing(path)) is not None:
                return listing
        return None

    def _keep(self, listing: Listing) -> Listing:
        """The listing, mapped from a file; as it is without room or permission to write one, or without an image."""
        if not listing.images:  # refused by the caller, and an array without a row cannot be read as bytes
            return listing
        content = _to_content(listing)
        digest = _digest(content)
        path = self._place / f"{self._key}-{digest[:16]}.listing"
        try:
            with written_aside(path) as aside, aside.open("wb") as stream:
                stream.write(_first_line(listing, digest, sum(map(len, content))))
                stream.writelines(content)
        except (OSError, UserError):
            return listing
        for older in self._files()[1:]:
            with contextlib.suppress(OSError):
                if time.time() - older.stat().st_mtime > _STALE_SECONDS:
                    for beside in self._place.glob(f"{older.stem}.*"):
                        beside.unlink()
        return read_listing(path) or listing

    def _checked_since(self, since: float, known: Listing) -> bool:
        """Whether a process of this machine began to check this listing after `since`."""
        try:
            noted = json.loads((self._place / f"{self._key}.checked").read_text(encoding="utf-8"))
            is_same = noted["listing"] == _name(known) and noted["boot"] == _boot_id() is not None
            return bool(is_same and noted["begun"] >= since)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _note_check(self, begun: float, known: Listing) -> None:
        if known.images.origin is None:
            return
        with contextlib.suppress(OSError, UserError):
            os.utime(known.images.origin[0])  # the newest listing is that of the last check
        noted = {"listing": _name(known), "boot": _boot_id(), "begun": begun}
        with contextlib.suppress(OSError, UserError), written_aside(self._place / f"{self._key}.checked") as aside:
            aside.write_text(json.dumps(noted), encoding="utf-8")


def _name(listing: Listing) -> str | None:
    return None if listing.images.origin is None else listing.images.origin[0].name


def _boot_id() -> str | None:
    """What `time.monotonic` counts from, for the processes of one machine; None if the system does not tell."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None


def is_unchanged(folder: Path, listing: Listing) -> bool:
    """Whether every folder has the names, and every file the size and times, that a listing tells."""
    if _identities(folder, listing.identities) != listing.identities:
        return False
    inner = list(listing.digests)
    paths = [str(folder / path) for path in inner]
    return digests_now(paths, len(listing.images)) == [listing.digests[path] for path in inner]


def _identities(folder: Path, inner: Iterable[str]) -> dict[str, tuple[int, int]]:
    found = {}
    for path in inner:
        with contextlib.suppress(OSError):
            found[path] = folder_identity(folder / path)
    return found


def digests_now(folders: Sequence[str], num_files: int) -> list[str]:
    """`folder_state.digest_now` of each folder; many files are looked at by several processes.

    Threads would not do: Python runs one at a time, and a look at a file is more Python than system.
    """
    num_checkers = min(read_usable_cores(os.environ), MOST_CHECKERS, num_files // FILES_PER_CHECKER, len(folders))
    if num_checkers <= 1:
        return [folder_state.digest_now(folder) for folder in folders]
    shares = [folders[number::num_checkers] for number in range(num_checkers)]
    with concurrent.futures.ThreadPoolExecutor(num_checkers - 1) as pool:
        others = [pool.submit(_digests_by_process, share) for share in shares[1:]]
        mine = [folder_state.digest_now(folder) for folder in shares[0]]
        found = [mine, *(other.result() for other in others)]
    digests = [""] * len(folders)
    for number, share in enumerate(found):
        digests[number::num_checkers] = share
    return digests


def _digests_by_process(folders: Sequence[str]) -> list[str]:
    command = [sys.executable, "-I", "-S", folder_state.__file__]
    given = b"".join(os.fsencode(folder) + b"\0" for folder in folders)
    try:
        done = subprocess.run(command, input=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        digests = done.stdout.decode("ascii", "replace").split()
    except OSError:
        digests = []
    if len(digests) != len(folders):  # no such process could start, or it was killed
        return [folder_state.digest_now(folder) for folder in folders]
    return digests


def read_listing(path: Path) -> Listing | None:
    """Map a kept listing. None if there is none, or it is damaged or of another version."""
    try:
        with path.open("rb") as stream:
            line = stream.readline(_LONGEST_LINE)
            head = json.loads(line)
            num_bytes = os.fstat(stream.fileno()).st_size
            if head["version"] != VERSION or num_bytes != len(line) + head["num_bytes"]:
                return None
            # Private, so that arrays can be written to: a page that nobody writes to is shared all the same.
            mapped = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
        if hashlib.sha256(mapped[len(line) :]).hexdigest() != head["digest"]:
            return None
        return _from_content(mapped, len(line), head, path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _map_paths(path: Path, digest: str, prefix: str) -> Paths:
    """The paths of a kept listing, in another process. Raises `UserError` if it is not there any more."""
    listing = read_listing(path)
    if listing is None or listing.images.origin != (path, digest):
        raise UserError(f"the listing {path} was removed or damaged while a run used it. Repeat the command.")
    return listing.images.below(prefix)


def _digest(content: Sequence[Any]) -> str:
    hasher = hashlib.sha256()
    for piece in content:
        hasher.update(piece)
    return hasher.hexdigest()


def _first_line(listing: Listing, digest: str, num_bytes: int) -> bytes:
    head = {"version": VERSION, "num_images": len(listing.images), "num_bytes": num_bytes, "digest": digest}
    head["num_block_bytes"] = len(listing.images.block)
    head["num_fact_bytes"] = len(_facts(listing))
    line = json.dumps(head).encode("ascii")
    return line + b" " * (-(len(line) + 1) % _ALIGNMENT) + b"\n"


def _facts(listing: Listing) -> bytes:
    facts = {
        "passed_over": dataclasses.asdict(listing.passed_over),
        "num_others": listing.num_others,
        "folders": listing.folders,
        "digests": listing.digests,
        "identities": listing.identities,
    }
    return json.dumps(facts).encode("ascii")  # names that are not UTF-8 are escaped


def _arrays(listing: Listing) -> dict[str, Any]:
    return {
        "block": listing.images.block,
        "starts": listing.images.starts,
        "folder_of": listing.folder_of,
        "stamps": listing.stamps,
    }


def _to_content(listing: Listing) -> list[Any]:
    pieces: list[Any] = [_facts(listing)]
    for name in _ARRAYS:
        pieces.append(b"\0" * (-len(pieces[-1]) % _ALIGNMENT))
        pieces.append(memoryview(_arrays(listing)[name]).cast("B"))
    return pieces


def _from_content(mapped: memoryview, start: int, head: Mapping[str, Any], path: Path) -> Listing:
    import numpy  # not for --help of the commands that list folders

    count = head["num_images"]
    facts = json.loads(bytes(mapped[start : start + head["num_fact_bytes"]]))
    sizes = {"block": head["num_block_bytes"], "starts": 8 * (count + 1), "folder_of": 4 * count, "stamps": 24 * count}
    found = {}
    place = start + head["num_fact_bytes"]
    for name in _ARRAYS:
        place += -(place - start) % _ALIGNMENT
        found[name] = mapped[place : place + sizes[name]]
        place += sizes[name]
    return Listing(
        images=Paths(found["block"], found["starts"], origin=(path, head["digest"]), map_again=_map_paths),
        passed_over=PassedOver(
            **{kind: Tally(of["count"], tuple(of["examples"])) for kind, of in facts["passed_over"].items()}
        ),
        num_others=facts["num_others"],
        folders=tuple(facts["folders"]),
        folder_of=numpy.frombuffer(found["folder_of"], numpy.int32),
        stamps=numpy.frombuffer(found["stamps"], numpy.int64).reshape(count, 3),
        digests=facts["digests"],
        identities={name: (place[0], place[1]) for name, place in facts["identities"].items()},
    )


def remember(images: Sequence[str], facts: bytes, find: Callable[[], str]) -> str:
    """A text that is a function of kept paths and of `facts`: found once, and written beside their listing.

    Args:
        images: paths of an index. If they are not those of a kept listing, the text is found each time.
        facts: all else that the text depends on.
        find: finds it.
    """
    origin = images.origin if isinstance(images, Paths) else None
    if origin is None:
        return find()
    assert isinstance(images, Paths)
    file, digest = origin
    key = hashlib.sha256(f"{digest}\0{images.prefix}\0".encode("utf-8", "surrogateescape") + facts).hexdigest()
    path = file.with_suffix(f".{key[:16]}")
    with contextlib.suppress(OSError, ValueError):
        known, check = path.read_text(encoding="utf-8").split()
        if check == hashlib.sha256(f"{key} {known}".encode()).hexdigest():
            return known
    text = find()
    with contextlib.suppress(OSError, UserError):
        check = hashlib.sha256(f"{key} {text}".encode()).hexdigest()
        with written_aside(path) as aside:
            aside.write_text(f"{text} {check}\n", encoding="utf-8")
    return text
