"""The server of tests/warm_processes.py: imports what commands use, and forks a process for each request.

python tests/warm_server.py DESCRIPTOR LISTENING PADDING        DESCRIPTOR: a socket on which the requests come

LISTENING is a socket that tests/warm_python.py connects to, the `python` of programs that no test starts itself.


It has one thread, and ends when the socket's other side is closed. A process that starts others, as torchrun does, gets
a server of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.machinery
import io
import marshal
import os
import pickle
import pkgutil
import random
import resource
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import types
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from signs_dist.environment import process_table  # noqa: E402
from tests import warm_processes, warm_python  # noqa: E402

STARTERS = (
    *(warm_processes.TORCHRUN, "launch.local", "launch.agent", "launch.elastic_agent"),
    *("signs_dist.drill", "signs_dist.parity", "signs_dist.diverge", "signs_dist.sweep"),
)
"""Modules that start others. So do benchmarks, and files named starts_others.py."""
IMPORTED_LATE = (
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin", "PIL.PngImagePlugin"),
    *("numpy.random", "filelock", "torch.utils.serialization.config", "rich._emoji_codes", "encodings.ascii"),
)
"""What most trainings import only when they come to it, in this order: 20 ms of processor time in each process."""
HIGH = 200
"""The least number of the descriptor on which a process reaches its own server: programs name lower ones."""
PR_SET_PDEATHSIG = 1
DEAF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Sent to all processes of a group: a server ignores them, and ends with the process that it serves."""


def import_all() -> None:
    """Import what commands use: not the commands themselves, which runpy runs, nor networks, which a manifest lists."""
    for name in (warm_processes.TORCHRUN, *IMPORTED_LATE):
        importlib.import_module(name)
    for package in warm_processes.PACKAGES:
        folder = importlib.import_module(package).__path__
        for found in pkgutil.walk_packages(folder, f"{package}."):
            if found.ispkg or found.name.startswith("signs_dist.models.") or _is_command(found):
                continue
            with contextlib.suppress(ModuleNotFoundError):  # an extra
                importlib.import_module(found.name)


def _is_command(found: pkgutil.ModuleInfo) -> bool:
    source = Path(found.module_finder.path) / f"{found.name.rpartition('.')[2]}.py"  # type: ignore[union-attr]
    return '\nif __name__ == "__main__":' in source.read_text(encoding="utf-8")


def serve(channel: socket.socket, listening: socket.socket | None) -> tuple[dict[str, Any], list[int]]:
    """Answer requests. Returns in each process that was forked, with its request and its descriptors."""
    for number in DEAF:
        signal.signal(number, signal.SIG_IGN)
    keepers: set[int] = set()
    while True:
        sockets = [channel] if listening is None else [channel, listening]
        ready, _, _ = select.select(sockets, [], [])
        keepers = {pid for pid in keepers if os.waitpid(pid, os.WNOHANG)[0] == 0}
        if channel in ready:
            forked = answer(channel, listening)
        else:
            assert listening is not None
            forked = keep(listening.accept()[0], keepers)
        if forked is not None:
            return forked


def answer(channel: socket.socket, listening: socket.socket | None) -> tuple[dict[str, Any], list[int]] | None:
    """Fork a process that becomes a child of the one that asks. None in the server."""
    header, descriptors, _, _ = socket.recv_fds(channel, 8, 250)
    content = warm_processes.receive(channel, int.from_bytes(header, "little")) if len(header) == 8 else None
    if content is None:
        if listening is not None:
            shutil.rmtree(Path(listening.getsockname()).parent, ignore_errors=True)
        os._exit(0)
    go_reader, go = os.pipe()
    pid_reader, pid_writer = os.pipe()
    between = os.fork()
    if between == 0:
        forked = os.fork()
        if forked == 0:
            os.close(go)
            os.read(go_reader, 1)  # until the one between has ended, and this process has its parent
            return pickle.loads(content), descriptors  # noqa: S301
        os.write(pid_writer, forked.to_bytes(8, "little"))
        os._exit(0)
    os.waitpid(between, 0)
    told = os.read(pid_reader, 8)
    for number in (go_reader, go, pid_reader, pid_writer, *descriptors):
        os.close(number)
    channel.sendall(told)
    return None


def keep(asking: socket.socket, keepers: set[int]) -> tuple[dict[str, Any], list[int]] | None:
    """Fork a process for a tests/warm_python.py, below a process that keeps the two together. None in the server."""
    with asking:
        asking.settimeout(warm_processes.START_SECONDS)
        header, descriptors, _, _ = socket.recv_fds(asking, 8, 3)
        content = warm_processes.receive(asking, int.from_bytes(header, "little")) if len(header) == 8 else None
        request = {} if content is None else marshal.loads(content)
        if request and may_fork(request):
            server, pid = os.getpid(), os.fork()
            if pid == 0:
                die_with_parent(server)
                os.setsid()
                keep_only([0, 1, 2, asking.fileno(), *descriptors])
                return stay(asking, request, descriptors)
            keepers.add(pid)
    for number in descriptors:
        os.close(number)
    return None


def may_fork(request: dict[str, Any]) -> bool:
    """Whether a request of tests/warm_python.py is for a process that may be forked."""
    command, folder = [sys.executable, *request["command"][1:]], Path(request["folder"])
    return not warm_processes.refusal(command, request["environment"], folder, _loaded, takes_copies=True)


def stay(asking: socket.socket, request: dict[str, Any], descriptors: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Fork the process and tell how it ends; kill it when the one that asks has gone. Returns in the process."""
    asking.settimeout(None)
    ready, is_set_up = os.pipe()
    keeper, forked = os.getpid(), os.fork()
    if forked == 0:
        die_with_parent(keeper)
        more = {"new_session": True, "bound": [], "before": pickle.dumps(None), "pass_fds": [], "set_up": is_set_up}
        return request | more | {"packages": warm_processes.PACKAGES}, descriptors
    for number in (is_set_up, *descriptors):
        os.close(number)
    os.read(ready, 1)
    with contextlib.suppress(OSError):
        asking.sendall(warm_python.GO + forked.to_bytes(8, "little"))
    ended = os.pidfd_open(forked)
    if ended not in select.select([asking, ended], [], [])[0]:
        process_table.kill_tree(forked)
    _, status = os.waitpid(forked, 0)
    with contextlib.suppress(OSError):
        asking.sendall(status.to_bytes(8, "little"))
    os._exit(0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def starts_others(command: list[str]) -> bool:
    """Whether a command has to have a server of its own."""
    place = warm_processes.program_place(command)
    assert place is not None
    file = Path(command[place])
    return command[place] in STARTERS or file.parent.name == "benchmarks" or file.name == "starts_others.py"


def own_server(request: dict[str, Any]) -> socket.socket | None:
    """In a server for the processes that this process starts: its socket. In this process None."""
    parent = os.getpid()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        high = fcntl.fcntl(ours.detach(), fcntl.F_DUPFD_CLOEXEC, HIGH)
        warm_processes.PACKAGES = request["packages"]
        warm_processes.install(warm_processes.Server(socket.socket(fileno=high), pid, _loaded))
        return None
    die_with_parent(parent)
    keep_only([0, 1, 2, theirs.fileno()])
    return theirs


def keep_only(numbers: list[int]) -> None:
    """Close all other descriptors."""
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number not in numbers:
            with contextlib.suppress(OSError):  # the folder's own
                os.close(number)


def place(descriptors: list[int], targets: list[int]) -> None:
    """Give descriptors their numbers, so that a program that is started inherits them."""
    above = max(targets) + 1
    copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, above) for number in descriptors]
    for copy, target in zip(copies, targets, strict=True):
        os.dup2(copy, target)


def become(request: dict[str, Any]) -> None:
    """Be as a new interpreter with this command, environment and folder would be."""
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.sched_setaffinity(0, request["cores"])
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, request["niceness"])
    for number, limits in request["limits"].items():
        if resource.getrlimit(number) != limits:
            resource.setrlimit(number, limits)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    for number in DEAF:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["mask"])
    if "set_up" in request:
        os.close(request["set_up"])
    command = request["command"]
    sys.executable = command[0]
    show(command)
    place = warm_processes.program_place(command)
    assert place is not None
    is_module = command[place - 1] == "-m"
    sys.argv, sys.orig_argv = ["-m" if is_module else command[place], *command[place + 1 :]], list(command)
    first = request["folder"] if is_module else str(Path(command[place]).resolve().parent)
    folders = warm_processes.search_path(request["environment"], Path(request["folder"]))
    sys.path[:] = [first, *folders, *(entry for entry in _base_path if entry not in folders)]
    importlib.invalidate_caches()
    open_streams(is_unbuffered="-u" in command[1:place] or _stdout.write_through)
    tempfile.tempdir = None
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    if request["bound"]:
        bind(request["bound"], command)
    if (preexec := pickle.loads(request["before"])) is not None:  # noqa: S301
        preexec()


def bind(bound: list[str], command: list[str]) -> None:
    """Do what the program of a sweep does before it becomes the command."""
    from signs_dist.searching import bound_program

    become_it, os.execv = os.execv, lambda *given: None
    try:
        bound_program.main([*bound, *command])
    finally:
        os.execv = become_it


def open_streams(*, is_unbuffered: bool) -> None:
    """The streams of the descriptors 0 to 2, as the interpreter opens them."""
    for number, like in enumerate((_stdin, _stdout, _stderr)):
        mode = "w" if number else "r"
        is_raw = bool(number) and is_unbuffered
        binary: Any = open(number, f"{mode}b", 0 if is_raw else -1, closefd=False)  # noqa: SIM115
        raw = binary if is_raw else binary.raw
        raw.name = f"<{('stdin', 'stdout', 'stderr')[number]}>"
        stream = io.TextIOWrapper(
            binary,
            encoding=like.encoding,
            errors=like.errors,
            newline="\n" if number else None,
            line_buffering=not is_unbuffered and (number == 2 or raw.isatty()),
            write_through=is_unbuffered,
        )
        stream.mode = mode
        setattr(sys, raw.name[1:-1], stream)
        setattr(sys, f"__{raw.name[1:-1]}__", stream)


def show(command: list[str]) -> None:
    """Let /proc/PID/cmdline tell the command, followed by empty words."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    if begin:
        words = b"".join(os.fsencode(word) + b"\0" for word in command)
        room = end - begin
        ctypes.memmove(begin, words[: room - 1].ljust(room, b"\0"), room)


def run(command: list[str]) -> None:
    """Run a module or a file as `python` does; what it raises ends this process as it ends an interpreter."""
    place = warm_processes.program_place(command)
    assert place is not None
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    is_module = command[place - 1] == "-m"
    first = vars(runpy) if is_module else vars(main)  # of the first frame that an interpreter shows
    try:
        if is_module:
            forget(command[place])
            runpy._run_module_as_main(command[place])  # type: ignore[attr-defined]
        else:
            run_file(command[place], main)
    except SystemExit as error:
        end(error.code)
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is not first:
            trace = trace.tb_next
        error.__traceback__ = trace
        sys.excepthook(type(error), error, trace)
        if isinstance(error, KeyboardInterrupt):
            sys.excepthook = lambda *shown: None
            raise  # the interpreter then ends itself by SIGINT
        end(1)
    end(0)


def forget(module: str) -> None:
    """Take back the import of a command that another module has imported."""
    imported = sys.modules.get(module)
    if imported is not None and not hasattr(imported, "__path__"):
        del sys.modules[module]
        package, _, last = module.rpartition(".")
        vars(sys.modules[package]).pop(last, None)


def run_file(path: str, main: types.ModuleType) -> None:
    """Run a file as `python FILE` does. A file of launch/ then starts itself as a module."""
    if (file := Path(path).resolve()).parent.name == "launch":
        forget(f"launch.{file.stem}")
    shown = str(Path(path).absolute())
    loader = importlib.machinery.SourceFileLoader("__main__", shown)
    main.__dict__.update(__file__=shown, __loader__=loader, __cached__=None, __annotations__={})
    exec(compile(file.read_bytes(), shown, "exec"), main.__dict__)  # noqa: S102


def end(code: Any) -> None:
    """End this process as an interpreter does, without taking its modules to pieces: that costs 0.3 s."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)  # the interpreter tells of it
    os._exit((code or 0) & 0xFF)


_stdin, _stdout, _stderr = sys.stdin, sys.stdout, sys.stderr
_base_path = sys.path[1:]
_loaded = dict(os.environ)


def main() -> None:
    """Serve; then, in a process that was forked, run its program."""
    channel: socket.socket | None = socket.socket(fileno=int(sys.argv[1]))
    listening: socket.socket | None = socket.socket(fileno=int(sys.argv[2]))
    import_all()
    for name in ("tests", warm_processes.__name__, warm_python.__name__):  # no files of a user
        sys.modules.pop(name)
    gc.collect()
    gc.freeze()
    request: dict[str, Any] = {}
    while channel is not None:
        request, descriptors = serve(channel, listening)
        channel.detach()
        if listening is not None:
            listening.detach()
        listening = None
        if request["new_session"]:
            os.setsid()
        elif os.getpgid(0) != request["group"]:
            os.setpgid(0, request["group"])
        command = request["command"]
        sys.executable = command[0]
        channel = own_server(request) if starts_others(command) else None
    targets = [0, 1, 2, *request["pass_fds"]]
    kept = [warm_processes._server._channel.fileno()] if warm_processes._server is not None else []
    if "set_up" in request:
        kept.append(request["set_up"])
    place(descriptors, targets)
    keep_only([*targets, *kept])
    become(request)
    run(request["command"])


if __name__ == "__main__":
    main()
