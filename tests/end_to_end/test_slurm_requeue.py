"""Jobs on a real SLURM: the same weights as one process, whatever the cluster does to them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.run_folder.lease import REQUEST
from slurm.cluster_plan import ClusterPlan
from slurm.dev_cluster import DAEMONS, DevCluster
from tests import warm_processes
from tests.processes import PATIENCE, REPOSITORY, environment, wait_for
from tests.slurm_cluster import EPOCHS, TRIVIAL, Site, requires_slurm, short_folder

pytestmark = [pytest.mark.slow, requires_slurm, pytest.mark.timeout(600)]


@pytest.mark.parametrize("agent", [pytest.param("srun", marks=pytest.mark.cold), "torchrun"])
def test_four_processes_on_two_nodes_give_the_weights_of_one(site: Site, one_process: str, agent: str) -> None:
    flags = ["--nodes", "2", "--tasks-per-node", "2", "--time", "30", "--agent", agent, "--wait"]
    ended = site.type_in(*flags, "--", "--run-dir", "run", *site.settings())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 processes over gloo" in ended.stdout
    assert f"finished: everything is in {site.folder}/run" in ended.stdout
    assert site.result("run")["weights_sha256"] == one_process
    assert site.result("run")["world_size"] == 4
    assert "finished" in site.type_in("status", "run").stdout
    # Submitted again, it says so and submits nothing.
    assert site.type_in(*flags, "--", "--run-dir", "run", *site.settings()).stdout.startswith("finished: ")


def requeue(site: Site, job: str) -> None:
    site.cluster.run("scontrol", "requeue", job)


SLOW_TO_START = """
import os, time
from torch import nn

if "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_RESTART_COUNT", 0)) < {attempts}:
    time.sleep(120)

def network(num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))
"""


def slow_to_start(site: Site, attempts: int) -> str:
    """A setting with which so many attempts of a job do not train for two minutes: however late a signal arrives."""
    (site.folder / "slow_to_start.py").write_text(SLOW_TO_START.format(attempts=attempts))
    return "model.name=slow_to_start:network"


def signal_usr2(site: Site, job: str) -> None:
    site.cluster.run("scancel", "--signal=USR2", job)


def preempt(site: Site, job: str) -> None:
    site.cluster.run("sbatch", "-p", "high", "--exclusive", "-N", "4", "-o", "/dev/null", "--wrap", "sleep 2")


def preempt_without_grace(site: Site, job: str) -> None:
    site.cluster.run("scontrol", "update", "PartitionName=low", "GraceTime=0")
    preempt(site, job)


def lose_node(site: Site, job: str) -> None:
    node = site.show(job)["BatchHost"]
    site.cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")


@pytest.mark.parametrize(
    ("event", "nodes", "partition", "reason", "requeued_by_us"),
    [
        (requeue, 1, "main", "SIGTERM", False),
        (signal_usr2, 2, "main", "SIGUSR2", True),
        pytest.param(*(preempt, 1, "low", "SIGUSR2", True), marks=pytest.mark.cold),
        (preempt_without_grace, 2, "low", "SIG(TERM|USR2)", None),  # both at once
        (lose_node, 2, "main", "SIGTERM", False),
    ],
)
def test_a_job_that_has_to_go_comes_back_once_and_loses_nothing(
    site: Site,
    one_process: str,
    event: Callable[[Site, str], None],
    nodes: int,
    partition: str,
    reason: str,
    requeued_by_us: bool | None,
) -> None:
    flags = ["--nodes", str(nodes), "--tasks-per-node", "1", "--time", "60", "--partition", partition]
    job = site.submit(*flags, "--", "--run-dir", "run", *site.settings())
    site.await_step("run", 10)
    try:
        event(site, job)
        require_one_requeue(site, job, one_process)
    finally:
        site.cluster.run("scontrol", "update", "PartitionName=low", "GraceTime=8")
    lines = site.attempts("run")
    assert [line["attempt"] for line in lines if line["event"] == "start"] == [1, 2]
    first, second = (line for line in lines if line["event"] == "end")
    assert re.match(f"stopped by {reason} after epoch ", first["reason"])
    assert first["seconds_lost"] == 0
    assert second["reason"] == "finished"
    assert [line["first_step"] for line in lines if line["event"] == "start"] == [0, first["last_step"]]
    whys = [line["why"] for line in lines if line["event"] == "requeue"]
    assert (
        requeued_by_us is None
        or whys == ["it was preempted" if partition == "low" else "it was signalled"] * requeued_by_us
    )


def require_one_requeue(site: Site, job: str, weights_sha256: str) -> None:
    """Follow a job to its end: it came back once, and made every step once, to the weights of one process."""
    ended = site.type_in("wait", job)
    assert ended.returncode == 0, ended.stdout + ended.stderr + site.type_in("logs", job, "--all").stdout
    assert site.result("run")["weights_sha256"] == weights_sha256
    site.require_each_step_once("run")
    assert site.show(job)["Restarts"] == "1"


def ranks_of(site: Site, run: str) -> dict[int, int]:
    """Process ids by rank."""
    beats = (site.folder / run / "logs").glob("rank*.beat")
    identities = [json.loads(path.read_text())["identity"] for path in beats]
    return {identity["rank"]: identity["pid"] for identity in identities}


@pytest.mark.parametrize("agent", [pytest.param("srun", marks=pytest.mark.cold), "torchrun"])
def test_a_rank_that_is_killed_ends_the_job_with_its_card_or_is_started_again(
    site: Site, one_process: str, agent: str
) -> None:
    flags = ["--nodes", "2", "--tasks-per-node", "1", "--agent", agent]
    job = site.submit(*flags, "--", "--run-dir", "run", *site.settings())
    site.await_step("run", 10)
    os.kill(ranks_of(site, "run")[1], signal.SIGKILL)
    ended = site.type_in("wait", "run")
    said = ended.stdout + ended.stderr
    assert site.show(job)["Restarts"] == "0"
    if agent == "torchrun":
        assert ended.returncode == 0, said
        assert site.result("run")["weights_sha256"] == one_process
        assert [line["attempt"] for line in site.attempts("run") if line["event"] == "start"] == [1, 2]
        return
    assert ended.returncode == 128 + signal.SIGKILL, said
    assert "rank 1 of 2 was killed" in ended.stderr
    assert site.show(job)["JobState"] == "FAILED"
    assert "rank 1 of 2 was killed" in site.type_in("status", "run").stdout
    assert "not finished (failed)" in site.type_in("status", "run").stdout
    # The same command takes up what was saved.
    again = site.type_in(*flags, "--wait", "--", "--run-dir", "run", *site.settings())
    assert again.returncode == 0, again.stdout + again.stderr
    assert site.result("run")["weights_sha256"] == one_process
    assert len(list((site.folder / "run" / "logs").glob("job*.rank1.txt"))) == 2  # nothing is overwritten


def test_a_rank_that_fails_by_itself_gives_the_job_its_exit_code(site: Site) -> None:
    (site.folder / "mine.py").write_text(
        "import os\n"
        "from torch import nn\n"
        "class Network(nn.Sequential):\n"
        "    def forward(self, images):\n"
        "        if self.training and os.environ.get('SLURM_PROCID') == '1':\n"
        "            raise ValueError('planted')\n"
        "        return super().forward(images)\n"
        "def network(num_classes, image_size):\n"
        "    return Network(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))\n"
    )
    arguments = site.settings("model.name=mine:network", "model.args={}", "train.epochs=1")
    ended = site.type_in("--nodes", "2", "--wait", "--", "--run-dir", "run", *arguments)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "ValueError: planted" in ended.stderr
    found = re.search(r"^ +job +(\d+)$", ended.stdout, re.MULTILINE)
    assert found is not None
    assert site.show(found[1])["ExitCode"] == "1:0"


def test_a_requeue_takes_the_nodes_that_there_are(site: Site, one_process: str) -> None:
    flags = ["--nodes", "1-2", "--tasks-per-node", "1"]
    job = site.submit(*flags, "--", "--run-dir", "run", *site.settings())
    site.await_step("run", 10)
    others = ",".join(name for name in ("127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"))
    try:
        site.cluster.run("scontrol", "update", f"NodeName={others}", "State=DRAIN", "Reason=test")
        site.cluster.run("scancel", "--signal=USR2", job)
        time.sleep(1)
        site.cluster.run("scontrol", "update", "NodeName=127.0.1.3", "State=RESUME")
        ended = site.type_in("wait", job)
    finally:
        for name in others.split(","):
            with contextlib.suppress(UserError):  # one that is idle already
                site.cluster.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert site.result("run")["weights_sha256"] == one_process
    assert [line["world_size"] for line in site.attempts("run") if line["event"] == "start"] == [2, 1]
    # Nobody bound the task to a core: SLURM's word for what it was given counts.
    assert json.loads((site.folder / "run" / "manifest.json").read_text())["usable_cores"] == 1


def test_the_time_limit_requeues_and_is_counted(site: Site, one_process: str) -> None:
    job = site.submit("--time", "60", "--", "--run-dir", "run", *site.settings())
    site.await_step("run", 10)
    # SLURM looks at limits twice a minute, and wakes with SIGCONT what it signals: the run does not finish before.
    os.kill(ranks_of(site, "run")[0], signal.SIGSTOP)
    site.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    deadline = time.monotonic() + PATIENCE
    while not (requeued := [line for line in site.attempts("run") if line["event"] == "requeue"]):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert requeued[0]["why"] == "its time limit was near"
    assert requeued[0]["is_timeout"]
    site.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    ended = site.type_in("wait", job)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert site.result("run")["weights_sha256"] == one_process
    assert [line["seconds_lost"] for line in site.attempts("run") if line["event"] == "end"] == [0, 0]


@pytest.mark.parametrize(
    ("flags", "why", "cause"),
    [
        (["--max-requeues", "1"], "it was requeued once: max_requeues", "it was signalled"),
        (["--max-timeouts", "1"], "it was requeued for that once: max_timeouts", "its time limit was near"),
        ([], "two attempts in a row made no step", "it was signalled"),
    ],
)
def test_a_job_that_is_stopped_again_and_again_ends(site: Site, flags: list[str], why: str, cause: str) -> None:
    """With three minutes of time, every signal is taken for that of the time limit."""
    minutes = "3" if "--max-timeouts" in flags else "30"
    network = "model.name=mlp" if flags else slow_to_start(site, attempts=2)
    many = (network, "model.args={}", "train.epochs=1000", "exact=false")
    job = site.submit("--time", minutes, *flags, "--", "--run-dir", "run", *site.settings(*many))
    for attempt in range(2):
        if flags:
            site.await_step("run", 10 + max((line.get("last_step", 0) for line in site.attempts("run")), default=0))
        else:  # before its first step
            wait_for(site.folder / "run" / "logs" / f"job{job}.{attempt}.rank0.txt")
        signal_usr2(site, job)
        if attempt == 0:
            wait_for(site.folder / "run" / "attempts.jsonl", '"requeue"')
    ended = site.type_in("wait", job)
    assert ended.returncode == 75, ended.stdout + ended.stderr
    assert f"{cause}, but {why}" in ended.stderr
    assert [line["why"] for line in site.attempts("run") if line["event"] == "requeue"] == [cause]
    assert site.show(job)["JobState"] == "FAILED"
    assert site.show(job)["Restarts"] == "1"


def test_a_job_that_is_signalled_before_it_trains_comes_back(site: Site) -> None:
    job = site.submit("--", "--run-dir", "run", *site.settings(*TRIVIAL, slow_to_start(site, attempts=1)))
    wait_for(site.folder / "run" / "logs" / f"job{job}.0.rank0.txt")
    signal_usr2(site, job)
    ended = site.type_in("wait", job)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert site.show(job)["Restarts"] == "1"
    assert [line["event"] for line in site.attempts("run")] == ["requeue", "start", "end"]


def test_preempted_without_the_jobs_own_signal(one_process: str, tmp_path: Path, real_photos: Path) -> None:
    with short_folder() as folder:
        cluster = DevCluster(folder)
        cluster.up(ClusterPlan(Path(), num_nodes=4, num_gpus=0, sends_user_signal=False, grace_seconds=8))
        try:
            site = Site(cluster, tmp_path, real_photos)
            job = site.submit("--nodes", "2", "--partition", "low", "--", "--run-dir", "run", *site.settings())
            site.await_step("run", 10)
            preempt(site, job)
            require_one_requeue(site, job, one_process)
            first = next(line for line in site.attempts("run") if line["event"] == "end")
            assert first["reason"].startswith("stopped by SIGTERM after epoch ")
            assert first["seconds_lost"] == 0
        finally:
            cluster.down()


@pytest.fixture
def small_site(tmp_path: Path, real_photos: Path) -> Iterator[Site]:
    """Two nodes of which a test may lose one."""
    with short_folder() as folder:
        cluster = DevCluster(folder)
        cluster.up(ClusterPlan(Path(), num_nodes=2, num_gpus=0))
        try:
            yield Site(cluster, tmp_path, real_photos)
        finally:
            cluster.down()


def train_and_lose_the_node(site: Site, *, freeze: bool = False) -> tuple[str, int]:
    """(job, rank 0's process) after step 30, saved every 10 steps; the node's daemon has been killed.

    With `freeze` the run is stopped some steps after that save: so it cannot be in the middle of a later one.
    """
    settings = site.settings("checkpoint.every_steps=10", "checkpoint.takeover_seconds=200")
    job = site.submit("--", "--run-dir", "run", *settings)
    wait_for(site.folder / "run" / "checkpoints" / "epoch-0002-step-000003.pt.sha256")  # of step 30, and written
    if freeze:
        site.await_step("run", 32)
        os.kill(ranks_of(site, "run")[0], signal.SIGSTOP)
    node = site.show(job)["BatchHost"]
    os.kill(int(json.loads((site.cluster.folder / DAEMONS).read_text())[f"slurmd.{node}"][0]), signal.SIGKILL)
    return job, ranks_of(site, "run")[0]


@pytest.mark.cold
def test_a_node_that_dies_gives_its_job_to_another(small_site: Site, one_process: str) -> None:
    job, _ = train_and_lose_the_node(small_site, freeze=True)
    for pid in small_site.cluster.job_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    require_one_requeue(small_site, job, one_process)
    lines = small_site.attempts("run")
    assert [line["event"] for line in lines] == ["start", "end", "start", "end"]  # no requeue of ours: it was SLURM's
    assert lines[1]["reason"] == "killed without a message"
    assert 30 <= lines[2]["first_step"] <= lines[1]["last_step"] < lines[2]["first_step"] + 10
    assert (lines[1]["seconds_lost"] > 0) == (lines[2]["first_step"] < lines[1]["last_step"])


def test_a_job_that_slurm_has_lost_sight_of_makes_way_for_its_next_attempt(small_site: Site, one_process: str) -> None:
    """Its node has no daemon any more, but its process goes on: then there are two of them for a while."""
    job, process = train_and_lose_the_node(small_site)
    os.kill(process, signal.SIGSTOP)  # it is not to finish before SLURM has noticed
    try:
        wait_for(small_site.folder / "run" / REQUEST)
    finally:
        os.kill(process, signal.SIGCONT)
    require_one_requeue(small_site, job, one_process)
    lines = small_site.attempts("run")
    assert [line["event"] for line in lines] == ["start", "end", "start", "end"]
    assert lines[1]["reason"].startswith("stopped by SIGTERM after epoch ")
    # A save that was under way when the process was stopped seems too slow to be tried again within KillWait.
    assert (lines[1]["seconds_lost"] == 0) == (lines[2]["first_step"] == lines[1]["last_step"])


def test_cancelled_while_it_begins_again_is_cancelled(site: Site) -> None:
    """Before its tasks have handlers, nothing is left of it but the word of the attempt before: that was SIGUSR2."""
    job = site.submit("--", "--run-dir", "run", *site.settings())
    site.await_step("run", 10)
    signal_usr2(site, job)
    deadline = time.monotonic() + 60
    while (shown := site.show(job))["JobState"] != "RUNNING" or shown["Restarts"] != "1":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    site.cluster.run("scancel", job)
    assert site.type_in("wait", job).returncode != 0
    time.sleep(1)  # a requeue of a job that has ended brings it back as well
    assert site.show(job)["JobState"] == "CANCELLED"
    assert site.show(job)["Restarts"] == "1"
    assert [line["event"] for line in site.attempts("run")] == ["start", "end", "requeue"]


def test_cancelled_is_cancelled(site: Site) -> None:
    job = site.submit("--", "--run-dir", "run", *site.settings())
    site.await_step("run", 5)
    assert site.type_in("cancel", job).stdout.startswith(f"{site.folder}/run: cancelled {job}")
    ended = site.type_in("wait", job)
    assert ended.returncode != 0
    assert "cancelled" in site.type_in("status", "run").stdout
    assert site.show(job)["Restarts"] == "0"


@pytest.mark.parametrize("template", ["srun", "torchrun", "cpu", "array"])
def test_the_templates_run_and_requeue(site: Site, one_process: str, template: str) -> None:
    script = REPOSITORY / "slurm" / f"{template}.sbatch"
    flags = {
        "srun": ["--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1"],
        "torchrun": ["--nodes=2", "--gpus-per-node=0", "--cpus-per-task=1"],
        "cpu": ["--ntasks-per-node=1"],
        "array": ["--array=1-2"],
    }[template]
    (site.folder / "trials.txt").write_text(f"train.epochs=1\ntrain.epochs={EPOCHS}\n")
    arguments = [*(["trials.txt"] if template == "array" else []), *site.settings()]
    variables = {"PYTHON": warm_processes.python(), "PROCESSES": "1", "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        ["sbatch", "--parsable", "--time=30", *flags, str(script), *arguments],
        cwd=site.folder,
        env=environment(**site.cluster.environment) | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    job = ended.stdout.strip()
    name = {"srun": "signs", "cpu": "signs-cpu"}.get(template, f"signs-{template}")
    run = f"runs/{name}-{job}" + ("/2" if template == "array" else "")
    own = f"{job}_2" if template == "array" else job
    site.await_step(run, 10)
    assert site.show(own)["JobId"] == job  # of an array, the element that has the number of all
    site.cluster.run("scancel", "--signal=USR2", own)
    deadline = time.monotonic() + PATIENCE
    while not (site.folder / run / "result.json").exists():
        said = "".join(path.read_text() for path in site.folder.glob("slurm-*.out"))
        assert time.monotonic() < deadline, said
        time.sleep(0.3)
    assert site.result(run)["weights_sha256"] == one_process
    assert [line["why"] for line in site.attempts(run) if line["event"] == "requeue"] == ["it was signalled"]
    if template == "array":
        assert site.show(f"{job}_1")["Restarts"] == "0"
