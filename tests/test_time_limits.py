"""No wait without an end: a call that may wait has a time limit, or is named here with the reason why it ends."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_layers import REPOSITORY

PROGRAMS = ("run", "call", "check_call", "check_output", "getoutput")
"""Functions of subprocess that wait until the program has ended."""
METHODS = ("wait", "join", "communicate", "acquire", "get", "result", "recv_bytes")
"""Methods of processes, threads, locks, queues and futures that wait for ever without an argument."""

ENDS: dict[str, str] = {
    "launch/worker_files.py:copying_standard_error": "the thread ends after the copy that it makes now",
    "launch/torchrun.py:_wait": "the agent was killed just before",
    "signs_dist/benching/loops.py:close": "Saver.wait, which tells it",
    "signs_dist/benching/loops.py:work": "Saver.wait, which tells it",
    "signs_dist/checkpointing/background_writer.py:submit": "Saver.wait has waited, and tells it",
    "signs_dist/checkpointing/background_writer.py:wait": "Saver.wait tells it; a disk that hangs is left to the user",
    "signs_dist/console/streams.py:_write_texts": "a daemon thread, which ends with the process",
    "signs_dist/data/kept_listing.py:_digests_by_process": "it looks at files; a disk that hangs is left to the user",
    "signs_dist/data/kept_listing.py:digests_now": "as `_digests_by_process`, for which the threads wait",
    "signs_dist/data/workers.py:run_batches": "the futures are done",
    "signs_dist/distributed/gradient_tree.py:_complete_sums": "torch's own limit, processes.timeout_seconds",
    "signs_dist/distributed/gradient_tree.py:_sum_chunk": "torch's own limit, processes.timeout_seconds",
    "signs_dist/distributed/sharded_tree.py:_complete_sums": "torch's own limit, processes.timeout_seconds",
    "signs_dist/distributed/sharded_tree.py:_sums_of_blocks": "torch's own limit, processes.timeout_seconds",
    "signs_dist/distributed/sharded_tree.py:share_weights": "torch's own limit, processes.timeout_seconds",
    "signs_dist/distributed/shipment.py:submit": "Saver.wait has waited",
    "signs_dist/distributed/shipment.py:wait": "rank 0 takes all of a save, also of a failed one; its end is an error",
    "signs_dist/distributed/group.py:wait": "torch's own limit, processes.timeout_seconds",
    "signs_dist/distributed/step_sync.py:_end_sum": "torch's own limit, processes.timeout_seconds",
    "signs_dist/environment/subprocesses.py:started": "the process was killed just before",
    "signs_dist/inference/parts.py:work_ahead": "a thread decodes; a disk that hangs is left to the user",
    "signs_dist/monitoring/signals.py:_watched": "the thread ends at the byte that was sent just before",
    "signs_dist/rehearsal/killing.py:run_attempt": "`means.end` has waited with a limit",
    "signs_dist/searching/jobs.py:kill": "the process was killed just before",
    "signs_dist/tracking/beside.py:wait": "the process was killed just before",
    "signs_dist/training/checked_step.py:_check": "torch's own limit, processes.timeout_seconds",
    "signs_dist/training/saver.py:save": "Saver.wait, which tells it",
    "signs_dist/training/saver.py:wait": "Saver.wait, which tells it",
    "signs_dist/training/trainer.py:_add": "Saver.wait, which tells it",
    "signs_dist/training/trainer.py:_end_non_finite": "Saver.wait, which tells it",
    "signs_dist/training/trainer.py:_end_stopped": "Saver.wait, which tells it",
    "signs_dist/training/trainer.py:train": "Saver.wait, which tells it",
    "signs_dist/training/wrong_results.py:end_wrong": "Saver.wait, which tells it",
    "signs_dist/training/second_process.py:close": "the process was killed just before",
    "slurm/dev_cluster.py:down": "the daemons were killed just before",
}
"""FILE:FUNCTION → why a wait without a limit in it ends."""


def waits(source: str) -> Iterator[tuple[str, int, str]]:
    """(function, line, call) of each call in a source that waits without a time limit."""
    yield from _waits(ast.parse(source), "")


def _waits(node: ast.AST, function: str) -> Iterator[tuple[str, int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and _is_endless(child):
            yield function, child.lineno, ast.unparse(child.func)
        yield from _waits(child, child.name if isinstance(child, ast.FunctionDef) else function)


def _is_endless(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    of, name = call.func.value, call.func.attr
    if isinstance(of, ast.Name) and of.id == "subprocess":
        limit = next((keyword.value for keyword in call.keywords if keyword.arg == "timeout"), None)
        return name in PROGRAMS and (limit is None or (isinstance(limit, ast.Constant) and limit.value is None))
    return name in METHODS and not call.args and not call.keywords


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n  subprocess.run(['git'], check=False)", ["f"]),
        ("def f():\n  subprocess.run(['git'], timeout=None)", ["f"]),
        ("def f():\n  subprocess.run(['git'], timeout=10)", []),
        ("def f():\n  subprocess.run(['git'], timeout=seconds)", []),
        ("def f():\n  subprocess.check_output(['git'])", ["f"]),
        ("class A:\n  def f(self):\n    self._thread.join()", ["f"]),
        ("def f():\n  thread.join(10)\n  ', '.join(names)", []),
        ("def f():\n  def g():\n    process.wait()\n  process.wait(timeout=3)", ["g"]),
        ("def f():\n  lock.acquire()\n  queue.get()", ["f", "f"]),
        ("def f():\n  values.get('a')\n  lock.acquire(timeout=0)", []),
        ("process.wait()", [""]),
    ],
)
def test_what_waits_without_a_limit(source: str, found: list[str]) -> None:
    assert [function for function, _, _ in waits(source)] == found


def _places() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for room in ("signs_dist", "launch", "slurm"):
        for file in sorted((REPOSITORY / room).rglob("*.py")):
            place = file.relative_to(REPOSITORY)
            for function, line, call in waits(file.read_text(encoding="utf-8")):
                found.setdefault(f"{place}:{function}", []).append(f"{place}:{line} {call}()")
    return found


def test_every_wait_has_an_end() -> None:
    unknown = [call for place, calls in _places().items() if place not in ENDS for call in calls]
    assert not unknown, "give these a time limit, or a reason in ENDS"


def test_no_reason_is_of_a_wait_that_is_gone() -> None:
    assert sorted(ENDS.keys() - _places().keys()) == []
