"""The process that forks workers, which are what new interpreters would be."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from launch.worker_parent import WorkerParent
from signs_dist.environment.process_table import process_state
from tests.processes import Ended, run


def run_agent(folder: Path, code: str) -> Ended:
    """Run `code` in a process that has one thread, as the agent has it, with the functions at the top of `AGENT`."""
    (folder / "agent.py").write_text(AGENT + code)
    return run([sys.executable, "-u", "-m", "agent", *["room for a command line"] * 99], folder, timeout=60)


AGENT = """
import errno, json, os, signal, subprocess, sys, time
from pathlib import Path
from launch import worker_parent
from launch.fork_safety import reason_now
from launch.worker_parent import ParentLostError, WorkerParent

os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.closerange(3, 100)

def start(*arguments, **variables):
    Path("err").write_text("")
    return parent.fork_worker(arguments, os.environ | variables, "err")

def sleep(name):
    worker = start("-c", f"import pathlib, time; pathlib.Path({name!r}).touch(); time.sleep(60)")
    while not Path(name).exists():
        time.sleep(0.01)
    return worker

"""


def test_a_thread_and_only_a_thread_that_stays_speaks_against_a_fork(tmp_path: Path) -> None:
    code = (
        "import threading\n"
        "import numpy\n"  # OpenBLAS starts threads, which end at a fork
        "print(repr(reason_now()))\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "print(repr(reason_now()))"
    )
    ended = run_agent(tmp_path, code)
    assert ended.out == "''\n'after the imports there are 2 threads'\n", ended.err


PROGRAMS = {
    "argv": ("-c", "import sys; print(sys.argv, sys.orig_argv[1:3], sys.path[0])", "a b", "--c"),
    "open files": (
        "-c",
        "import os\n"
        "found = {name for name in map(int, os.listdir('/proc/self/fd')) if os.path.exists(f'/proc/self/fd/{name}')}\n"
        "print(sorted(found), os.readlink('/proc/self/fd/0'))",
    ),
    "signals": (
        "-c",
        "import os, signal\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print([line for line in lines if line.startswith(('SigBlk', 'SigIgn', 'SigCgt', 'Threads'))])\n"
        "print(signal.getsignal(signal.SIGINT), os.getsid(0) == os.getpid())",
    ),
    "main": (
        "-c",
        "import sys, __main__\n"
        "names = sorted(name for name in vars(__main__) if name.startswith('__'))\n"
        "print(__name__, sys.modules['__main__'] is __main__, names, sys.stdout.write_through, sys.flags)",
    ),
    "code": ("-c", "import sys; sys.exit(3)"),
    "message": ("-c", "import sys; sys.exit('it ends')"),
    "killed": ("-c", "import os; os.kill(os.getpid(), 9)"),
    "interrupt": ("-c", "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), 2)"),
    "at the end": (
        "-c",
        "import atexit, threading, time\n"
        "atexit.register(lambda: print('last', __name__))\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "print('first')",
    ),
    "module": ("-m", "own.program", "x"),
    "package": ("-m", "own"),
    "module that raises": ("-m", "own.failing"),
    "no module": ("-m", "no_such_module"),
    "spawned": ("-m", "own.spawning"),
}
"""Name → arguments of Python. What they print does not depend on process ids."""
MODULES = {
    "program": "import sys\nprint(__name__, __spec__.name, __package__, __file__, sys.argv, sys.path[0])",
    "__main__": "print(__name__, __spec__.name)",
    "failing": "def divide():\n    return 1 / 0\ndivide()",
    "spawning": (
        "import multiprocessing\n"
        "def work(queue):\n"
        "    queue.put(__name__)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=work, args=(queue,))\n"
        "    process.start()\n"
        "    print(queue.get())\n"
        "    process.join()"
    ),
}


Ends = dict[tuple[str, str], tuple[str, str, str]]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """(program, way) → its exit code, output and standard error."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "own").mkdir()
    for name, text in MODULES.items():
        (folder / "own" / f"{name}.py").write_text(text)
    code = f"""
parent = WorkerParent.fork()
for name, arguments in {PROGRAMS!r}.items():
    print("== ", name, "/forked\\n~~", sep="", flush=True)
    code = start(*arguments).wait(30)
    print("~~", code, "~~", Path("err").read_text(), sep="", flush=True)
    print("== ", name, "/new\\n~~", sep="", flush=True)
    with open("err", "w") as stream:
        new = subprocess.Popen([sys.executable, "-u", *arguments], stderr=stream, start_new_session=True)
    print("~~", new.wait(30), "~~", Path("err").read_text(), sep="", flush=True)
parent.close()
"""
    ended = run_agent(folder, code)
    assert ended.code == 0, ended.err
    found = {}
    for part in ended.out.split("== ")[1:]:
        title, out, number, err = part.split("~~", 3)
        program, way = title.strip().split("/")
        found[program, way] = (number, out, err.rstrip("\n"))
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_forked_worker_does_what_a_new_interpreter_does(ends: Ends, program: str) -> None:
    assert ends[program, "forked"] == ends[program, "new"]


@pytest.mark.parametrize(
    ("program", "code", "out", "err"),
    [
        ("code", "3", "", ""),
        ("message", "1", "", "it ends"),
        ("killed", "-9", "", ""),
        ("interrupt", "-2", "", ""),
        ("module that raises", "1", "", "Traceback .*\nZeroDivisionError: division by zero"),
        ("no module", "1", "", ".*python[^:]*: No module named no_such_module"),
        ("open files", "0", r"\[0, 1, 2\] /dev/null\n", ""),
        ("at the end", "0", "first\nthread\nlast __main__\n", ""),
        ("spawned", "0", "__mp_main__\n", ""),
    ],
)
def test_a_forked_worker_ends_as_its_program(ends: Ends, program: str, code: str, out: str, err: str) -> None:
    found_code, found_out, found_err = ends[program, "forked"]
    assert found_code == code
    assert re.fullmatch(out, found_out.lstrip("\n")), found_out
    assert re.fullmatch(err, found_err, re.DOTALL), found_err


def test_workers_have_their_own_environment_command_line_and_randomness(tmp_path: Path) -> None:
    code = """
import numpy.random
reason_now()
os.environ["REMOVED"] = "there"
parent = WorkerParent.fork()
del os.environ["REMOVED"]
ask = '''
import multiprocessing, os, random, sys, tempfile, uuid
import numpy.random
print(ascii(os.environ["OWN"]), os.environ.get("REMOVED"), ascii(os.popen("echo $OWN").read().strip()))
print(open("/proc/self/cmdline", errors="surrogateescape").read().rstrip(chr(0)).split(chr(0)) == sys.orig_argv)
print(random.random(), numpy.random.random(), next(tempfile._get_candidate_names()), uuid.uuid4())
print(multiprocessing.current_process().authkey.hex())
'''
for own in "12":
    assert start("-c", ask, OWN=own + "e").wait(30) == 0, Path("err").read_text()
"""
    ended = run_agent(tmp_path, code)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    first, second = lines[:4], lines[4:]
    assert (first[0], second[0]) == ("'1e' None '1e'", "'2e' None '2e'")
    assert first[1] == second[1] == "True"
    assert not set(first[2].split()) & set(second[2].split())
    assert first[3] != second[3]


def test_a_parent_that_is_killed_takes_its_workers_with_it(tmp_path: Path) -> None:
    code = """
parent = WorkerParent.fork()
done = start("-c", "pass")
assert done.wait(30) == 0
worker = sleep("running")
os.kill(parent.pid, signal.SIGKILL)
print(worker.wait(30), done.poll())
try:
    start("-c", "pass")
except ParentLostError:
    print("lost", worker.pid)
"""
    ended = run_agent(tmp_path, code)
    assert re.fullmatch("-9 0\nlost [0-9]+\n", ended.out), ended.err
    assert process_state(int(ended.out.split()[-1])) == "gone"


def test_a_worker_whose_parent_ends_before_it_tells_of_it_does_not_run(tmp_path: Path) -> None:
    code = """
def enter_session(standard_error):
    os.kill(os.getppid(), signal.SIGKILL)
worker_parent.enter_session = enter_session
parent = WorkerParent.fork()
try:
    start("-c", "import pathlib; pathlib.Path('ran').touch()")
except ParentLostError:
    print("lost")
parent.close()
time.sleep(0.5)
"""
    ended = run_agent(tmp_path, code)
    assert (ended.out, ended.err, ended.code) == ("lost\n", "", 0)
    assert not (tmp_path / "ran").exists()


def test_a_parent_that_does_not_answer_is_lost(tmp_path: Path) -> None:
    code = """
worker_parent.ANSWER_SECONDS = 1
parent = WorkerParent.fork()
worker = sleep("running")
os.kill(parent.pid, signal.SIGSTOP)
print(worker.wait(30))
parent.close()
"""
    assert run_agent(tmp_path, code).out == "-9\n"


def test_a_parent_takes_no_signal_of_a_job_and_its_workers_do(tmp_path: Path) -> None:
    code = """
parent = WorkerParent.fork()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
    os.kill(parent.pid, number)
worker = sleep("running")
os.killpg(worker.pid, signal.SIGUSR2)
print(worker.wait(30) == -signal.SIGUSR2)
"""
    assert run_agent(tmp_path, code).out == "True\n"


def test_a_parent_ends_with_its_agent_and_its_workers_see_it(tmp_path: Path) -> None:
    code = """
parent = WorkerParent.fork()
watch = '''
import os, pathlib, time
first = os.getppid()
pathlib.Path("running").touch()
while os.getppid() == first:
    time.sleep(0.01)
pathlib.Path("seen").touch()
'''
start("-c", watch)
while not Path("running").exists():
    time.sleep(0.01)
print(parent.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = run_agent(tmp_path, code)
    assert ended.code == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while not (tmp_path / "seen").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / "seen").exists()
    assert process_state(int(ended.out)) == "gone"


def test_an_answer_to_an_interrupted_request_is_passed_over(tmp_path: Path) -> None:
    code = """
parent = WorkerParent.fork()
parent._connection.sendall(json.dumps({"number": -1}).encode())
print(start("-c", "import sys; sys.exit(4)").wait(30))
try:
    start("-c", "pass", LONG="x" * 2_000_000)
except OSError as error:
    print(error.errno == errno.EMSGSIZE)
print(start("-c", "pass").wait(30))
"""
    assert run_agent(tmp_path, code).out == "4\nTrue\n0\n"


def test_a_worker_does_not_end_as_an_earlier_one_with_its_process_id() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.getpid()
    with ours, theirs:
        parent = WorkerParent(pid, ours)
        answers = ({"codes": {str(pid): 1}}, {"pid": pid}, {"codes": {}})
        for number, answer in enumerate(answers, 1):
            theirs.sendall(json.dumps({"number": number, **answer}).encode())
        assert parent.exit_code(pid) == 1
        assert parent.fork_worker(["-c", "pass"], os.environ, os.devnull).poll() is None


def test_what_the_system_refuses_is_told(tmp_path: Path) -> None:
    code = """
def refuse(standard_error):
    raise BlockingIOError(errno.EAGAIN, "no room")
worker_parent._fork_worker = refuse
parent = WorkerParent.fork()
try:
    start("-c", "pass")
except OSError as error:
    print(error.errno == errno.EAGAIN)
"""
    assert run_agent(tmp_path, code).out == "True\n"


def test_a_worker_that_cannot_open_its_standard_error_fails(tmp_path: Path) -> None:
    code = """
parent = WorkerParent.fork()
print(parent.fork_worker(("-c", "print('ran')"), os.environ, "none/err").wait(30), start("-c", "pass").wait(30))
"""
    ended = run_agent(tmp_path, code)
    assert ended.out == "1 0\n"
    assert ended.err == "error: a worker cannot be started: [Errno 2] No such file or directory: 'none/err'\n"


def test_a_wait_has_a_limit(tmp_path: Path) -> None:
    code = """
parent = WorkerParent.fork()
worker = sleep("running")
try:
    worker.wait(0.1)
except subprocess.TimeoutExpired as error:
    print(error.timeout, worker.poll())
os.killpg(worker.pid, signal.SIGKILL)
print(worker.wait(), worker.returncode)
"""
    assert run_agent(tmp_path, code).out == "0.1 None\n-9 -9\n"
