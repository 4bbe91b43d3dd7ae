"""What an exception means: its place in the code, what to do about it, and whether another process caused it."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from signs_dist.environment.limit_errors import explain_limit

PACKAGE = Path(__file__).resolve().parent.parent

_LOST_PEER_WORDS = (
    "connection closed by peer",
    "connection reset by peer",
    "timed out waiting",
    "socket timeout",
    "broken pipe",
    "remote process exited",
    "connectfullmesh failed",
    "connection refused",
    "application timeout caused pair closure",
)


def find_place(error: BaseException) -> str:
    """`file:line in function` of the innermost frame in this package or in the user's code; "" without one."""
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("platlib"), sysconfig.get_path("purelib"))
    frames = traceback.extract_tb(error.__traceback__)
    for depth, frame in enumerate(reversed(frames)):
        path = Path(frame.filename)
        is_in_package = path.is_relative_to(PACKAGE)
        if not is_in_package and (frame.filename.startswith(("<", *libraries)) or "site-packages" in path.parts):
            continue
        shown = path.relative_to(PACKAGE.parent) if is_in_package else path
        inner = frames[-1]
        through = "" if depth == 0 else f" (raised in {'/'.join(Path(inner.filename).parts[-3:])}:{inner.lineno})"
        return f"{shown}:{frame.lineno} in {frame.name}{through}"
    return ""


def hints(error: BaseException) -> tuple[str, ...]:
    """What to do about an error; empty for an unknown error."""
    text = f"{type(error).__name__}: {error}"
    if limit := explain_limit(error):
        return (limit,)
    if "OutOfMemoryError" in text or "out of memory" in text:
        return ("A smaller train.micro_batch needs less memory and keeps the global batch.",)
    if "does not have a deterministic implementation" in text:
        return ("exact=true allows deterministic operations only: use another layer, or exact=false.",)
    if "Expected to have finished reduction in the prior iteration" in text:
        return ("The loss does not depend on some of the model's parameters: remove or freeze them.",)
    if "AF_UNIX path too long" in text:
        return ("The sockets of worker processes lie in the temporary directory: set TMPDIR=/tmp, which is short.",)
    if "DataLoader worker" in text and "killed by signal" in text:
        return ("Most often memory ran out: fewer data.num_workers or a smaller data.prefetch need less.",)
    if "Expected more than 1 value per channel" in text:
        return ("BatchNorm cannot normalise over a single value: use a larger train.micro_batch.",)
    return ()


def is_lost_peer(error: BaseException) -> bool:
    """Whether an exception says only that another process is gone or was late."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"PeerLostError", "DistNetworkError", "DistBackendError", "DistStoreError"}:
        return True
    return "RuntimeError" in names and any(words in str(error).lower() for words in _LOST_PEER_WORDS)
