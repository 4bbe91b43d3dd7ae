"""A real SLURM on this machine, in one folder, for rehearsals and tests.

python -m slurm.dev_cluster up /tmp/slurm --nodes 4 --gpus 2
. /tmp/slurm/env.sh; sinfo
python -m slurm.dev_cluster down /tmp/slurm

It runs munged, slurmctld and one slurmd for each node, as root or as an ordinary user. All its files are in the folder,
and `down` removes them. The nodes are virtual: they share this machine's name, ports and files. The GPUs are fake:
SLURM allocates them, but CUDA cannot use them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.environment.installation import spell
from signs_dist.environment.process_table import find_descendants, is_alive, process_state, read_birth
from signs_dist.errors import EXIT_OK, UserError

from .cluster_plan import SACCT, ClusterPlan, gres_conf, slurm_conf

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
INSTALL = "apt-get install slurm-wlm munge"
LONGEST_SOCKET_PATH = 100
"""In bytes; the system allows 107 (unix(7))."""
PORTS = (10001, 19999)
"""Below the range of the system, and below 20000 to 60000, where submitit chooses ports."""
RANGES = {
    "nodes": (1, 200),
    "gpus": (0, 64),
    "cpus": (1, 1024),
    "memory_mb": (1, 10_000_000),
    "grace_seconds": (0, 86_400),
    "kill_seconds": (1, 86_400),
}
"""The least and the most of each flag that is a number."""
UP_SECONDS = 20.0
DAEMONS = "daemons.json"
POLL_SECONDS = 0.05


class DevCluster:
    """The cluster in a folder. `up` starts it, or fails and leaves nothing; `down` ends and removes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client of the cluster needs, beside its own environment."""
        return {
            "SLURM_CONF": str(self.folder / "etc" / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{_search_path()}",
        }

    def up(self, plan: ClusterPlan) -> None:
        """Start the cluster, and wait until all nodes are idle.

        Raises:
            UserError: SLURM is not installed, the folder is not usable, or a daemon does not start.
        """
        _require_programs()
        _require_address()
        self._require_usable()
        plan = dataclasses.replace(
            plan,
            folder=self.folder,
            user=getpass.getuser(),
            ports=_free_ports(plan.num_nodes + 1),
            first_job_id=random.SystemRandom().randrange(1, 3_000_000),
        )
        try:
            self._write_files(plan)
            self._start_daemons(plan)
            self._await_nodes(plan.num_nodes)
        except BaseException as error:
            logs = self._last_lines()
            self.down()
            if isinstance(error, UserError):
                raise UserError(f"{error}{logs}") from error
            raise

    def down(self, *, keep: bool = False) -> None:
        """Kill all daemons and the processes of all jobs, and remove the folder unless `keep`.

        Raises:
            UserError: the folder is not a cluster's.
        """
        if not self.folder.exists():
            return
        if not (self.folder / "munge").is_dir() or not (self.folder / "spool").is_dir():
            raise UserError(f"{self.folder} is not a cluster's folder. Nothing was killed or removed.")
        # No process is asked to finish. The controller is killed first, so that it starts nothing again; the next round
        # finds what it was just starting.
        quiet_rounds = 0
        while quiet_rounds < 2:
            found = [*self._daemons(), *self.job_processes()]
            quiet_rounds = 0 if found else quiet_rounds + 1
            for pid in found:
                for each in (pid, *find_descendants(pid)):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(each, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
        for process in self._children:  # daemons that this process started
            process.wait()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def status(self) -> str:
        """The output of sinfo and squeue. Raises `UserError` if the cluster does not run."""
        if not self._daemons():
            raise UserError(f"no cluster runs in {self.folder}. To start one: {spell('dev-cluster')} up {self.folder}")
        partitions = self.run("sinfo", "--format=%9R %.5a %.11l %.14F  %G")
        return f"{partitions}\n\n{self.run('squeue')}"

    def run(self, *command: str) -> str:
        """The output of a SLURM command on this cluster. Raises `UserError` if it fails."""
        ended = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        if ended.returncode:
            raise UserError(f"{' '.join(command)} failed: {ended.stderr.strip() or ended.stdout.strip()}")
        return ended.stdout.strip()

    def _require_usable(self) -> None:
        if not re.fullmatch(r"[\w./+-]+", str(self.folder)):
            raise UserError(
                f"{str(self.folder)!r}: SLURM's files allow no spaces or quotes. Choose a path such as /tmp/slurm"
            )
        length = len(str(self.folder / "munge" / "socket"))
        if length > LONGEST_SOCKET_PATH:
            raise UserError(
                f"{self.folder} is too long for a socket ({length} characters). Choose one such as /tmp/slurm"
            )
        if self._daemons():
            raise UserError(f"a cluster runs in {self.folder}. To see it: {spell('dev-cluster')} status {self.folder}")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(
                f"{self.folder} is not empty. To remove an old cluster: {spell('dev-cluster')} down {self.folder}"
            )

    def _write_files(self, plan: ClusterPlan) -> None:
        for name in ("etc", "log", "state", "munge", "dev", "spool", "bin", *(f"spool/{node}" for node in plan.nodes)):
            path = self.folder / name
            path.mkdir(parents=True)
            path.chmod(0o755)
        self.folder.chmod(0o755)  # munged refuses folders that other users may write to
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        for number in range(1, plan.num_nodes + 1):
            for gpu in range(plan.num_gpus):
                (self.folder / "dev" / f"node{number}-gpu{gpu}").symlink_to("/dev/null")
        plan.config_path.write_text(slurm_conf(plan))
        (self.folder / "etc" / "gres.conf").write_text(gres_conf(plan))
        sacct = self.folder / "bin" / "sacct"
        sacct.write_text(SACCT)
        sacct.chmod(0o755)
        (self.folder / "env.sh").write_text(
            f"export SLURM_CONF={plan.config_path}\nexport PATH={self.folder}/bin:$PATH\n"
        )

    def _start_daemons(self, plan: ClusterPlan) -> None:
        munge = self.folder / "munge"
        commands = {
            "munged": [
                *("munged", "--foreground", "--force", "--num-threads=2", f"--key-file={munge / 'key'}"),
                *(f"--socket={plan.socket_path}", f"--pid-file={munge / 'pid'}", f"--seed-file={munge / 'seed'}"),
                f"--log-file={self.folder / 'log' / 'munged.log'}",
            ],
            "slurmctld": ["slurmctld", "-D", "-i"],
            **{f"slurmd.{name}": ["slurmd", "-D", "-N", name] for name in plan.nodes},
        }
        # If a job starts the cluster, the daemons must not inherit the job's variables.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        started: dict[str, list[str]] = {}
        for name, command in commands.items():
            with (self.folder / "log" / f"{name}.out").open("w") as log:
                process = subprocess.Popen(
                    [shutil.which(command[0], path=_search_path()) or command[0], *command[1:]],
                    env={**inherited, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._children.append(process)
            started[name] = [str(process.pid), read_birth(process.pid)]
            (self.folder / DAEMONS).write_text(json.dumps(started))
            if name == "munged":
                _await(plan.socket_path.exists, f"{name} does not listen on {plan.socket_path}")

    def _await_nodes(self, num_nodes: int) -> None:
        def are_idle() -> bool:
            alive = len(self._daemons())
            if alive < num_nodes + 2:
                raise UserError(f"{num_nodes + 2 - alive} of the cluster's daemons ended at once.")
            with contextlib.suppress(UserError):
                return len(self.run("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N").split()) == num_nodes
            return False

        _await(are_idle, f"the nodes are not idle after {UP_SECONDS:g} s")

    def _daemons(self) -> list[int]:
        """Process ids of the daemons that are alive, the controller first."""
        try:
            recorded: dict[str, list[str]] = json.loads((self.folder / DAEMONS).read_text())
        except (OSError, ValueError):
            return []
        order = sorted(recorded, key=lambda name: name != "slurmctld")
        return [int(recorded[name][0]) for name in order if is_alive(int(recorded[name][0]), recorded[name][1])]

    def job_processes(self) -> Iterator[int]:
        """Process ids of this cluster's jobs and step daemons, even if the node's daemon is gone."""
        conf = f"SLURM_CONF={self.folder / 'etc' / 'slurm.conf'}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                # A person's shell may have SLURM_CONF too, and must survive.
                is_job = any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
                is_step_daemon = (entry / "exe").readlink().name.startswith("slurmstepd")
                if conf in variables and (is_job or is_step_daemon) and process_state(int(entry.name)) != "gone":
                    yield int(entry.name)

    def _last_lines(self) -> str:
        lines = []
        for path in sorted((self.folder / "log").glob("*")):
            text = path.read_text(errors="replace").strip().splitlines()
            lines += [f"{path.name}: {line}" for line in text[-3:] if "error" in line or "fatal" in line]
        return "".join(f"\n  {line}" for line in lines)


def _search_path() -> str:
    """The PATH for SLURM's daemons: an ordinary user's PATH lacks their folders."""
    return f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def find_missing() -> list[str]:
    """SLURM's programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]


def _require_programs() -> None:
    if missing := find_missing():
        raise UserError(f"not installed: {', '.join(missing)}. On Debian and Ubuntu: {INSTALL}")


def _require_address() -> None:
    """SLURM resolves names with AI_ADDRCONFIG (getaddrinfo(3)), which needs an IPv4 address other than 127.0.0.1."""
    try:
        socket.getaddrinfo("127.0.0.1", 1, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    except OSError:
        raise UserError(
            "this machine has no IPv4 address other than 127.0.0.1, so SLURM cannot listen. As root: "
            "ip addr add 127.0.0.2/8 dev lo"
        ) from None


def _free_ports(count: int) -> tuple[int, ...]:
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("0.0.0.0", random.SystemRandom().randint(*PORTS)))
                ports.append(probe.getsockname()[1])
        return tuple(ports)


def _await(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise UserError(f"the cluster does not start: {problem}.")
        time.sleep(POLL_SECONDS)


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog=spell("dev-cluster"),
        description="A real SLURM on this machine, in one folder, to rehearse submissions and for tests. "
        "Partitions: main (the default), short (at most 30 minutes), low (preempted by high), high.",
        epilog=f"Needs SLURM's programs ({INSTALL}), but neither root nor a configuration. Exit codes: 0 done, "
        "2 wrong input, or the cluster cannot start.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{up,down,status}")
    up = commands.add_parser("up", help="start a cluster in an empty folder")
    down = commands.add_parser("down", help="kill a cluster with all its jobs, and remove its folder")
    status = commands.add_parser("status", help="show nodes and jobs")
    for each in (up, down, status):
        each.add_argument("folder", type=Path, metavar="DIR", help="the cluster's folder, such as /tmp/slurm")
    plan = ClusterPlan(Path())
    for flag, default, text in (
        ("--nodes", plan.num_nodes, "number of nodes"),
        ("--gpus", plan.num_gpus, "fake GPUs of each node"),
        ("--cpus", plan.num_cpus, "cores of each node for SLURM; may exceed the cores of this machine"),
        ("--memory-mb", plan.memory_mb, "memory of each node for SLURM"),
        ("--grace-seconds", plan.grace_seconds, "how long a preempted job of partition low may continue"),
        ("--kill-seconds", plan.kill_seconds, "between SIGTERM and SIGKILL"),
    ):
        up.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    up.add_argument(
        "--no-user-signal", action="store_true", help="preemption sends only SIGTERM, not the job's --signal"
    )
    down.add_argument("--keep", action="store_true", help="keep the folder with its logs")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Start, end or show a cluster."""
    options = build_parser().parse_args(arguments)
    cluster = DevCluster(options.folder)
    if options.command == "down":
        if not options.folder.exists():
            print(f"{options.folder} does not exist: nothing to end.")
        cluster.down(keep=options.keep)
    elif options.command == "status":
        print(cluster.status())
    else:
        begun = time.monotonic()
        cluster.up(read_plan(vars(options)))
        print(
            f"{options.nodes} nodes with {options.gpus} fake GPUs each, up in {time.monotonic() - begun:.1f} s.\n"
            f"To use it:  . {cluster.folder}/env.sh\n"
            + ("            CUDA cannot use fake GPUs: submit with -- --device cpu …\n" if options.gpus else "")
            + f"To end it:  {spell('dev-cluster')} down {cluster.folder}"
        )
    return EXIT_OK


def read_plan(options: Mapping[str, Any]) -> ClusterPlan:
    """The plan of the flags. Raises `UserError` for numbers out of range."""
    for name, (least, most) in RANGES.items():
        if not least <= options[name] <= most:
            raise UserError(f"--{name.replace('_', '-')} {options[name]}: give a number from {least} to {most}.")
    return ClusterPlan(
        Path(),  # `up` sets the folder
        num_nodes=options["nodes"],
        num_gpus=options["gpus"],
        num_cpus=options["cpus"],
        memory_mb=options["memory_mb"],
        grace_seconds=options["grace_seconds"],
        kill_seconds=options["kill_seconds"],
        sends_user_signal=not options["no_user_signal"],
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
