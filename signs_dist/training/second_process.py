"""A second process that builds the network of an exact run and computes its first micro-batch.

It has another process id, other hashes of text, another clock and fresh generators of Python and NumPy: a network that
reads one of them computes other bits there. This file is also the program that the second process runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from signs_dist.environment.collector import importing
from signs_dist.environment.subprocesses import with_own_modules

if TYPE_CHECKING:
    from signs_dist.models.trial import Trial, TrialDigest
    from signs_dist.training.prepare import Prepared

ANSWER_SECONDS = 60.0
"""The longest wait for the answer, after the first process has done the same."""
CLOCK_SHIFT_SECONDS = ((401 * 24 + 5) * 60 + 7) * 60 + 11
"""Shifts year, month, day, weekday, hour, minute and second."""
SECOND_SHIFT_SECONDS = ((1 * 24 + 1) * 60 + 1) * 60 + 1
"""A further shift. A value that repeats, such as the second modulo 7, may be the same after one of the shifts, by the
time that passes between the two processes; hardly after both."""
_HASH_SEED = "PYTHONHASHSEED"
_PROGRAM = "__main__"


class NoAnswerError(Exception):
    """The second process gave no answer. The message says why."""


class SecondProcess:
    """The second process, seen from the first. It starts at once, and waits until it is asked."""

    def __init__(self) -> None:
        self._request, self._log = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._failure = ""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "signs_dist.training.second_process", str(self._request.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                pass_fds=[self._request.fileno()],
                env=other_environment(os.environ, sys.path),
            )
        except OSError as error:
            self._failure = f"it did not start: {error}"

    def ask(self, trial: Trial, prepared: Prepared) -> None:
        """Let it build the network of `prepared`, and compute the micro-batch of `trial`."""
        import torch

        module = _module_of(prepared.config.model.name)
        for name in (prepared.config.model.name, prepared.config.loss.name):
            if _module_of(name) == _PROGRAM:
                self._failure = f"{name} is in the program that was started, not in a module"
        if self._failure:
            return
        request = {
            "config": prepared.config.model_dump_json(),
            "module": module,
            "num_classes": len(prepared.data.classes),
            "precision": prepared.precision.name,
            "num_threads": prepared.way.num_threads,
            "class_weights": prepared.class_weights,
            "device": str(trial.images.device),
            "images": trial.images,
            "labels": trial.labels,
        }
        torch.save(request, self._request)
        self._request.flush()
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: `answer` tells why
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()

    def answer(self) -> TrialDigest:
        """What it computed.

        Raises:
            NoAnswerError: it could not start, failed, or took too long.
        """
        from signs_dist.models.trial import TrialDigest

        if self._failure or self._process is None:
            raise NoAnswerError(self._failure)
        try:
            code = self._process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise NoAnswerError(f"it took more than {ANSWER_SECONDS:g} s") from None
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if code != 0 or not text:
            raise NoAnswerError(_last_line(self._log) or f"it ended with exit code {code}")
        return TrialDigest(**json.loads(text))

    def close(self) -> None:
        """End it, if it still runs. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                with contextlib.suppress(OSError):
                    stream.close()
        self._request.close()
        self._log.close()


def other_environment(environment: Mapping[str, str], path: Sequence[str]) -> dict[str, str]:
    """The environment of the second process: text has other hashes, and modules are found where they are found here.

    Args:
        environment: of this process.
        path: `sys.path` of this process.
    """
    seed = "1" if environment.get(_HASH_SEED) != "1" else "2"
    return {**with_own_modules(environment, path), _HASH_SEED: seed}


def shift_clock(seconds: float) -> None:
    """From now on, the modules `time` and `datetime` of this process tell a later time."""
    module: Any = time
    real_time, real_nanoseconds, real_datetime, real_date = (
        *(time.time, time.time_ns),
        *(datetime.datetime, datetime.date),
    )
    module.time = lambda: real_time() + seconds
    module.time_ns = lambda: real_nanoseconds() + int(seconds * 10**9)
    for name in ("localtime", "gmtime", "ctime"):
        module_function = getattr(time, name)
        setattr(module, name, lambda at=None, told=module_function: told(time.time() if at is None else at))
    real_strftime = time.strftime
    module.strftime = lambda form, at=None: real_strftime(form, time.localtime() if at is None else at)

    class AnyDate(type(real_date)):  # type: ignore[misc]  # not `type` where the clock was shifted before
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime if issubclass(cls, real_datetime) else real_date)

    class ShiftedDate(real_date, metaclass=AnyDate):  # type: ignore[misc, valid-type]
        @classmethod
        def today(cls) -> Any:
            return real_date.fromtimestamp(time.time())

    class ShiftedDatetime(real_datetime, metaclass=AnyDate):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real_datetime.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return real_datetime.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    dates: Any = datetime
    dates.date, dates.datetime = ShiftedDate, ShiftedDatetime


def _module_of(name: str) -> str:
    """The module that holds a network of the user's own."""
    from signs_dist.models import dotted
    from signs_dist.models.registry import BUILDERS

    return BUILDERS[name].__module__ if name in BUILDERS else dotted.module_of(name)


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def main(arguments: Sequence[str]) -> int:
    """Run as the second process: wait until asked, then write the digest to standard output."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # what the user's modules print is no answer
        with importing():
            from signs_dist.training import stepper as _  # noqa: F401  imported while the first process reads images

        if not sys.stdin.readline():
            return 1  # the first process has ended
        threading.Thread(target=_end_with_the_first_process, daemon=True).start()
        with os.fdopen(int(arguments[0]), "rb") as file:
            file.seek(0)
            answer.write(json.dumps(dataclasses.asdict(_compute(file))))
    return 0


def _end_with_the_first_process() -> None:
    sys.stdin.read()
    os._exit(1)


def _compute(file: IO[bytes]) -> TrialDigest:
    import torch

    from signs_dist.config.settings import AS_SAVED, Config
    from signs_dist.distributed.exactness import choose_cublas_workspace, choose_exact_kernels
    from signs_dist.learning.precision import Precision
    from signs_dist.training.prepare import build_model
    from signs_dist.training.step_parts import make_evaluation_forward, make_forward, make_trial

    request = torch.load(file, map_location="cpu", weights_only=True)
    # The first process has checked it; a setting that nothing reads is no mistake in the config of a run.
    config = Config.model_validate_json(request["config"], context=AS_SAVED)
    device = torch.device(request["device"])
    torch.set_num_threads(request["num_threads"])
    choose_cublas_workspace()
    choose_exact_kernels()
    shift_clock(CLOCK_SHIFT_SECONDS)
    importlib.import_module(request["module"])  # it may register the network
    model = build_model(config, request["num_classes"], device)
    torch.set_num_threads(request["num_threads"])  # again, as `prepare` does
    choose_exact_kernels()
    precision = Precision(request["precision"], device.type)
    forward = make_forward(model, config, request["num_classes"], precision, request["class_weights"])
    evaluation = make_evaluation_forward(model, config, request["num_classes"], precision)
    return digest_at_two_times(
        make_trial(model, forward, evaluation, request["images"].to(device), request["labels"].to(device))
    )


def digest_at_two_times(trial: Trial) -> TrialDigest:
    """What a network computes; a digest that equals no other if it computes something else at a later time.

    The clock of this process stays shifted.
    """
    from signs_dist.models.trial import TrialDigest, find_digest

    now = find_digest(trial)
    shift_clock(SECOND_SHIFT_SECONDS)
    later = find_digest(trial)
    if now == later:
        return now
    pairs = zip(dataclasses.astuple(now), dataclasses.astuple(later), strict=True)
    return TrialDigest(*(first if first == second else f"{first} or {second}" for first, second in pairs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
