"""Before worker processes start: does this machine leave them what they need? Without it they hang or die."""

from __future__ import annotations

from signs_dist.data.loader import LoaderSettings
from signs_dist.environment.worker_limits import Limits
from signs_dist.errors import UserError

LONGEST_SOCKET_PATH = 107
"""Bytes of a unix socket's path (unix(7), sun_path, without its final zero)."""
SOCKET_NAME = "/pymp-01234567/listener-01234567"
"""What multiprocessing adds to the temporary directory."""
FILES_PER_WORKER = 4
"""Open files of the main process for each worker: two pipes, and one to notice its end."""
FILES_PER_BATCH = 3
"""Open files for a batch that is on its way: its images, labels and numbers."""
OTHER_FILES = 16
"""Open files that the rest of a run needs: logs, a checkpoint, sockets."""


def require_room(settings: LoaderSettings, limits: Limits, *, num_loaders: int, batch_bytes: int = 0) -> None:
    """Raise unless the machine's limits leave room for the workers.

    Args:
        settings: of each loader.
        limits: of this process.
        num_loaders: how many loaders start workers.
        batch_bytes: of one batch; 0 if it is unknown.

    Raises:
        UserError: the message names the limit.
    """
    workers = settings.num_workers * num_loaders
    if not workers:
        return
    _require_short_path(limits.temporary_folder)
    _require_files(settings, limits, workers)
    _require_shared_memory(settings, limits, batch_bytes)


def _require_short_path(folder: str) -> None:
    longest = LONGEST_SOCKET_PATH - len(SOCKET_NAME)
    length = len(folder.encode(errors="surrogateescape"))
    if length > longest:
        raise UserError(
            f"the path of the temporary directory has {length} bytes, and loader workers need one of at most "
            f"{longest}: {folder}. Set TMPDIR to a shorter one, such as TMPDIR=/tmp, or set data.num_workers=0."
        )


def _require_files(settings: LoaderSettings, limits: Limits, workers: int) -> None:
    if limits.open_files is None:
        return
    in_flight = FILES_PER_BATCH * (settings.prefetch + 1)
    needed = limits.num_open_files + FILES_PER_WORKER * workers + in_flight + OTHER_FILES
    if needed <= limits.open_files:
        return
    ceiling = limits.open_files_ceiling
    if ceiling is None or ceiling >= needed:
        way_out = f"Type ulimit -n {needed if ceiling is None else min(ceiling, max(needed, 4096))}"
    else:
        way_out = f"The ceiling is {ceiling} (ulimit -Hn), which root raises in /etc/security/limits.conf"
    raise UserError(
        f"{workers} loader workers need about {needed} open files, and this process may have {limits.open_files} "
        f"(ulimit -n). {way_out}; or set data.num_workers=0."
    )


def _require_shared_memory(settings: LoaderSettings, limits: Limits, batch_bytes: int) -> None:
    if not limits.is_shared_writable:
        raise UserError(
            "loader workers send images through shared memory, and this process may not write to /dev/shm. Let root "
            "type chmod 1777 /dev/shm, or set data.num_workers=0."
        )
    # One loader is in use at a time: the other workers have sent all that they had.
    needed = settings.num_workers * settings.prefetch * batch_bytes
    if limits.shared_bytes is not None and needed > limits.shared_bytes:
        raise UserError(
            f"{settings.num_workers} loader workers with data.prefetch={settings.prefetch} hold up to "
            f"{_mebibytes(needed)} of images in shared memory, and /dev/shm has {_mebibytes(limits.shared_bytes)} "
            f"free. Set smaller ones, or data.num_workers=0; a container gets more by docker run --shm-size."
        )


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
