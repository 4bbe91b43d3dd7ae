"""Which of several submissions for one run goes on: the one that has claimed it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path

from signs_dist.environment.process_table import is_alive, read_birth
from signs_dist.errors import UserError
from signs_dist.files import write_json

SUBMISSION = "submission.json"
"""In a submission's folder: how it was submitted."""
CLAIM = "claim.json"
"""In the folder of a submission that is under way: whose it is."""
CLAIM_SECONDS = 600.0
"""How long a claim counts whose process cannot be looked for."""
MAKING_SECONDS = 5.0
"""Between making the folder and claiming it lies no more than a moment."""


def claim_folder(root: Path) -> Path:
    """Make the next folder for a submission, `root`/001 and so on, and claim the run for it until `end_claim`.

    Making a folder is one step on every file system, a shared one as well: of two submissions at the same moment the
    one with the lower number goes on. A claim whose process is gone counts no more; one on another machine, for
    CLAIM_SECONDS.

    Raises:
        UserError: another submission has claimed the run.
    """
    root.mkdir(parents=True, exist_ok=True)
    number = max((int(path.name) for path in root.glob("[0-9]*") if path.name.isdigit()), default=0)
    while True:
        number += 1
        folder = root / f"{number:03d}"
        try:
            folder.mkdir()
            break
        except FileExistsError:  # another machine's list of the folder may be old
            continue
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "birth": read_birth(os.getpid())}
    write_json(folder / CLAIM, mine)
    for other in (root / f"{earlier:03d}" for earlier in range(1, number)):
        if _is_claimed(other):
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(
                f"another submission for {root.parent} is under way (it is {other}). Wait for it, or type another "
                f"--run-dir."
            )
    return folder


def end_claim(folder: Path) -> None:
    """The submission is done: what was submitted says so itself from now on."""
    (folder / CLAIM).unlink(missing_ok=True)


def _is_claimed(folder: Path) -> bool:
    """Whether the submission of a folder is under way."""
    age, is_made = 0.0, False
    deadline = time.monotonic() + MAKING_SECONDS
    while True:
        try:
            age = time.time() - folder.stat().st_mtime
            is_made = (folder / SUBMISSION).exists()  # written when it has been claimed, so it is asked for first
            written = json.loads((folder / CLAIM).read_text(encoding="utf-8"))
            break
        except FileNotFoundError:
            if not folder.exists() or is_made:
                return False  # taken back, or done
        except (OSError, ValueError):
            return age < CLAIM_SECONDS
        if age > MAKING_SECONDS or time.monotonic() > deadline:
            return False  # its process ended between making the folder and claiming it
        time.sleep(0.1)
    if not isinstance(written, dict) or written.get("host") != socket.gethostname():
        return age < CLAIM_SECONDS
    return is_alive(int(written.get("pid", 0)), str(written.get("birth")))
