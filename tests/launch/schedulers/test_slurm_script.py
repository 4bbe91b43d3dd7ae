"""The batch script of a job, whole, and what SLURM's answers mean."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.array import parse_grid, trial_name
from launch.check import describe_devices
from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers.slurm_script import Submission, local_lines, make_executor, outside_of_any_job, sbatch_parameters
from launch.snapshot import take_snapshot, without_snapshot
from signs_dist.errors import UserError
from tests.processes import REPOSITORY, environment
from tests.slurm_cluster import put_scontrol

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
