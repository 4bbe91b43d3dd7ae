"""Python's garbage collector, which need not look through what lives as long as the process.

PyTorch's modules are 300,000 objects. While they are imported, and again when Python ends, the collector visits all of
them several times, and finds nothing worth the time. What a user's own code makes later is collected as always, at the
end too: a file that it has left open is written out.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Within the block nothing is collected; what exists after it is never visited again (`gc.freeze`).

    For a process that is a command. Where PyTorch is loaded already, as in a user's own program, nothing changes.
    """
    if "torch" in sys.modules:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
