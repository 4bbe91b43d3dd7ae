"""Claims: of several submissions for one run, only the first one continues."""

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
"""In the folder of a submission that is being made: its process."""
CLAIM_SECONDS = 600.0
"""How long a claim is valid if its process cannot be looked up, because it is on another machine."""
MAKING_SECONDS = 5.0
"""How long after making its folder a submission may take to write its claim."""


def claim_folder(root: Path) -> Path:
    """Make the next folder for a submission, `root`/001 and so on, and claim the run for it until `end_claim`.

    mkdir is atomic on every file system, shared ones too: of two submissions at the same moment the one with the lower
    number continues. A claim ends with its process; a claim from another machine ends after CLAIM_SECONDS.

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
        except FileExistsError:  # this machine's cached list of a shared folder may be old
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
    """End the claim: the submission is done, and its job is in the run folder's list of jobs."""
    (folder / CLAIM).unlink(missing_ok=True)


def _is_claimed(folder: Path) -> bool:
    """Whether the submission of a folder is under way."""
    age, is_made = 0.0, False
    deadline = time.monotonic() + MAKING_SECONDS
    while True:
        try:
            age = time.time() - folder.stat().st_mtime
            is_made = (folder / SUBMISSION).exists()  # written after the claim, so it is looked for first
            written = json.loads((folder / CLAIM).read_text(encoding="utf-8"))
            break
        except FileNotFoundError:
            if not folder.exists() or is_made:
                return False  # the submission is taken back, or done
        except (OSError, ValueError):
            return age < CLAIM_SECONDS
        if age > MAKING_SECONDS or time.monotonic() > deadline:
            return False  # its process ended between making the folder and writing the claim
        time.sleep(0.1)
    if not isinstance(written, dict) or written.get("host") != socket.gethostname():
        return age < CLAIM_SECONDS
    return is_alive(int(written.get("pid", 0)), str(written.get("birth")))
