"""Whether workers may be forked, and why not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from launch.fork_safety import reason_after_imports, reason_before_imports

TRAIN = ("-m", "signs_dist.train", "train.epochs=1")


@pytest.mark.parametrize(
    ("switch", "platform", "arguments", "expected"),
    [
        (None, "linux", TRAIN, ""),
        ("1", "linux", TRAIN, ""),
        (None, "linux", ("-c", "pass"), ""),
        ("0", "linux", TRAIN, "SIGNS_DIST_FORK=0"),
        (None, "darwin", TRAIN, "a fork after imports is not safe on darwin"),
        (None, "linux", ("train.py",), "python train.py is not a program that begins with -m or -c"),
        (None, "linux", ("-m",), "python -m is not a program that begins with -m or -c"),
        (None, "linux", (), "python  is not a program that begins with -m or -c"),
    ],
)
def test_what_speaks_against_a_fork_before_the_imports(
    switch: str | None, platform: str, arguments: Sequence[str], expected: str
) -> None:
    assert reason_before_imports(switch, platform, arguments) == expected


@pytest.mark.parametrize(
    ("num_threads", "open_files", "has_cuda", "expected"),
    [
        (1, [], False, ""),
        (1, ["/dev/null", "pipe:[7]", "/tmp/agent.log"], False, ""),
        (2, [], False, "after the imports there are 2 threads"),
        (1, [], True, "the imports have opened a GPU"),
        (1, ["/dev/nvidiactl"], False, "the imports have opened a GPU"),
        (1, ["/dev/kfd"], False, "the imports have opened a GPU"),
    ],
)
def test_what_speaks_against_a_fork_after_the_imports(
    num_threads: int, open_files: Sequence[str], has_cuda: bool, expected: str
) -> None:
    assert reason_after_imports(num_threads, open_files, has_cuda) == expected
