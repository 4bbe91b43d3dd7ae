"""The batch script of a job, whole, and what SLURM's answers mean."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launch import follow
from launch.array import parse_grid, trial_name
from launch.batch import Submission, local_lines, make_executor, outside_of_any_job, sbatch_parameters
from launch.check import check_gpus_here, check_partition, choose_fitting, choose_partitions, describe_devices
from launch.cluster import ClusterConfig
from launch.job import Job
from launch.jobs import (
    JobState,
    ask_state,
    cancel,
    claim_folder,
    describe_requeue,
    end_claim,
    find_alive,
    parse_config,
    parse_job,
    parse_lines,
)
from launch.snapshot import take_snapshot, without_snapshot
from launch.submit import handed_over, taken_back
from signs_dist.errors import UserError
from signs_dist.heartbeat import read_birth
from tests.processes import REPOSITORY, environment

RUN = "/home/someone/my runs/signs-1"
JOB = Job(
    arguments=("--config", f"{RUN}/submit/001/config.yaml", "--run-dir", RUN),
    run_folder=RUN,
    working_folder="/home/someone/work",
    import_folders=(f"{RUN}/submit/001/code/tree", f"{RUN}/submit/001/code/tree/mine"),
)

SCRIPT = """\
#!/bin/bash

# Parameters
#SBATCH --account=my-project
#SBATCH --comment='two words'
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=a100:4
#SBATCH --job-name=signs-1
#SBATCH --mem=64G
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output='/home/someone/my runs/signs-1/submit/001/submitit/%j_0_log.out'
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=240
#SBATCH --wckey=submitit

# setup
# SLURM may signal this script too; it stays, to see how its tasks end.
trap : TERM USR2
cd '/home/someone/my runs/signs-1/submit/001/code/tree' || exit 2
export PYTHONPATH='/home/someone/my runs/signs-1/submit/001/code/tree:\
/home/someone/my runs/signs-1/submit/001/code/tree/mine'
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
export SIGNS_DIST_KILL_SECONDS=$(scontrol show config 2>/dev/null | awk '$1 == "KillWait" { print $3 }')
run='/home/someone/my runs/signs-1'
echo "$(date +%FT%T) attempt ${SLURM_RESTART_COUNT:-0} of job $SLURM_JOB_ID on $SLURM_JOB_NODELIST: $run"
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output '/home/someone/my runs/signs-1/submit/001/submitit/%j_%t_log.out' --kill-on-bad-exit=1 \
--cpus-per-task=8 --cpu-bind=cores apptainer exec --nv image.sif /opt/python -u -m submitit.core._submit \
'/home/someone/my runs/signs-1/submit/001/submitit'


# teardown
code=$?
# The last element of an array to start has the array's own number, which stands for all of them.
job_id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job_id=${job_id:-$SLURM_JOB_ID}
job=$(scontrol --oneliner show job "$job_id" 2>/dev/null)
decision=$(apptainer exec --nv image.sif /opt/python -m launch.requeue "$run" --signal-seconds 180 --max-requeues 7 \
--max-timeouts 3 \\
  --exit-code "$code" --job "$job")
own=$?
[ -n "$decision" ] && code=$own
echo "$(date +%FT%T) exit code $code: $decision"
case "$decision" in
  requeue*) for pause in 5 15 45 0; do
      # Incomplete: a job that was cancelled in this very moment stays cancelled.
      scontrol requeue Incomplete "$job_id" && break
      echo "not requeued: SLURM may have done so itself, or does not answer"; sleep $pause
    done ;;
esac
exit "$code\""""


@pytest.fixture
def some_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs by SLURM's names: submitit looks whether they are there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "sbatch"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def script_of(submission: Submission) -> str:
    executor = make_executor(submission)
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    assert isinstance(text, str)
    return text


def test_the_whole_script(some_slurm: Path) -> None:
    cluster = ClusterConfig(
        partition="gpu",
        account="my-project",
        nodes="2",
        gpus_per_node=4,
        gpu_type="a100",
        cpus_per_task=8,
        memory="64G",
        time="4:00:00",
        signal_seconds=180,
        max_requeues=7,
        max_timeouts=3,
        setup=("module load cuda",),
        container="apptainer exec --nv image.sif",
        python="/opt/python",
        srun_args=("--cpu-bind=cores",),
        extra={"comment": "two words"},
    )
    # submitit makes the folder for its own files only when something is submitted.
    assert script_of(Submission(cluster, JOB, Path(RUN) / "submit" / "001", "signs-1")) == SCRIPT
    checked = subprocess.run(["bash", "-n"], input=SCRIPT, text=True, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tasks_per_node": 2}, {"nodes": 1, "ntasks_per_node": 2, "cpus_per_task": None}),
        ({"gpus_per_node": 2, "binds_gpus": True}, {"gpus_per_task": "1", "ntasks_per_node": 2}),
        ({"gpus_per_node": 2}, {"gpus_per_node": "2", "ntasks_per_node": 2}),
        # torchrun: one task, with the cores of all its processes.
        ({"gpus_per_node": 4, "agent": "torchrun", "cpus_per_task": 8}, {"ntasks_per_node": 1, "cpus_per_task": 32}),
        # As many nodes as there are: counted by the most, and cores for a node.
        ({"nodes": "1-4", "tasks_per_node": 2, "cpus_per_task": 3}, {"ntasks_per_node": None, "cpus_per_task": 6}),
    ],
)
def test_what_is_asked_for(values: dict[str, Any], expected: dict[str, Any]) -> None:
    parameters = sbatch_parameters(Submission(ClusterConfig(**values), JOB, Path("/x"), "name"))
    assert {name: parameters.get(name) for name in expected} == expected
    assert not {"gpus_per_node", "gpus_per_task"} <= set(parameters)


def test_a_range_of_nodes_is_asked_for_by_its_most(some_slurm: Path) -> None:
    cluster = ClusterConfig(nodes="1-4", tasks_per_node=2, cpus_per_task=3)
    script = script_of(Submission(cluster, JOB, Path("/x"), "name"))
    for line in ("#SBATCH --nodes=1-4", "#SBATCH --ntasks=8", "#SBATCH --overcommit", "#SBATCH --cpus-per-task=6"):
        assert f"{line}\n" in script
    assert "export SLURM_NTASKS=$((SLURM_JOB_NUM_NODES * 2)) SLURM_NTASKS_PER_NODE=2\n" in script
    assert " --cpus-per-task=3 " in script
    assert "--ntasks-per-node" not in script


def test_an_array_finds_its_run_by_its_number(some_slurm: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs.txt"
    runs.write_text("/a b/one\n/a b/two\n")
    script = script_of(Submission(ClusterConfig(), JOB, Path("/x"), "name", runs))
    line = next(line for line in script.splitlines() if line.startswith("run="))
    told = subprocess.run(["bash", "-c", f'SLURM_ARRAY_TASK_ID=1; {line}; echo "$run"'], capture_output=True, text=True)
    assert told.stdout == "/a b/two\n"


def test_without_slurm_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"there is no SLURM on this machine .* type --cluster local"):
        make_executor(Submission(ClusterConfig(), JOB, Path("/x"), "name"))


SHOWN = (
    "JobId=7 JobName=x UserId=root(0) Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=75:0 JobState=RUNNING "
    "Reason=None Dependency=(null) NodeList=n[1-2] BatchHost=n1 StdOut=/a"
)


@pytest.mark.parametrize(
    ("text", "told", "alive"),
    [
        (SHOWN, "running on n[1-2], requeued 2 times", True),
        (
            SHOWN.replace("RUNNING", "PENDING").replace("Reason=None", "Reason=Resources"),
            "pending (Resources), requeued 2 times",
            True,
        ),
        (SHOWN.replace("RUNNING", "FAILED").replace("Restarts=2", "Restarts=0"), "failed", False),
        (SHOWN.replace("n[1-2]", "(null)").replace("Restarts=2", "Restarts=1"), "running, requeued 1 time", True),
        ("", "not known to SLURM any more", False),
    ],
)
def test_the_state_of_a_job(text: str, told: str, alive: bool) -> None:
    state = parse_job("7", text)
    assert (state.describe(), state.is_alive) == (told, alive)
    assert state.exit_code == (75 if text else 0)


def test_a_waiting_job_says_so() -> None:
    assert JobState("7", "PENDING").is_waiting
    assert not JobState("7", "RUNNING").is_waiting


CONFIG = """\
Configuration data as of 2026-11-25T22:00:00
KillWait                = 30 sec
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
SlurmctldParameters     = enable_configless,preempt_send_user_signal
"""


@pytest.mark.parametrize(
    ("changes", "partition", "told"),
    [
        ({}, {"PreemptMode": "REQUEUE", "GraceTime": "60"}, "signalled 60 s before, saved and requeued"),
        ({}, {"PreemptMode": "REQUEUE", "GraceTime": "0"}, "SIGTERM, saved within 30 s if that is enough"),
        ({"SlurmctldParameters": "(null)"}, {"GraceTime": "60"}, "SIGTERM, saved within 30 s"),
        ({}, {"PreemptMode": "OFF"}, "never on this partition"),
        ({"PreemptType": "preempt/none"}, {}, "never on this partition"),
        ({}, {"PreemptMode": "CANCEL"}, "SLURM does CANCEL here, and the job does not come back by itself"),
        ({}, {"PreemptMode": "CANCEL", "GraceTime": "9"}, "told 9 s before, saved and requeued by its own script"),
        ({}, {"PreemptMode": "SUSPEND,GANG"}, "the job is suspended, and goes on where it was"),
    ],
)
def test_what_a_requeue_will_do(changes: dict[str, str], partition: dict[str, str], told: str) -> None:
    lines = describe_requeue({**parse_config(CONFIG), **changes}, partition, ClusterConfig())
    assert lines[0] == "at the time limit: saved and requeued 120 s before it, at most 20 times; 50 requeues in all"
    assert told in lines[1]


def test_more_time_than_a_partition_allows() -> None:
    partition = {"PartitionName": "short", "MaxTime": "00:30:00"}
    check_partition(ClusterConfig(time="30"), partition)
    check_partition(ClusterConfig(time="9-0"), {"PartitionName": "long", "MaxTime": "UNLIMITED"})
    check_partition(ClusterConfig(time="9-0"), {})
    with pytest.raises(UserError, match=r"--time 31: partition short allows at most 00:30:00\. Type --time 30"):
        check_partition(ClusterConfig(time="31"), partition)


PARTITIONS = parse_lines(
    "PartitionName=gpu AllowGroups=ALL Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 Nodes=n[1-3]\n"
    "PartitionName=cpu AllowGroups=ALL Default=NO MaxNodes=1 MaxTime=UNLIMITED Nodes=n[3-4]"
)
NODES = parse_lines(
    "NodeName=n1 CPUTot=32 Gres=gpu:a100:4(S:0-1) RealMemory=256000 OS=Linux 6.1 #1 SMP x Partitions=gpu\n"
    "NodeName=n2 CPUTot=32 Gres=gpu:a100:4,gpu:v100:2 RealMemory=256000 Partitions=gpu\n"
    "NodeName=n3 CPUTot=64 Gres=(null) RealMemory=512000 Partitions=gpu,cpu\n"
    "NodeName=n4 CPUTot=64 Gres=(null) RealMemory=512000 Partitions=cpu"
)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"nodes": "3", "memory": "200G"}, None),
        ({"nodes": "2", "gpus_per_node": 4, "cpus_per_task": 8, "memory": "250G"}, None),
        ({"gpus_per_node": 6}, None),
        ({"gpus_per_node": 2, "gpu_type": "v100"}, None),
        ({"partition": "cpu", "tasks_per_node": 64}, None),
        (
            {"partition": "gpus"},
            "--partition gpus: this cluster has no gpus. Did you mean gpu? It has gpu, cpu.",
        ),
        ({"gpus_per_node": 8}, "--gpus-per-node 8: the nodes of partition gpu have 6 at most. Type --gpus-per-node 6,"),
        ({"partition": "cpu", "gpus_per_node": 1}, "have 0 at most. Name another --partition."),
        ({"gpus_per_node": 1, "gpu_type": "h100"}, "--gpu-type h100: the nodes of partition gpu have a100, v100."),
        ({"gpus_per_node": 4, "gpu_type": "v100"}, "have 2 at most. Type --gpus-per-node 2"),
        (
            {"tasks_per_node": 2, "cpus_per_task": 40},
            "2 processes of 40 cores on each node: the nodes of partition gpu",
        ),
        ({"tasks_per_node": 2, "cpus_per_task": 40}, "have 64 cores at most. Type --cpus-per-task 32."),
        ({"tasks_per_node": 65}, "have 64 cores at most. Type --tasks-per-node 64."),
        ({"memory": "1T"}, "--memory 1T: the nodes of partition gpu have 512000M at most. Type --memory 512000M."),
        ({"gpus_per_node": 4, "tasks_per_node": 4, "memory": "400G"}, "no node of partition gpu has all that is asked"),
        ({"nodes": "4"}, "--nodes 4: partition gpu gives at most 3 nodes. Type --nodes 3."),
        ({"nodes": "3", "gpus_per_node": 4}, "--nodes 3: partition gpu gives at most 2 such nodes. Type --nodes 2."),
        ({"nodes": "2", "gpus_per_node": 6}, "gives at most 1 such node. Type --nodes 1."),
        ({"partition": "cpu", "nodes": "2"}, "--nodes 2: partition cpu gives at most 1 node. Type --nodes 1."),
    ],
)
def test_what_does_not_fit_on_the_nodes_is_told(values: dict[str, Any], told: str | None) -> None:
    cluster = ClusterConfig(**values)

    def check() -> None:
        choose_fitting(cluster, choose_partitions(cluster.partition, PARTITIONS), NODES)

    if told is None:
        check()
        return
    with pytest.raises(UserError) as caught:
        check()
    assert told in str(caught.value)


def test_without_a_word_from_slurm_nothing_is_refused() -> None:
    assert choose_partitions("gpu", []) == []
    assert choose_fitting(ClusterConfig(gpus_per_node=4), [], []) == {}
    assert choose_fitting(ClusterConfig(gpus_per_node=4), PARTITIONS[:1], []) == PARTITIONS[0]
    assert choose_partitions(None, PARTITIONS[1:]) == []  # a site may choose by other means


def test_gpus_that_this_machine_does_not_have() -> None:
    check_gpus_here(ClusterConfig(kind="local", gpus_per_node=2), 2)
    with pytest.raises(UserError, match=r"--gpus-per-node 2: this machine shows 1 GPU. Type --gpus-per-node 1."):
        check_gpus_here(ClusterConfig(kind="local", gpus_per_node=2), 1)
    with pytest.raises(UserError, match=r"this machine shows no GPUs. Type --gpus-per-node 0 --tasks-per-node 2."):
        check_gpus_here(ClusterConfig(kind="local", gpus_per_node=2), 0)


def test_the_devices_are_told() -> None:
    assert describe_devices(ClusterConfig()) == "1 node, 1 process on each, started by srun, on the CPU"
    told = describe_devices(ClusterConfig(nodes="1-4", gpus_per_node=2, agent="torchrun"))
    assert told.startswith("1 to 4 nodes, 2 processes on each, started by torchrun; each sees all of the job's GPUs")


@pytest.mark.parametrize(
    ("entries", "trials"),
    [
        (["seeds=0,1"], [("seed=0",), ("seed=1",)]),
        (
            ["seeds=0,1", "optim.lr=0.1,0.03"],
            [
                ("seed=0", "optim.lr=0.1"),
                ("seed=0", "optim.lr=0.03"),
                ("seed=1", "optim.lr=0.1"),
                ("seed=1", "optim.lr=0.03"),
            ],
        ),
        (["optim.lr=1e-4"], [("optim.lr=0.0001",)]),
        (["model.name=mlp,signs_net", "seed=7"], [("model.name=mlp", "seed=7"), ("model.name=signs_net", "seed=7")]),
        (["data.mean=[0.1, 0.2],[0.3, 0.4]"], [("data.mean=[0.1, 0.2]",), ("data.mean=[0.3, 0.4]",)]),
    ],
)
def test_a_grid(entries: list[str], trials: list[tuple[str, ...]]) -> None:
    assert parse_grid(entries) == trials


@pytest.mark.parametrize("entries", [["seeds"], ["=1"], ["seeds="], ["a=["], ["seed=1", "seeds=2"], ["seed=7,7"]])
def test_what_is_no_grid(entries: list[str]) -> None:
    with pytest.raises(UserError, match="--array"):
        parse_grid(entries)
    with pytest.raises(UserError, match="1,001 trials; at most 1,000"):
        parse_grid([f"a={','.join(map(str, range(1001)))}"])


def test_a_trials_folder_can_be_told_by_people_and_taken_by_any_file_system() -> None:
    assert trial_name(3, ("seed=1", "optim.lr=0.1")) == "003-seed=1-optim.lr=0.1"
    assert trial_name(0, ("model.args={a: '/;$(x)'}",)) == "000-model.args=_a_x_"
    assert len(trial_name(0, ("x" * 500,))) == 80


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_snapshot_of_a_working_tree(tmp_path: Path) -> None:
    tree, target = tmp_path / "my tree", tmp_path / "copy"
    (tree / "sub").mkdir(parents=True)
    git(tree, "init", "-q")
    (tree / ".gitignore").write_text("big.bin\n")
    (tree / "one.py").write_text("x = 1\n")
    (tree / "gone.py").write_text("x = 1\n")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "first")
    (tree / "one.py").write_text("x = 2\n")
    (tree / "gone.py").unlink()
    (tree / "sub" / "new name.py").write_text("y = 1\n")
    (tree / "big.bin").write_bytes(b"0" * 1000)
    snapshot = take_snapshot(tree / "sub", target)
    copied = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert {name for name in copied if name.startswith("tree/")} == {
        "tree/.gitignore",
        "tree/one.py",
        "tree/sub/new name.py",
    }
    assert (target / "tree" / "one.py").read_text() == "x = 2\n"  # as it is, not as it was committed
    assert (target / "toolkit" / "signs_dist" / "train.py").exists()
    assert snapshot.import_folders == (target / "toolkit", target / "tree" / "sub")
    assert snapshot.about["dirty"]
    assert len(snapshot.about["commit"]) == 40
    assert b"+x = 2" in snapshot.diff
    # A job's Python begins in the first folder: what it imports is the copy.
    program = "import signs_dist, launch.job; print(signs_dist.__file__, launch.job.__file__, sep='\\n')"
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=snapshot.import_folders[0],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, snapshot.import_folders))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(target)) for path in told.stdout.splitlines())


def test_a_snapshot_without_git_and_one_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    for name in (
        "one.py",
        "conf.yaml",
        "photo.jpg",
        "runs/a/b.py",
        ".hidden/c.py",
        "venv/pyvenv.cfg",
        "venv/d.py",
        "sub/e.py",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x = 1\n")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    snapshot = take_snapshot(tree, tmp_path / "copy")
    copied = {str(path.relative_to(tmp_path / "copy" / "tree")) for path in (tmp_path / "copy" / "tree").rglob("*.*")}
    assert copied == {"one.py", "conf.yaml", "sub/e.py"}
    assert snapshot.about["commit"] is None
    assert snapshot.diff == b""
    monkeypatch.setattr("launch.snapshot.MOST_BYTES", 10)
    with pytest.raises(UserError, match="too much to copy for each job"):
        take_snapshot(tree, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    plain = without_snapshot(tree)
    assert plain.import_folders == (REPOSITORY, tree)
    assert plain.about["snapshot"] is False


def put_scontrol(folder: Path, *answers: str) -> None:
    """A scontrol that does one after the other, and the last again and again."""
    lines = "\n".join(f"  {number}) {answer} ;;" for number, answer in enumerate(answers[:-1]))
    (folder / "scontrol").write_text(
        f"#!/bin/sh\nn=$(wc -l < {folder}/calls 2>/dev/null || echo 0)\necho >> {folder}/calls\n"
        f"case $n in\n{lines}\n  *) {answers[-1]} ;;\nesac\n"
    )
    (folder / "scontrol").chmod(0o755)


NO_ANSWER = "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1"
UNKNOWN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"


def test_a_controller_that_does_not_answer_is_not_a_job_that_has_ended(some_slurm: Path) -> None:
    put_scontrol(some_slurm, UNKNOWN, NO_ANSWER)
    assert not ask_state("7").is_alive
    put_scontrol(some_slurm, "echo 'Job 33_0 not found' >&2; exit 1")
    assert not ask_state("33_0").is_alive
    put_scontrol(some_slurm, NO_ANSWER)
    with pytest.raises(UserError, match=r"SLURM does not answer about job 7: Unable to contact slurm controller"):
        ask_state("7")


def test_one_who_waits_goes_on_when_the_controller_answers_again(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.05)
    shown = f"echo '{SHOWN}'"
    put_scontrol(some_slurm, shown, NO_ANSWER, shown, shown.replace("RUNNING", "FAILED"))
    assert follow.follow(tmp_path, "7") == 75
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "job 7: running on n[1-2], requeued 2 times",
        "job 7: SLURM does not answer about job 7: Unable to contact slurm controller (connect failure). "
        "Type the command again when it does.",
        "job 7: running on n[1-2], requeued 2 times",
        "job 7: failed, requeued 2 times",
    ]
    assert "not finished: job 7 is failed" in told.err


@pytest.mark.parametrize(
    ("state", "waits", "lives"),
    [
        *(("PENDING", True, True), ("REQUEUE_HOLD", True, True), ("RUNNING", False, True), ("COMPLETING", False, True)),
        *(("A_STATE_TO_COME", False, True), ("OUT_OF_MEMORY", False, False), ("ENDED", False, False)),
        ("", False, False),
    ],
)
def test_which_states_are_alive(state: str, waits: bool, lives: bool) -> None:
    assert (JobState("7", state).is_waiting, JobState("7", state).is_alive) == (waits, lives)


def answer_with(folder: Path, name: str, text: str, code: int = 0) -> None:
    (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    (folder / name).chmod(0o755)


def test_an_array_is_asked_for_at_once(some_slurm: Path) -> None:
    answer_with(some_slurm, "squeue", "7_0 RUNNING\n7_1 COMPLETED\n7_2 PENDING\n8_0 FAILED\n9_N/A PENDING")
    assert find_alive(["7_0", "7_1", "7_2", "7_3", "8_0", "9"]) == {"7_0", "7_2", "9"}
    answer_with(some_slurm, "squeue", "", code=1)
    assert find_alive(["7_0"]) is None


def test_what_the_controller_has_forgotten_has_ended_whatever_the_accounting_says(some_slurm: Path) -> None:
    (some_slurm / "scontrol").write_text("#!/bin/sh\necho 'Invalid job id specified' >&2\nexit 1\n")
    (some_slurm / "scontrol").chmod(0o755)
    answer_with(some_slurm, "sacct", "RUNNING")
    assert ask_state("7").describe() == "not known to SLURM any more"
    answer_with(some_slurm, "sacct", "CANCELLED by 0")
    assert ask_state("7").describe() == "cancelled"


def test_a_job_that_submits_hands_on_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "SLURM_CONF": "/etc/x", "SBATCH_ACCOUNT": "mine"}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    with outside_of_any_job():
        assert [name for name in mine if name in os.environ] == ["SLURM_CONF", "SBATCH_ACCOUNT"]
    assert all(os.environ[name] == value for name, value in mine.items())
    monkeypatch.delenv("SLURM_JOB_ID")
    with outside_of_any_job():
        assert os.environ["SLURM_CPUS_PER_TASK"] == "4"  # a person's, in a shell of a login node


def test_a_local_job_keeps_the_gpus_that_its_shell_was_given() -> None:
    submission = Submission(ClusterConfig(kind="local", gpus_per_node=2), JOB, Path(RUN) / "submit" / "001", "signs-1")
    assert "export CUDA_VISIBLE_DEVICES=4,6" in local_lines(submission, "4,6,7")
    assert not any("CUDA" in line for line in local_lines(submission, None))


def test_another_process_is_not_a_local_job() -> None:
    assert not ask_state(f"local{os.getpid()}").is_alive
    cancel([f"local{os.getppid()}"])  # ends nothing: this test goes on


def test_what_the_snapshot_lacks_is_found_where_it_lies(tmp_path: Path) -> None:
    for name, text in (("copy/both.py", "x = 'copy'"), ("here/both.py", "x = 'here'"), ("here/ignored.py", "y = 1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "started").mkdir()
    program = tmp_path / "started" / "program.py"  # Python looks beside it, not in the folder that it works in
    program.write_text(
        f"from launch.job import _enter\n_enter({str(tmp_path / 'here')!r}, [{str(tmp_path / 'copy')!r}])\n"
        "import both, ignored\nprint(both.x, ignored.y)\n"
    )
    told = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment())
    assert told.stdout == "copy 1\n", told.stderr


SIGNALLED = """
import os, signal, sys, time
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import SlurmJobEnvironment
from launch.job import Job
delayed = DelayedSubmission(Job((), run_folder=sys.argv[1], working_folder=".", import_folders=(".",)))
delayed.set_timeout(timeout_min=30, max_num_timeout=3)
SlurmJobEnvironment()._handle_signals(JobPaths(sys.argv[1]), delayed)
os.kill(os.getpid(), signal.SIGUSR2)
time.sleep(20)
"""


def test_submitit_requeues_nothing_before_our_handler_is_there(some_slurm: Path, tmp_path: Path) -> None:
    put_scontrol(some_slurm, "exit 0")
    job = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_NODEID": "0"}
    place = {"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "n1"}
    told = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(tmp_path)],
        env=environment() | job | place | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 75, told.stderr
    assert [path.name for path in (tmp_path / "submit" / "notices").iterdir()] == ["7.0.0.SIGUSR2"]
    assert not (some_slurm / "calls").exists()  # scontrol


@pytest.mark.parametrize(
    ("number", "name"), [("", "trials.txt"), ("0", "trials.txt"), ("3", "trials.txt"), ("1", "none.txt")]
)
def test_an_element_without_a_line_of_its_own_trains_nothing(tmp_path: Path, number: str, name: str) -> None:
    (tmp_path / "trials.txt").write_text("seed=0\nseed=1\n")
    told = subprocess.run(
        ["bash", str(REPOSITORY / "slurm" / "array.sbatch"), name],
        cwd=tmp_path,
        env=environment(SLURM_ARRAY_TASK_ID=number),
        capture_output=True,
        text=True,
    )
    assert told.returncode == 2
    assert f"error: {name} has no line {number or 0}: sbatch --array=1-N for a file of N lines" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["trials.txt"]


def test_of_two_submissions_at_once_one_goes_on(tmp_path: Path) -> None:
    first = claim_folder(tmp_path / "submit")
    assert first.name == "001"
    with pytest.raises(UserError, match=r"another submission for .* is under way \(it is .*/submit/001\)"):
        claim_folder(tmp_path / "submit")
    assert [path.name for path in first.parent.iterdir()] == ["001"]
    (first / "submission.json").touch()
    end_claim(first)
    second = claim_folder(tmp_path / "submit")
    assert second.name == "002"
    # It was killed: its claim counts no more.
    process = subprocess.Popen(["true"])
    process.wait()
    (second / "claim.json").write_text(json.dumps({"host": socket.gethostname(), "pid": process.pid, "birth": "1"}))
    third = claim_folder(tmp_path / "submit")
    # On another machine nobody can look: it counts for ten minutes.
    (third / "claim.json").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(UserError, match="under way"):
        claim_folder(tmp_path / "submit")
    long_ago = time.time() - 601
    os.utime(third, (long_ago, long_ago))
    assert claim_folder(tmp_path / "submit").name == "004"


def test_a_folder_that_is_just_being_made_counts_as_claimed(tmp_path: Path) -> None:
    other = tmp_path / "submit" / "001"
    other.mkdir(parents=True)
    claim = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "birth": read_birth(os.getpid())})
    writer = threading.Timer(0.5, lambda: (other / "claim.json").write_text(claim))
    writer.start()
    with pytest.raises(UserError, match="under way"):
        claim_folder(tmp_path / "submit")
    writer.join()


def test_one_that_was_killed_before_it_claimed_its_folder_counts_no_more(tmp_path: Path) -> None:
    other = tmp_path / "submit" / "001"
    other.mkdir(parents=True)
    long_ago = time.time() - 6
    os.utime(other, (long_ago, long_ago))
    assert claim_folder(tmp_path / "submit").name == "002"


def test_many_claims_at_once_leave_one(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from launch.jobs import claim_folder; claim_folder(Path(sys.argv[1]))"
    code += "; print('claimed', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "submit")]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, env=environment(), **pipes) for _ in range(6)]
    # All are asked to end only when each has claimed or given up.
    firsts = [process.stdout.readline() for process in processes]  # type: ignore[union-attr]
    for process in processes:
        process.communicate()
    assert firsts.count("claimed\n") == 1
    assert len(list((tmp_path / "submit").iterdir())) == 1


def fail_with(error: BaseException, run: Path, name: str, *, at_sbatch: bool = False) -> None:
    """A submission that makes its folder and then ends."""
    with taken_back(run) as made:
        own = run / "submit" / name
        own.mkdir(parents=True)
        made.append(own)
        with handed_over(made, "slurm") if at_sbatch else contextlib.nullcontext():
            raise error


def test_what_a_submission_made_is_taken_back_and_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "new"
    with pytest.raises(UserError, match="later"):
        fail_with(UserError("later"), run, "001")
    assert not (tmp_path / "runs").exists()
    theirs = run / "submit" / "001" / "submission.json"
    with taken_back(run):
        theirs.parent.mkdir(parents=True)
        theirs.touch()
    assert theirs.exists()
    with pytest.raises(UserError, match="later"):
        fail_with(UserError("later"), run, "002")
    assert theirs.exists()
    assert not (run / "submit" / "002").exists()


@pytest.mark.parametrize(
    ("error", "stays"), [(KeyboardInterrupt(), True), (UserError("SLURM does not take this job"), False)]
)
def test_the_folder_of_a_job_that_slurm_may_have_taken_stays(tmp_path: Path, error: BaseException, stays: bool) -> None:
    with pytest.raises(UserError, match=r"SLURM|squeue --me"):
        fail_with(error, tmp_path / "run", "001", at_sbatch=True)
    assert (tmp_path / "run" / "submit" / "001").exists() == stays
