"""One rank of benchmarks/shares.py: a whole `signs_dist.train` whose costs beside the steps are timed from outside.

The methods of `TIMED` are replaced by ones that count their seconds. Where one calls another, the outer one counts. The
threads beside training count their processor time.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMED = {
    "saving": (
        "signs_dist.training.saver:Saver.save",
        "signs_dist.training.saver:Saver.wait",
        "signs_dist.training.prediction_files:PredictionFiles.write",
        "signs_dist.checkpointing.tensors:save",
        "signs_dist.run_folder.folder:RunFolder.write_result",
    ),
    "evaluating": ("signs_dist.training.trainer:Trainer._evaluate",),
    "logging": (
        "signs_dist.training.trainer:Trainer._make_line",
        "signs_dist.run_folder.folder:RunFolder.add",
        "signs_dist.console.screen:Screen._show",
        "signs_dist.console.screen:Screen._plain",
        "signs_dist.console.screen:Screen.epoch",
        "signs_dist.console.screen:Screen.tables",
    ),
    "training": ("signs_dist.training.trainer:Trainer.train",),
}
"""What training waits for, in the main thread. `training` is all of it, without data, model and start."""
BESIDE = {
    "heartbeat": ("signs_dist.monitoring.heartbeat:Heartbeat._beat",),
    "writing": ("signs_dist.checkpointing.store:CheckpointStore.write",),
}
"""What other threads do beside training."""


class Timers:
    """Seconds of each kind of work.

    Args:
        clock: of the kinds of `TIMED`.

    Attributes:
        seconds: of the kinds of `TIMED`, by the clock; of those of `BESIDE`, on a core.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds = dict.fromkeys([*TIMED, *BESIDE], 0.0)
        self._open: list[str] = []

    def timed(self, kind: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """`action`, whose seconds count unless it is called by another timed one, or by another thread."""

        @functools.wraps(action)
        def counted(*arguments: Any, **named: Any) -> Any:
            is_inner = any(one != "training" for one in self._open)
            if is_inner or threading.current_thread() is not threading.main_thread():
                return action(*arguments, **named)
            self._open.append(kind)
            begun = self._clock()
            try:
                return action(*arguments, **named)
            finally:
                self.seconds[kind] += self._clock() - begun
                self._open.pop()

        return counted

    def on_core(self, kind: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """`action`, whose processor time counts."""

        @functools.wraps(action)
        def counted(*arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return action(*arguments, **named)
            finally:
                self.seconds[kind] += time.thread_time() - begun

        return counted

    def install(self) -> None:
        """Replace all methods of `TIMED` and `BESIDE`."""
        for kinds, count in ((TIMED, self.timed), (BESIDE, self.on_core)):
            for kind, names in kinds.items():
                for name in names:
                    holder, attribute = find(name)
                    setattr(holder, attribute, count(kind, getattr(holder, attribute)))


def find(name: str) -> tuple[Any, str]:
    """The class or module that holds `package.module:Class.method` or `package.module:function`, and the last name."""
    module, _, path = name.partition(":")
    holder: Any = importlib.import_module(module)
    *outer, attribute = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    return holder, attribute


def main() -> None:
    out, clock, *arguments = sys.argv[1:]
    timers = Timers(getattr(time, clock))
    timers.install()
    from signs_dist.environment.context import read_context
    from signs_dist.train import main as train

    code = train(arguments)
    if code:
        sys.exit(code)
    found = timers.seconds | {"on cores": time.process_time()}
    (Path(out) / f"shares{read_context().rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
