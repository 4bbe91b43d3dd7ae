"""Starting `python -m MODULE` as a fork of an interpreter that has imported PyTorch already, instead of as a new one.

PyTorch takes two seconds of processor time to import, and the tests start a thousand processes. Each pytest worker has
one server (tests/warm_server.py), which imports what commands use and runs none of them. `install` lets
`subprocess.Popen` ask it for a process where `refusal` finds nothing against it; all else starts as ever. The process
is a child of the one that asked: `subprocess.Popen` waits for it, reads from it and kills it as always. The jobs of
SLURM ask by `python()`, an interpreter of their own: see tests/warm_python.py.

How the process becomes a child of the one that asked: the server, a child too, forks a child, which forks the process
and ends. The system gives an orphan to its nearest living ancestor that is a "subreaper" (prctl(2)), which the one that
asks is for that moment.

What differs from a new interpreter: all processes of a server share its hash seed, what it has imported is there, and a
process ends without taking its modules to pieces. Tests of starting itself ask for new interpreters: see `cold`.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import warm_python

REPOSITORY = Path(__file__).resolve().parent.parent
SERVER = Path(__file__).with_name("warm_server.py")
PACKAGES = ("signs_dist", "launch")
"""Their modules are started from the server, and so is torchrun."""
TORCHRUN = "torch.distributed.run"
BOUND = ["-I", "-S", str(REPOSITORY / "signs_dist" / "searching" / "bound_program.py")]
"""How a sweep starts its runs: the program becomes the command behind it."""
READ_EARLY = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ATEN_", "DNNL_", "ONEDNN_", "CUDA", "NVIDIA_", "PYTORCH_"),
    *("TORCH_LOGS", "TORCH_TRACE", "TORCH_DEVICE_BACKEND", "LOGLEVEL", "MALLOC_", "GLIBC_", "LD_", "LANG", "LC_"),
    "PYTHON",
)
"""What variables begin with that the interpreter, PyTorch and their libraries read while they are loaded."""
READ_LATE = ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")
"""Not these: a process gets the search path of its own, and CUDA reads its variable when it is used first."""
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""How a server's OpenMP waits, as a command chooses where other programs are busy; no bit of a result depends on it."""
PR_SET_CHILD_SUBREAPER = 36
START_SECONDS = 120.0
"""How long a server may take to import, and to start a process, on a busy machine."""
PADDING = 8192
"""Bytes of an argument of the server that leave room for the command lines of its processes in /proc."""

_new_interpreter = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_signature = inspect.signature(_new_interpreter)


class ServerEndedError(RuntimeError):
    """The server has ended, or does not answer."""


def program_place(command: Sequence[str]) -> int | None:
    """The place of MODULE or FILE in `python [-u] -m MODULE …` or `python [-u] FILE.py …`; None for another command."""
    place = 2 if command[1:2] == ["-u"] else 1
    if len(command) <= place or command[0] != sys.executable:
        return None
    if command[place] == "-m":
        return place + 1 if len(command) > place + 1 else None
    return place if command[place].endswith(".py") else None


def refusal(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    loaded: Mapping[str, str],
    *,
    takes_copies: bool = False,
) -> str:
    """Why a command needs a new interpreter; "" where it needs none.

    Args:
        command: the command line.
        environment: of the new process.
        folder: its working directory.
        loaded: the environment in which the server was started.
        takes_copies: whether a copy of this checkout's modules, as a job imports, may be taken for themselves.
    """
    place = program_place(command)
    if place is None:
        return "it is not python -m MODULE, nor python FILE.py"
    program, environment, loaded = command[place], {**WAITING, **environment}, {**WAITING, **loaded}
    is_module = command[place - 1] == "-m"
    if is_module and program != TORCHRUN and program.split(".")[0] not in PACKAGES:
        return f"{program} is not of the toolkit"
    for name in sorted({*environment, *loaded}):
        is_early = name.startswith(READ_EARLY) and name not in READ_LATE
        if is_early and environment.get(name) != loaded.get(name):
            return f"{name} is read by the interpreter or by PyTorch while they are loaded"
    if not folder.is_dir():
        return "its folder is missing"
    first = folder if is_module else (folder / program).resolve().parent
    if not is_module and not (folder / program).is_file():
        return "its file is missing"
    if first == REPOSITORY / "launch":  # whose files put this checkout in place of their folder
        return ""
    for entry in [str(first), *search_path(environment, folder)]:
        if Path(entry) == REPOSITORY or (takes_copies and is_copy(Path(entry))):
            return ""
        if any((Path(entry) / name).exists() for name in (*PACKAGES, "sitecustomize.py", "usercustomize.py")):
            return f"its modules are in {entry}"
    return "this checkout is not on its path"


def is_copy(folder: Path) -> bool:
    """Whether a folder holds the toolkit as it is in this checkout, and nothing else."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} != set(PACKAGES):
        return False
    return _modules_in(folder) == _modules_in(REPOSITORY)


def _modules_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Name → size and time of change of the toolkit's files."""
    found = {}
    for package in PACKAGES:
        for path, folders, names in os.walk(folder / package):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                if name.endswith(".py"):
                    file = os.path.join(path, name)  # noqa: PTH118  (hundreds of them)
                    stat = os.stat(file)  # noqa: PTH116
                    found[os.path.relpath(file, folder)] = stat.st_size, stat.st_mtime_ns
    return found


def search_path(environment: Mapping[str, str], folder: Path) -> list[str]:
    """The folders of PYTHONPATH as `sys.path` has them."""
    given = environment.get("PYTHONPATH", "")
    # As Python's site does it, with links as they are.
    entries = [os.path.abspath(folder / entry) for entry in given.split(os.pathsep)]  # noqa: PTH100
    return list(dict.fromkeys(entries)) if given else []


class Server:
    """A server, seen from the process whose children it makes.

    Args:
        channel: a socket to it.
        pid: its process id.
        loaded: the environment in which it was started.
        folder: the folder with the socket on which it listens, which is removed at the end; None: it listens on none.
    """

    def __init__(self, channel: socket.socket, pid: int, loaded: Mapping[str, str], folder: Path | None = None) -> None:
        self.pid, self.loaded, self.folder = pid, dict(loaded), folder
        self._channel, self._lock, self._owner = channel, threading.Lock(), os.getpid()
        self._is_ready = False

    @classmethod
    def start(cls, loaded: Mapping[str, str]) -> Server:
        """Start one with an environment. It imports while this process goes on, and ends with it."""
        ours, theirs = socket.socketpair()
        folder = Path(tempfile.mkdtemp(prefix="sd-", dir="/tmp"))  # a socket's path is short
        environment = {name: value for name, value in (WAITING | dict(loaded)).items() if name != "PYTHONPATH"}
        with theirs, socket.socket(socket.AF_UNIX) as listening, Path(os.devnull).open("r+") as nothing:
            listening.bind(str(folder / warm_python.SOCKET))
            listening.listen(64)
            passed = [theirs.fileno(), listening.fileno()]
            streams = {"stdin": nothing, "stdout": nothing, "stderr": nothing}
            process = subprocess.Popen(
                [sys.executable, str(SERVER), *map(str, passed), "-" * PADDING],
                **streams,
                env=environment,
                pass_fds=passed,
                cwd=REPOSITORY,  # type: ignore[call-overload]
            )
        process.returncode = 0  # nobody waits for it
        return cls(ours, process.pid, loaded, folder)

    @property
    def serves(self) -> bool:
        """Whether it makes children of this process: not after this process was forked, or has a session of its own."""
        with contextlib.suppress(ProcessLookupError):
            return self._owner == os.getpid() and os.getsid(self.pid) == os.getsid(0)
        return self._owner == os.getpid()

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Let it start a process, and return the process id.

        Raises:
            ServerEndedError: it has ended, or does not answer.
        """
        content = pickle.dumps(request)
        with self._lock, _subreaper():
            self._channel.settimeout(START_SECONDS)
            try:
                socket.send_fds(self._channel, [len(content).to_bytes(8, "little")], descriptors)
                self._channel.sendall(content)
                answer = receive(self._channel, 8)
            except OSError as error:
                raise ServerEndedError(f"the server of warm processes, {self.pid}, does not answer: {error}") from error
        if answer is None:
            raise ServerEndedError(f"the server of warm processes, {self.pid}, has ended")
        return int.from_bytes(answer, "little")

    def close(self) -> None:
        """End it, even while it imports."""
        self._channel.close()
        if self._owner == os.getpid():
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def receive(channel: socket.socket, num_bytes: int) -> bytes | None:
    """So many bytes; None where the other side has closed before."""
    found = b""
    while len(found) < num_bytes:
        part = channel.recv(num_bytes - len(found))
        if not part:
            return None
        found += part
    return found


@contextlib.contextmanager
def _subreaper() -> Iterator[None]:
    """Orphans below this process become its children within the block."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


_server: Server | None = None
_loaded: dict[str, str] = {}
_num_cold = 0


def install(server: Server | None = None) -> None:
    """From now on, this process starts what it can from a server.

    Args:
        server: None: one that is started for the first process, with the present environment.
    """
    global _server, _loaded
    _server, _loaded = server, dict(os.environ) if server is None else server.loaded
    subprocess.Popen._execute_child = _execute_child  # type: ignore[attr-defined]


def uninstall() -> None:
    """End the server. All processes start as new interpreters."""
    global _server
    subprocess.Popen._execute_child = _new_interpreter  # type: ignore[attr-defined]
    if _server is not None:
        _server.close()
    _server = None


def server_pid() -> int | None:
    """The process id of this process's server; None where there is none."""
    return None if _server is None else _server.pid


def python() -> str:
    """The path of a `python` for programs that start it by themselves: see tests/warm_python.py.

    Within `cold` it is this interpreter.
    """
    if _num_cold:
        return sys.executable
    folder = _started_server().folder
    assert folder is not None, "the server of a process that was forked itself"
    script = folder / "python"
    if not script.exists():
        link = folder / warm_python.INTERPRETER  # a short path, as the first line of a program has to have
        link.symlink_to(sys.executable)
        script.write_text(f"#!{link} -IS\n{Path(warm_python.__file__).read_text()}")
        script.chmod(0o755)
    return str(script)


def _started_server() -> Server:
    """This process's server, which is started where there is none."""
    global _server
    if _server is None:
        _server = Server.start(_loaded)
    return _server


@contextlib.contextmanager
def cold() -> Iterator[None]:
    """Within the block, every process is a new interpreter."""
    global _num_cold
    _num_cold += 1
    try:
        yield
    finally:
        _num_cold -= 1


def _execute_child(process: Any, *arguments: Any) -> None:
    """In place of `subprocess.Popen._execute_child`, which starts the process."""
    given = _signature.bind(process, *arguments).arguments
    request = _request(given)
    if request is None:
        _new_interpreter(process, *arguments)
        return
    assert _server is not None
    ends = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
    streams = [number if end == -1 else end for number, end in enumerate(ends)]
    pid = _server.fork(request, [*streams, *request["pass_fds"]])
    process.pid, process._child_created = pid, True
    process._close_pipe_fds(
        *(given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
    )


def _request(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the server has to know of a process; None where it has to be a new interpreter."""
    command = given["args"]
    if _num_cold or isinstance(command, (str, bytes, os.PathLike)) or given["shell"] or given["executable"]:
        return None
    command = [os.fspath(word) for word in command]
    bound, command = (command[4:6], command[6:]) if command[1:4] == BOUND else ([], command)
    if not all(isinstance(word, str) for word in command) or program_place(command) is None:
        return None
    if not given["close_fds"] or any(given[name] not in (None, -1) for name in ("gid", "gids", "uid", "umask")):
        return None
    if (os.geteuid(), os.getegid()) != (os.getuid(), os.getgid()):
        return None
    folder = Path(os.fsdecode(given["cwd"])) if given["cwd"] is not None else Path.cwd()
    folder = folder.absolute()
    environment = dict(os.environ if given["env"] is None else given["env"])
    if not all(isinstance(text, str) for pair in environment.items() for text in pair):
        return None
    if refusal(command, environment, folder, _loaded):
        return None
    try:
        before = pickle.dumps(given["preexec_fn"])
        for number in range(3):
            os.fstat(number)
    except (pickle.PicklingError, AttributeError, OSError):  # a function within a function; a stream that is closed
        return None
    if not _started_server().serves:
        return None
    return {
        "command": command,
        "environment": environment,
        "folder": str(folder),
        "new_session": given["start_new_session"],
        "group": os.getpgid(0) if given.get("process_group", -1) == -1 else given["process_group"],
        "before": before,
        "bound": bound,
        "packages": PACKAGES,
        "pass_fds": [int(number) for number in given["pass_fds"]],
        **inherited(),
    }


def inherited() -> dict[str, Any]:
    """What a child has from its parent beside descriptors and the environment."""
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "ignored": [int(number) for number in ignored if number not in (signal.SIGPIPE, signal.SIGXFSZ)],
        "mask": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "umask": umask,
        "cores": os.sched_getaffinity(0),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": {number: resource.getrlimit(number) for number in LIMITS},
    }


LIMITS = [getattr(resource, name) for name in sorted(vars(resource)) if name.startswith("RLIMIT_")]
