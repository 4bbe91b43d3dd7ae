"""The run folder: the files of a run.

config.yaml      every setting; --config reads it back
manifest.json    command, versions, commit, data, host, devices
metrics.jsonl    a line per epoch and per N steps
attempts.jsonl   a line at each start and each end
division.csv     the split of each image, where the run divided them
training-images… the first training images as the network sees them, and their names
checkpoints/     the newest states of the run and the best, each with its SHA-256
model.pt         final weights
predictions-…    what these weights say about each image of a split; before the end, those of the best epoch so far
receipt.json     of an exact run: what others need to prove it, and what they have proved
result.json      final numbers; the run is finished if and only if they can be read
logs/            the output of each process
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError
from signs_dist.files import cannot_make, flush_to_disk, write_json, write_text
from signs_dist.run_folder.file_kinds import require_run_files
from signs_dist.run_folder.lines import append_line, read_lines, to_line
from signs_dist.run_folder.records import (
    ATTEMPT_KINDS,
    METRICS_KINDS,
    AttemptLine,
    Line,
    MetricsLine,
    parse_lines,
    to_fields,
)


def allow() -> None:
    """Allow a write."""


# Many members: one for each file of a run folder, and for reading and writing them.
class RunFolder:
    """A run folder; each file and subfolder is an attribute.

    Args:
        path: the folder.
        is_writer: whether this process writes into the folder. One process of a run does; in the other processes, the
            methods that write do nothing.

    Attributes:
        require_held: called before each write. It raises where this process may no longer write: `Lease.require_held`
            once the lease is taken.
    """

    def __init__(self, path: Path, *, is_writer: bool = True) -> None:
        self.path = path
        self.is_writer = is_writer
        self.require_held: Callable[[], None] = allow
        self.config = path / "config.yaml"
        self.manifest = path / "manifest.json"
        self.metrics = path / "metrics.jsonl"
        self.attempts = path / "attempts.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.pt"
        self.result = path / "result.json"
        self.receipt = path / "receipt.json"
        self.logs = path / "logs"

    def create(self) -> RunFolder:
        """Make the folder and its subfolders where they do not exist, and return this object.

        Raises:
            UserError: the folder holds other files, or cannot be made.
        """
        try:
            require_run_or_empty(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_make(error, self.path) from error
        return self

    @property
    def is_begun(self) -> bool:
        """Whether a run has begun in this folder, finished or not."""
        return self.config.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished."""
        return self.read_result() is not None

    def read_result(self) -> dict[str, Any] | None:
        """The contents of result.json; None where the run is not finished: the file is missing, empty or torn."""
        try:
            if not self.result.is_file():  # to open a pipe would wait for a writer
                return None
            value = json.loads(self.result.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) and value.get("finished") is True else None

    def set_result_aside(self) -> list[Path]:
        """Rename result, final weights and predictions of a run that is trained further. Returns their new paths.

        The result comes first: from then on the run is not finished.
        """
        result = self.read_result()
        if result is None or not self.is_writer:
            return []
        self.require_held()
        mark = f"{result.get('epochs_trained', result.get('epochs', 'earlier'))}-epochs"
        moved = []
        predictions = (self.path / f"predictions-{split}.jsonl" for split in ("val", "test"))
        for path in (self.result, self.receipt, self.model, *predictions):
            with contextlib.suppress(FileNotFoundError):
                moved.append(path.replace(path.with_stem(f"{path.stem}-{mark}")))
        return moved

    def read_lines(self, file: Path) -> list[dict[str, Any]]:
        """The JSON objects in the lines of a file. Other lines, such as a last line cut off by a kill, are omitted."""
        return read_lines(file)

    def keep_lines(self, file: Path, is_kept: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite a file of JSON lines with the lines for which `is_kept` is true, as a whole or not at all."""
        if not self.is_writer:
            return
        self.require_held()
        text = b"".join(to_line(line) for line in self.read_lines(file) if is_kept(line))
        if file.exists() or text:
            write_text(file, text.decode("utf-8"))

    def flush(self, file: Path) -> None:
        """Flush appended lines to the disk."""
        if self.is_writer and file.exists():
            flush_to_disk(file)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run folder for reading.

        Raises:
            UserError: `path` is not a run folder, or one of its files is none.
        """
        require_run_files(path)
        folder = cls(path)
        if path.is_file():
            raise UserError(f"{path} is a file, not a run folder. Give its run folder, and the file with --weights.")
        if not folder.config.is_file():
            what = "is not a run folder: it has no config.yaml" if path.is_dir() else "does not exist"
            raise UserError(f"{path} {what}. To make one under runs/, type: python -m signs_dist.train")
        return folder

    def append(self, file: Path, line: Mapping[str, Any]) -> None:
        """Add one JSON line to metrics.jsonl or attempts.jsonl."""
        if self.is_writer:
            self.require_held()
            try:
                append_line(file, line)
            except OSError:
                self.require_held()  # raises if the folder was moved meanwhile
                raise

    def add(self, line: Line) -> None:
        """Add a line to the file that its kind belongs to."""
        file = self.metrics if line.KEY[0] == "kind" else self.attempts
        self.append(file, to_fields(line))

    def read_metrics(self) -> list[MetricsLine]:
        """The records of metrics.jsonl; other lines are omitted."""
        return parse_lines(self.read_lines(self.metrics), METRICS_KINDS)

    def read_attempts(self) -> list[AttemptLine]:
        """The records of attempts.jsonl; other lines are omitted."""
        return parse_lines(self.read_lines(self.attempts), ATTEMPT_KINDS)

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        if self.is_writer:
            self.require_held()
            write_text(self.config, text)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write manifest.json."""
        self.write_json(self.manifest.name, manifest)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of this folder."""
        if self.is_writer:
            self.require_held()
            write_json(self.path / name, value)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json, which marks the run as finished."""
        self.write_json(self.result.name, result)


def require_run_or_empty(path: Path) -> None:
    """Refuse to make a run at `path` if other files are there.

    Raises:
        UserError: `path` is a file, or a folder with other files, or one of a run's files is none.
    """
    require_run_files(path)
    if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise UserError(
            f"--run-dir {path} is not a folder. Choose another name, or omit --run-dir for a new folder in runs/."
        )
    if not path.is_dir() or RunFolder(path).is_begun:
        return
    # A run that was killed while it made its folder leaves a lease, a manifest and empty folders. A submitted job that
    # has not begun to train has the folder submit/, its tasks' logs, and a line for each requeue.
    of_job = ("submit", "logs", "attempts.jsonl") if (path / "submit").is_dir() else ()
    ours = (".", "lease.json", "make-way", "manifest.json", *of_job)
    foreign = [
        item.name
        for item in path.iterdir()
        if not item.name.startswith(ours) and not (item.is_dir() and not any(item.iterdir()))
    ]
    if foreign:
        raise UserError(
            f"--run-dir {path} exists and holds other files: {', '.join(sorted(foreign)[:3])}. Choose another "
            f"name, or remove the folder first."
        )


def default_run_path(
    config_name: str, now: datetime.datetime, root: Path = Path("runs"), *, launch_id: str = ""
) -> Path:
    """`runs/<config>-<time>`, for `make_new_folder`: a folder of this name may exist.

    With a `launch_id`, `runs/<config>-<time>-<launch_id>`, or the existing folder with this `launch_id`: processes that
    the same launch restarts find their folder again.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", config_name).strip("-.") or "run"
    if launch_id:
        earlier = sorted(path for path in root.glob("*") if path.name.endswith(f"-{launch_id}"))
        return earlier[0] if earlier else root / f"{name}-{now:%Y%m%d-%H%M%S}-{launch_id}"
    return root / f"{name}-{now:%Y%m%d-%H%M%S}"


def make_new_folder(path: Path) -> Path:
    """Make a folder that did not exist: `path`, or `path` with a number appended. Returns its path.

    mkdir is atomic on every file system: of several processes that ask for one name at once, each gets another folder.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
            with contextlib.suppress(FileExistsError):
                candidate.mkdir()
                return candidate
    except OSError as error:
        raise cannot_make(error, path) from error
    raise AssertionError


def missing_folders(*paths: Path) -> list[Path]:
    """The folders among `paths` and those around them that do not exist, each before the folder around it."""
    wanted = {each for path in paths for each in (path, *path.parents)}
    return sorted((path for path in wanted if not path.exists()), key=lambda path: len(path.parts), reverse=True)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def timestamp(seconds: float | None = None) -> str:
    """Now, or a time in seconds since 1970, in UTC to the second: `2026-01-31T12:00:00+00:00`."""
    utc = datetime.timezone.utc
    moment = datetime.datetime.now(utc) if seconds is None else datetime.datetime.fromtimestamp(seconds, utc)
    return moment.isoformat(timespec="seconds")
