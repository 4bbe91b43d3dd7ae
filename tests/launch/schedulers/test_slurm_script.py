"""The batch script of a job, whole."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers.base import Submission
from launch.schedulers.slurm_script import batch_script, sbatch_parameters
from signs_dist.errors import UserError

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
# SLURM may signal this script too: it must live to see how its tasks end.
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
srun --export=ALL --unbuffered --output '/home/someone/my runs/signs-1/submit/001/submitit/%j_%t_log.out' \
--kill-on-bad-exit=1 --cpus-per-task=8 --cpu-bind=cores apptainer exec --nv image.sif /opt/python -u -m launch.task \
'/home/someone/my runs/signs-1/submit/001/submitit'

# teardown
code=$?
# SLURM_JOB_ID of the last element of an array to start is the array's own id, which names all elements.
job_id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job_id=${job_id:-$SLURM_JOB_ID}
job=$(scontrol --oneliner show job "$job_id" 2>/dev/null)
decision=$(apptainer exec --nv image.sif /opt/python -m launch.requeue "$run" --signal-seconds 180 --max-requeues 7 \
--max-timeouts 3 \\
  --exit-code "$code" --job "$job")
own=$?
[ -n "$decision" ] && code=$own
echo "$(date +%FT%T) exit code $code: $decision"
# The nodes of `requeue-without NODES …`. Found before the requeue: SLURM then ends this script's children.
excluded=${decision#requeue-without }
[ "$excluded" = "$decision" ] && excluded=
excluded=${excluded%% *}
case "$decision" in
  requeue*) for pause in 5 15 45 0; do
      # Incomplete: a job that was cancelled meanwhile stays cancelled.
      scontrol requeue Incomplete "$job_id" && break
      echo "not requeued: SLURM has requeued it already, or does not answer"; sleep $pause
    done
    # SLURM takes this from a job that it has requeued, and starts the job when this script has ended.
    [ -n "$excluded" ] && for pause in 1 1 1 1 1; do
      scontrol update JobId="$job_id" ExcNodeList="$excluded" && break; sleep $pause
    done ;;
esac
exit "$code\""""


def test_the_whole_script() -> None:
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
    assert batch_script(Submission(cluster, (JOB,), Path(RUN) / "submit" / "001", "signs-1")) == SCRIPT
    checked = subprocess.run(["bash", "-n"], input=SCRIPT, text=True, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tasks_per_node": 2}, {"nodes": "1", "ntasks-per-node": 2, "cpus-per-task": None}),
        ({"gpus_per_node": 2, "binds_gpus": True}, {"gpus-per-task": "1", "ntasks-per-node": 2}),
        ({"gpus_per_node": 2}, {"gpus-per-node": "2", "ntasks-per-node": 2}),
        # torchrun: one task, with the cores of all its processes.
        ({"gpus_per_node": 4, "agent": "torchrun", "cpus_per_task": 8}, {"ntasks-per-node": 1, "cpus-per-task": 32}),
        # A range of nodes: tasks counted by the most, and cores for a node.
        ({"nodes": "1-4", "tasks_per_node": 2, "cpus_per_task": 3}, {"ntasks-per-node": None, "cpus-per-task": 6}),
        # sbatch's other parameters, however their names are written, and its defaults that a site changes.
        ({"extra": {"--mail_type": "END", "wckey": "mine"}}, {"mail-type": "END", "wckey": "mine"}),
    ],
)
def test_what_is_asked_for(values: dict[str, Any], expected: dict[str, Any]) -> None:
    parameters = sbatch_parameters(Submission(ClusterConfig(**values), (JOB,), Path("/x"), "name"))
    assert {name: parameters.get(name) for name in expected} == expected
    assert not {"gpus-per-node", "gpus-per-task"} <= set(parameters)


def test_a_range_of_nodes_is_asked_for_by_its_most() -> None:
    cluster = ClusterConfig(nodes="1-4", tasks_per_node=2, cpus_per_task=3)
    script = batch_script(Submission(cluster, (JOB,), Path("/x"), "name"))
    for line in ("#SBATCH --nodes=1-4", "#SBATCH --ntasks=8", "#SBATCH --overcommit", "#SBATCH --cpus-per-task=6"):
        assert f"{line}\n" in script
    assert "export SLURM_NTASKS=$((SLURM_JOB_NUM_NODES * 2)) SLURM_NTASKS_PER_NODE=2\n" in script
    assert " --cpus-per-task=3 " in script
    assert "--ntasks-per-node" not in script


def test_an_array_finds_its_run_by_its_number(tmp_path: Path) -> None:
    runs = tmp_path / "runs.txt"
    runs.write_text("/a b/one\n/a b/two\n")
    script = batch_script(Submission(ClusterConfig(), (JOB,), Path("/x"), "name", runs))
    line = next(line for line in script.splitlines() if line.startswith("run="))
    told = subprocess.run(["bash", "-c", f'SLURM_ARRAY_TASK_ID=1; {line}; echo "$run"'], capture_output=True, text=True)
    assert told.stdout == "/a b/two\n"


def test_an_array_is_one_script() -> None:
    script = batch_script(Submission(ClusterConfig(), (JOB,) * 5, Path("/x"), "name", Path("/x/runs.txt"), 2))
    assert "#SBATCH --array=0-4%2\n" in script
    assert "#SBATCH --output=/x/submitit/%A_%a_0_log.out\n" in script
    assert " --output /x/submitit/%A_%a_%t_log.out " in script
    alone = batch_script(Submission(ClusterConfig(), (JOB,), Path("/x"), "name", Path("/x/runs.txt"), 2))
    assert "--array" not in alone


@pytest.mark.parametrize("name", ["percent%j", "back\\slash", "new\nline", "$(x)", "`x`", "a'b", "a:b"])
def test_a_name_that_slurm_would_expand_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="SLURM or Python would not take"):
        batch_script(Submission(ClusterConfig(), (JOB,), Path("/x") / name, "name"))
