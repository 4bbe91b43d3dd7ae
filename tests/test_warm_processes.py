"""The warm processes of the tests: nothing that a test looks at tells them from new interpreters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from signs_dist.environment.process_table import find_descendants, is_alive, read_birth
from tests import warm_processes
from tests.processes import REPOSITORY, environment, program_command, run, started, wait_until
from tests.warm_processes import Server, ServerEndedError, refusal

STATE = """
import json, os, resource, signal, sys, threading

class Mine:
    pass

def look():
    listed = os.listdir("/proc/self/fd")
    return {
        "names": [__name__, __spec__ and __spec__.name, __file__, Mine.__module__, sys.modules["__main__"] is not None],
        "main": sys.modules["__main__"].Mine is Mine,
        "words": [sys.argv, sys.orig_argv, sys.path, sys.flags.hash_randomization],
        "command": open("/proc/self/cmdline").read().rstrip("\\0"),
        "descriptors": sorted(listed, key=int)[:-1],
        "streams": [
            [each.name, each.mode, each.encoding, each.errors, each.newlines, each.line_buffering, each.write_through,
             type(each.buffer).__name__, each.isatty()]
            for each in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "same_streams": [sys.__stdin__ is sys.stdin, sys.__stdout__ is sys.stdout, sys.__stderr__ is sys.stderr],
        "handlers": {number: str(signal.getsignal(number)) for number in sorted(signal.valid_signals())},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "limits": [resource.getrlimit(number) for number in range(15)],
        "place": [os.getcwd(), dict(os.environ), os.getppid()],
        "groups": [os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid()],
        "threads": [threading.active_count(), threading.current_thread() is threading.main_thread()],
        "cores": sorted(os.sched_getaffinity(0)), "niceness": os.nice(0), "umask": os.umask(0o022),
        "hooks": [sys.excepthook is sys.__excepthook__, sys.stdin.read()],
    }

print(json.dumps(look()))
"""


MODULE = ("-m", "example")
FILE = ("example.py",)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder whose module `example` counts as a command of the toolkit."""
    monkeypatch.setattr(warm_processes, "PACKAGES", (*warm_processes.PACKAGES, "example"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(tmp_path), "relative", str(tmp_path)]))
    monkeypatch.setenv("NEW", "variable")
    monkeypatch.delenv("HOME", raising=False)
    return tmp_path


def start(
    program: str, folder: Path, *flags: str, python: str = sys.executable, how: Sequence[str] = MODULE, **named: Any
) -> subprocess.Popen[str]:
    (folder / "example.py").write_text(program)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Without what libraries of this process have noted down for its children where Python does not see it.
    return subprocess.Popen(
        [python, *flags, *how, "one", "two words"],
        cwd=folder,
        **({"env": dict(os.environ)} | pipes | named),
    )


def both(program: str, folder: Path, *flags: str, **named: Any) -> list[tuple[int, str, str]]:
    """(exit code, standard output, standard error) of a warm process, and of a new interpreter."""
    ends = []
    for is_cold in (False, True):
        with warm_processes.cold() if is_cold else contextlib.nullcontext():
            process = start(program, folder, *flags, **named)
            out, err = process.communicate("typed", timeout=120)
            ends.append((process.returncode, out, err))
    return ends


def is_warm(folder: Path, **named: Any) -> bool:
    """Whether a command finds torch imported."""
    process = start("import sys\nprint('torch' in sys.modules)", folder, **named)
    return process.communicate(timeout=120)[0] == "True\n"


def test_a_command_finds_torch_imported_where_it_may(programs: Path) -> None:
    assert is_warm(programs)
    with warm_processes.cold():
        assert not is_warm(programs)
    assert not is_warm(programs, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert is_warm(programs, env={**os.environ, "OTHER": "2"})


@pytest.mark.cold
def test_a_test_with_the_mark_starts_new_interpreters(programs: Path) -> None:
    assert not is_warm(programs)


@pytest.mark.parametrize("named", [{}, {"start_new_session": True}], ids=["same session", "own session"])
@pytest.mark.parametrize(
    ("flags", "how"), [([], MODULE), (["-u"], MODULE), (["-u"], FILE)], ids=["buffered", "unbuffered", "file"]
)
def test_all_that_a_program_sees_of_itself(
    programs: Path, flags: list[str], how: tuple[str, ...], named: dict[str, Any]
) -> None:
    ends = both(STATE, programs, *flags, how=how, **named)
    assert [(code, err) for code, _, err in ends] == [(0, ""), (0, "")]
    warm, cold = (json.loads(out) for _, out, _ in ends)
    assert warm == cold


def test_what_it_inherits_from_a_process_that_is_set_up_otherwise(programs: Path) -> None:
    umask, before = os.umask(0o027), signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    hangup = signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        ends = both(STATE, programs)
    finally:
        os.sched_setaffinity(0, cores)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, hangup)
        signal.signal(signal.SIGUSR1, before)
        os.umask(umask)
    warm, cold = (json.loads(out) for _, out, _ in ends)
    assert warm == cold
    assert warm["umask"] == 0o027
    assert warm["mask"] == [signal.SIGUSR2]


ENDS = pytest.mark.parametrize(
    "program",
    [
        "print('to', end=' '); import sys; print('err', file=sys.stderr)",
        "import sys; print('said'); sys.exit(3)",
        "import sys; sys.exit(259)",
        "import sys; sys.exit(-1)",
        "import sys; sys.exit('a message')",
        "import sys; sys.exit(None)",
        "raise SystemExit([1, 2])",
        "def fail():\n    raise ValueError('broken')\n\nprint('first')\nfail()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('broken') from error",
        "raise KeyboardInterrupt",
        "import example_that_is_not_there",
        "x = ",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
        "import os; print('lost'); os._exit(7)",
        "import os; os.abort()",
        "import atexit; atexit.register(print, 'later'); print('sooner')",
        "import atexit, sys; atexit.register(print, 'later'); sys.exit(4)",
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('t'))).start()\nprint('m')",
        "import sys; sys.excepthook = lambda *shown: print('hook', shown[0].__name__); raise ValueError",
        "import warnings; warnings.warn('careful')",
        "import sys; print(sys.stdin.read()); print('€ä')",
        "import multiprocessing as m\ndef f(x):\n    print('in', x, flush=True)\nif __name__ == '__main__':\n"
        "    p = m.get_context('spawn').Process(target=f, args=(3,))\n    p.start()\n    p.join()\n"
        "    print(p.exitcode)",
    ],
)


@ENDS
@pytest.mark.parametrize("how", [MODULE, FILE], ids=["module", "file"])
def test_how_it_ends_and_what_it_prints(programs: Path, program: str, how: tuple[str, ...]) -> None:
    warm, cold = both(program, programs, how=how)
    assert warm == cold


def test_streams_may_be_files_or_the_same(programs: Path) -> None:
    for is_cold in (False, True):
        with (
            (programs / f"{is_cold}").open("w") as stream,
            warm_processes.cold() if is_cold else contextlib.nullcontext(),
        ):
            program = "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)"
            start(program, programs, stdin=None, stdout=stream, stderr=subprocess.STDOUT).wait(120)
    assert (programs / "False").read_text() == (programs / "True").read_text() == "out\nerr\n"


def test_a_signal_ends_it_and_its_parent_waits_for_it(programs: Path) -> None:
    process = start("print('here', flush=True); import time; time.sleep(60)", programs)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def test_descriptors_that_are_passed_have_their_numbers(programs: Path) -> None:
    reader, writer = os.pipe()
    ends = both(f"import os; os.write({writer}, b'x'); print(sorted(os.listdir('/proc/self/fd'))[:-1])", programs)
    assert ends[0][0] == 1  # it was not passed
    ends = both(f"import os; print(os.write({writer}, b'x'))", programs, pass_fds=[writer])
    assert ends == [(0, "1\n", "")] * 2
    os.close(reader)
    os.close(writer)


def test_no_descriptor_is_left_in_this_process(programs: Path) -> None:
    both("", programs)
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    both("", programs)
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


def test_the_modules_that_it_runs_are_new(programs: Path) -> None:
    """A command that another module has imported is not taken for imported."""
    command = [sys.executable, "-m", "signs_dist.train", "--help"]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=120)
    assert ended.stderr == ""
    assert ended.stdout.startswith("usage: python -m signs_dist.train")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server.start(dict(os.environ))
    yield server
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        server.close()


def test_a_server_that_has_ended_is_an_error(server: Server) -> None:
    os.kill(server.pid, signal.SIGKILL)
    os.waitpid(server.pid, 0)
    with pytest.raises(ServerEndedError, match=f"the server of warm processes, {server.pid}, "):
        server.fork({"command": []}, [0, 1, 2])


def test_a_server_that_does_not_answer_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    monkeypatch.setattr(warm_processes, "START_SECONDS", 0.1)
    with pytest.raises(ServerEndedError, match="does not answer: timed out"):
        server.fork({"command": []}, [0, 1, 2])


def test_a_server_ends_with_the_process_that_it_serves() -> None:
    code = (
        "import os, sys, time; from tests import warm_processes\n"
        "print(warm_processes.Server.start(dict(os.environ)).pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment(), text=True, **pipes) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        # The kernel closes the pipe that Popen waits for before it shows the new program's arguments.
        wait_until(lambda: b"warm_server" in Path(f"/proc/{pid}/cmdline").read_bytes())
        process.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())


def test_a_process_that_starts_others_has_a_server_of_its_own_which_ends_with_it(programs: Path) -> None:
    (programs / "example.py").write_text(
        "import os, sys, time\nprint('torch' in sys.modules, os.environ['RANK'], flush=True)\ntime.sleep(600)"
    )
    arguments = ["--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2", "-m", "example"]
    with started([sys.executable, "-m", "torch.distributed.run", *arguments], programs) as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline() for _ in range(2)) == ["True 0\n", "True 1\n"]
        below = find_descendants(process.pid)
        assert len(below) == 3  # two processes, and the server
        births = {pid: read_birth(pid) for pid in below}
    wait_until(lambda: not any(is_alive(pid, birth) for pid, birth in births.items()))


def test_a_file_may_have_a_server_for_those_that_it_starts(programs: Path) -> None:
    (programs / "example.py").write_text("import sys\nprint('torch' in sys.modules)")
    start = "import subprocess, sys\nsubprocess.run([sys.executable, 'example.py'], check=True)"
    for starts_others in (True, False):
        ended = run(program_command(programs, start, starts_others=starts_others), programs)
        assert (ended.code, ended.out, ended.err) == (0, f"{starts_others}\n", "")


HERE = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
TRAIN = [sys.executable, "-m", "signs_dist.train"]


@pytest.mark.parametrize(
    ("command", "variables", "why"),
    [
        (TRAIN, {}, ""),
        ([*TRAIN[:1], "-u", *TRAIN[1:]], {}, ""),
        ([sys.executable, "-m", "torch.distributed.run", "-m", "signs_dist.train"], {"RANK": "0"}, ""),
        (TRAIN, {"PYTHONPATH": f"/nowhere:{REPOSITORY}"}, ""),
        (TRAIN, {"CUDA_VISIBLE_DEVICES": ""}, ""),
        (TRAIN, {"OMP_WAIT_POLICY": "PASSIVE"}, ""),
        (TRAIN, {"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY is read"),
        (TRAIN, {"OMP_NUM_THREADS": "2"}, "OMP_NUM_THREADS is read"),
        (TRAIN, {"PYTHONHASHSEED": "1"}, "PYTHONHASHSEED is read"),
        (TRAIN, {"LC_ALL": "C"}, "LC_ALL is read"),
        (TRAIN, {"LD_PRELOAD": "lib.so"}, "LD_PRELOAD is read"),
        (TRAIN, {"LOGLEVEL": "INFO"}, "LOGLEVEL is read"),
        (TRAIN, {"PYTHONPATH": ""}, "this checkout is not on its path"),
        (["/usr/bin/python3", "-m", "signs_dist.train"], {}, "it is not python -m MODULE"),
        ([sys.executable, "-X", "importtime", "-m", "signs_dist.train"], {}, "it is not python -m MODULE"),
        ([sys.executable, "-c", "pass"], {}, "it is not python -m MODULE"),
        ([sys.executable, "-m"], {}, "it is not python -m MODULE"),
        ([sys.executable, "-m", "pip"], {}, "pip is not of the toolkit"),
        ([sys.executable, "file.py"], {}, "its file is missing"),
        ([sys.executable, str(REPOSITORY / "examples" / "own_loop.py")], {}, ""),
        ([sys.executable, str(REPOSITORY / "examples" / "own_loop.py")], {"PYTHONPATH": ""}, "this checkout is not on"),
        ([sys.executable, str(REPOSITORY / "launch" / "submit.py")], {"PYTHONPATH": ""}, ""),
    ],
)
def test_which_command_needs_a_new_interpreter(
    command: list[str], variables: dict[str, str], why: str, tmp_path: Path
) -> None:
    found = refusal(command, HERE | variables, tmp_path, HERE)
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_a_command_of_another_copy_of_the_toolkit_needs_a_new_interpreter(tmp_path: Path) -> None:
    (tmp_path / "launch").mkdir()
    assert refusal(TRAIN, HERE, tmp_path, HERE) == f"its modules are in {tmp_path}"
    assert refusal(TRAIN, HERE, tmp_path / "missing", HERE) == "its folder is missing"
