"""Submitting to a real SLURM: what is checked, quoted, copied, given to each process, and rerun."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from signs_dist.environment.devices import plan_devices
from slurm.dev_cluster import DevCluster
from tests import warm_processes
from tests.processes import PATIENCE, REPOSITORY, environment, run, started, wait_for
from tests.slurm_cluster import CONFIG, TRIVIAL, Site, requires_slurm

pytestmark = [pytest.mark.slow, requires_slurm, pytest.mark.timeout(600)]


def type_runs(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command `runs`, on the login node."""
    return subprocess.run(
        [sys.executable, "-m", "signs_dist.runs", *arguments],
        cwd=site.folder,
        env=environment(**site.cluster.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_is_edited_after_the_submission_changes_nothing(site: Site) -> None:
    module = site.folder / "mine.py"
    module.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes, image_size):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(3, num_classes)\n"
        "    def forward(self, images):\n"
        "        return self.layer(images.mean((2, 3)))\n"
    )
    arguments = ["--", "--run-dir", "run", *site.settings(*TRIVIAL, "model.name=mine:Net")]
    job = site.submit("--extra", "hold", *arguments)
    assert "pending (JobHeldUser)" in site.type_in("status", "run").stdout
    listed = json.loads(type_runs(site, "list", ".", "--json").stdout)
    assert (listed["state"], listed["why"], listed["job"]) == ("waiting", "JobHeldUser", job)
    refused = type_runs(site, "rm", "run", "--yes")
    assert (refused.returncode, f"run waits as job {job}." in refused.stderr) == (2, True)
    module.write_text("raise SystemError('half written')\n")
    site.cluster.run("scontrol", "release", job)
    ended = site.type_in("wait", job)
    assert ended.returncode == 0, ended.stderr + site.type_in("logs", "run").stdout
    written = json.loads((site.folder / "run" / "submit" / "001" / "submission.json").read_text())
    assert written["code"]["snapshot"]
    # The check at a submission sees what is there now.
    ended = site.type_in(*arguments[:2], "other", *arguments[3:])
    assert ended.returncode == 2
    assert "half written" in ended.stderr


def known_jobs(site: Site) -> list[str]:
    """The ids of all jobs that SLURM knows. It lists them by priority, which changes from one moment to the next."""
    return sorted(site.cluster.run("squeue", "--noheader", "--states=all", "--format=%i").split())


@pytest.mark.parametrize(
    ("flags", "arguments", "told"),
    [
        (
            ["--partition", "gpus"],
            [],
            "this cluster has no gpus. It has main, short, low, high",
        ),
        (
            ["--gpus-per-node", "4"],
            [],
            "--gpus-per-node 4: the nodes of partition main have 2 at most.",
        ),
        (
            ["--partition", "short", "--time", "31"],
            [],
            "partition short allows at most 00:30:00. Type --time 30",
        ),
        (["--nodes", "9"], [], "--nodes 9: partition main gives at most 4 nodes. Type --nodes 4"),
        (["--constraint", "fast"], [], "SLURM does not take this job: .*Invalid feature specification"),
        (["--nodes", "3"], ["train.global_batch=32", "train.micro_batch=16"], "too few for 3 processes"),
        (
            ["--tasks-per-node", "3"],
            ["train.global_batch=32", "train.micro_batch=7"],
            "does not divide into micro-batches",
        ),
        (["--nodes", "1-2"], ["train.micro_batch=null"], "each number of processes would cut the batch in another way"),
        ([], ["data.root=/nowhere"], "there is no folder /nowhere"),
        ([], ["optim.lr=fast"], "optim.lr=fast"),
        ([], ["model.name=resnet_18"], "model.name"),
        ([], ["--dp"], "--dp is one process with several GPUs"),
        (["--cluster", "nowhere"], [], "--cluster nowhere: there is no configs/cluster/nowhere.yaml"),
    ],
)
def test_a_bad_request_is_answered_before_the_queue(
    site: Site, flags: list[str], arguments: list[str], told: str
) -> None:
    before = known_jobs(site)
    ended = site.type_in(*flags, "--", "--run-dir", "run", *site.settings(*TRIVIAL, *arguments))
    assert ended.returncode == 2, ended.stdout
    assert re.search(told, ended.stderr), ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert not (site.folder / "run").exists()
    assert known_jobs(site) == before


def test_what_submit_says_is_what_slurm_does_whatever_the_environment(site: Site) -> None:
    variables = {"SBATCH_TIMELIMIT": "3", "SBATCH_EXPORT": "NONE", "SBATCH_NO_REQUEUE": "1", "SBATCH_PARTITION": "low"}
    variables |= {"SBATCH_WAIT": "1", "SBATCH_ARRAY_INX": "0-3", "SLURM_TIMELIMIT": "1", "SLURM_EXPORT_ENV": "NONE"}
    arguments = ["--", "--run-dir", "run", *site.settings(*TRIVIAL)]
    ended = site.type_in("--time", "2:00:00", "--wait", *arguments, variables=variables)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^ +time  2 h$", ended.stdout, re.MULTILINE)
    assert re.search(r"^ +env  acts on the job: SBATCH_PARTITION=low$", ended.stdout, re.MULTILINE)
    assert "ignored, since the job's settings say otherwise: SBATCH_ARRAY_INX=0-3, SBATCH_EXPORT=NONE" in ended.stdout
    assert "differs" not in ended.stdout
    job = re.search(r"^ +job  (\d+)$", ended.stdout, re.MULTILINE)
    assert job is not None
    shown = site.show(job[1])
    assert (shown["TimeLimit"], shown["Partition"], shown["Requeue"]) == ("02:00:00", "low", "1")


def test_what_a_sites_sbatch_makes_of_a_job_is_told(site: Site) -> None:
    wrapper = site.folder / "bin" / "sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(
        '#!/bin/bash\necho "Checking job 17 of 50"\nPATH="${PATH#*:}"\n'
        'sbatch --time=3 --nodes=1 --ntasks=1 "$@"\ncode=$?\necho "Thank you. 17 jobs wait."; exit $code\n'
    )
    wrapper.chmod(0o755)
    path = {"PATH": f"{wrapper.parent}{os.pathsep}{site.cluster.environment['PATH']}"}
    flags = ["--nodes", "2", "--time", "2:00:00", "--extra", "hold"]
    ended = site.type_in(*flags, "--", "--run-dir", "run", *site.settings(*TRIVIAL), variables=path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    job = re.search(r"^ +job  (\d+)$", ended.stdout, re.MULTILINE)
    assert job is not None
    assert site.show(job[1])["JobName"] == "run"
    told = [line.strip() for line in ended.stdout.splitlines() if line.startswith("  differs")]
    assert told == [
        "differs  --time 2:00:00: SLURM gives 3 min: the run is saved and requeued that often",
        "differs  --nodes 2: SLURM gives 1",
        "differs  2 tasks in all: SLURM starts 1",
        "differs  to take the job back: python launch/submit.py cancel run",
    ]
    assert f"cancelled {job[1]}" in site.type_in("cancel", "run").stdout


def test_a_run_folder_in_use_is_refused(site: Site) -> None:
    arguments = ["--", "--run-dir", "run", *site.settings(*TRIVIAL)]
    job = site.submit("--extra", "hold", *arguments)
    ended = site.type_in(*arguments)
    assert ended.returncode == 2
    assert f"has a job already: {job} is pending (JobHeldUser)" in ended.stderr
    assert f"python launch/submit.py cancel {site.folder}/run. Another" in ended.stderr
    assert f"cancelled {job}" in site.type_in("cancel", "run").stdout
    assert site.submit("--extra", "hold", *arguments) != job


def test_an_array_reruns_what_has_failed_and_nothing_else(site: Site) -> None:
    (site.folder / "mine.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes, image_size, number):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(3, num_classes)\n"
        "        if number == 4 and 'SLURM_JOB_ID' in os.environ and not Path('mended').exists():\n"
        "            raise ValueError('this trial is broken')\n"
        "    def forward(self, images):\n"
        "        return self.layer(images.mean((2, 3)))\n"
    )
    values = ",".join(f"{{number: {number}}}" for number in range(6))
    flags = ["--array", f"model.args={values}", "--parallel", "4", "--wait"]
    settings = site.settings(*TRIVIAL, "model.name=mine:Net")
    settings = [word for word in settings if not word.startswith("model.args=")]  # the array's
    arguments = ["--", "--run-dir", "grid", *settings]
    ended = site.type_in(*flags, *arguments)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    table = ended.stdout[ended.stdout.rfind("trial  ") :].splitlines()
    rows = [line for line in table if line.startswith("model.args")]
    assert ["not finished" in line for line in rows] == [False, False, False, False, True, False]
    why = " ".join(line[table[0].index("why") :].strip() for line in table[1:])
    assert "ValueError: this trial is broken" in " ".join(why.split())
    assert max(map(len, table)) <= 80
    assert len(list(site.folder.glob("grid/*/result.json"))) == 5

    def submitted() -> dict[str, str]:
        return {path.parent.parent.name: path.read_text() for path in site.folder.glob("grid/*/submit/jobs.jsonl")}

    before = submitted()
    (site.folder / "mended").touch()
    ended = site.type_in(*flags, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "6 trials in " in ended.stdout
    assert ", 1 to submit" in ended.stdout
    after = submitted()
    assert [name for name in before if after[name] != before[name]] == ["004-model.args=_number_4_"]
    ended = site.type_in(*flags, *arguments)
    assert ended.returncode == 0
    assert ", 0 to submit" in ended.stdout
    other = site.type_in("--array", "seeds=0,1", *arguments)
    assert other.returncode == 2
    assert "grid holds another array: 6 trials" in other.stderr


def test_what_is_missing_of_an_array_is_submitted_while_others_wait(site: Site) -> None:
    arguments = ["--array", "seeds=0,1", "--extra", "hold", "--", "--run-dir", "grid", *site.settings(*TRIVIAL)]
    assert site.type_in(*arguments).returncode == 0
    assert "0 to submit" in site.type_in(*arguments).stdout
    assert site.type_in("cancel", "grid/000-seed=0").returncode == 0
    again = site.type_in(*arguments)
    assert again.returncode == 0, again.stderr
    assert "2 trials in" in again.stdout
    assert "1 to submit" in again.stdout
    assert "cancelled" in site.type_in("cancel", "grid").stdout


def test_of_an_array_one_element_comes_back_alone(site: Site) -> None:
    """The last to start has the array's own number as SLURM_JOB_ID: requeued by it, all would come back."""
    ended = site.type_in("--array", "seeds=0,1", "--", "--run-dir", "grid", *site.settings())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    runs = sorted(path.parent.parent for path in site.folder.glob("grid/*/submit/jobs.jsonl"))
    names = [str(run.relative_to(site.folder)) for run in runs]
    jobs = [json.loads((run / "submit" / "jobs.jsonl").read_text())["job"] for run in runs]
    for name in names:
        site.await_step(name, 5)
    last = next(number for number, job in enumerate(jobs) if site.show(job)["JobId"] == job.partition("_")[0])
    site.cluster.run("scancel", "--signal=USR2", jobs[last])
    ended = site.type_in("wait", "grid")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [site.show(job)["Restarts"] for job in jobs] == ["1" if number == last else "0" for number in range(2)]
    for number, name in enumerate(names):
        events = [line["event"] for line in site.attempts(name)]
        assert events == ["start", "end", *(["requeue", "start", "end"] if number == last else [])]


def test_a_sweep_that_is_killed_and_repeated_trains_each_run_once(site: Site) -> None:
    """The sweep's own process is killed as soon as SLURM has its jobs, and one of the jobs in the middle of a step."""
    (site.folder / "mine.py").write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes, image_size):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(3, num_classes)\n"
        "    def forward(self, images):\n"
        "        while self.training and 'SLURM_JOB_ID' in os.environ and not Path('go').exists():\n"
        "            time.sleep(0.1)\n"
        "        return self.layer(images.mean((2, 3)))\n"
    )
    flag, config, *words = site.settings(*TRIVIAL, "model.name=mine:Net")
    once = {word.partition("=")[0]: word for word in words}.values()  # the last one counts
    settings = [flag, config, *once, "optim.lr=0.1,0.03,0.01", "seeds=0,1"]
    sweep = [warm_processes.python(), "-m", "signs_dist.sweep", "--out", "lr"]
    command = [*sweep, *settings, "--slurm", "--parallel", "4", "--wait"]

    def table() -> dict[str, Any]:
        ended = run([*sweep[:3], "--show", "lr", "--json"], site.folder)
        return dict(json.loads(ended.out))

    with started(command, site.folder, site.cluster.environment) as process:
        wait_for(site.folder / "lr" / "trials" / "submit" / "jobs.jsonl", '"job"')
        process.send_signal(signal.SIGKILL)
    jobs = sorted(path.parent.parent for path in site.folder.glob("lr/trials/*/submit/jobs.jsonl"))
    assert len(jobs) == 6
    begun = wait_for_any(jobs, "attempts.jsonl", '"start"')
    job = json.loads((begun / "submit" / "jobs.jsonl").read_text())["job"]
    site.cluster.run("scancel", "--signal=KILL", job)
    assert await_end(site, job) != "COMPLETED"
    # While the others are there, the same command submits that run only.
    again = run([*command[:-1], "--dry-run"], site.folder, site.cluster.environment)
    assert "6 trials in " in again.out, again.out + again.err
    assert ", 1 to submit" in again.out
    (site.folder / "go").touch()
    ended = run(command, site.folder, site.cluster.environment)
    assert ended.code == 0, ended.out + ended.err
    assert site.type_in("wait", "lr/trials").returncode == 0
    found = table()
    assert [trial["state"] for trial in found["trials"]] == ["finished"] * 3
    assert [run["state"] for trial in found["trials"] for run in trial["runs"]] == ["finished"] * 6
    starts = {
        path.name: len([line for line in site.attempts(f"lr/trials/{path.name}") if line["event"] == "start"])
        for path in jobs
    }
    assert starts == {path.name: 2 if path == begun else 1 for path in jobs}
    ended = run(command, site.folder, site.cluster.environment)
    assert ended.code == 0
    assert ", 0 to submit" in ended.out
    assert table() == found


def wait_for_any(folders: list[Path], name: str, text: str) -> Path:
    """The first of the folders with a file that holds a text."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for folder in folders:
            if (folder / name).exists() and text in (folder / name).read_text():
                return folder
        time.sleep(0.1)
    raise AssertionError(f"{name} never held {text!r} in any of {folders}")


SUBMIT = """
import json, sys
from pathlib import Path
from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers import SCHEDULERS
from launch.schedulers.base import Submission
from signs_dist.errors import UserError
for cluster, arguments, run, working, imports in json.loads(sys.stdin.read()):
    folder = Path(run) / "submit" / "001"
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(tuple(arguments), run, working, tuple(imports))
    try:
        print(*SCHEDULERS["slurm"].submit(Submission(ClusterConfig(**cluster), (job,), folder, Path(run).name)))
    except UserError as error:
        print("refused", " ".join(str(error).split()))
"""
"""Submits jobs without the checks before it, which take seconds each."""


def submit_plainly(site: Site, jobs: list[tuple[dict[str, Any], list[str], str]]) -> list[str]:
    """Ids, or why it was refused, of jobs: (cluster, arguments of signs_dist.train, name of the run)."""
    imports = [str(REPOSITORY), str(site.folder)]
    given = [(cluster, words, str(site.folder / name), str(site.folder), imports) for cluster, words, name in jobs]
    ended = subprocess.run(
        [sys.executable, "-c", SUBMIT],
        input=json.dumps(given),
        cwd=site.folder,
        env=environment(**site.cluster.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.splitlines()


def await_end(site: Site, job: str) -> str:
    """The state in which a job ends."""
    deadline = time.monotonic() + 90
    while (state := site.show(job)["JobState"]) in ("PENDING", "RUNNING", "COMPLETING"):
        assert time.monotonic() < deadline, site.show(job)
        time.sleep(0.2)
    return state


def test_each_process_is_shown_the_gpus_that_slurm_gave_it(site: Site) -> None:
    recorder = site.folder / "record.sh"
    recorder.write_text(
        '#!/bin/bash\n[ -z "$SLURM_STEP_ID" ] || echo '
        f'"$SLURM_PROCID $SLURM_LOCALID $CUDA_VISIBLE_DEVICES" >> "{site.folder}/$SLURM_JOB_NAME.seen"\nexec "$@"\n'
    )
    recorder.chmod(0o755)
    base = {"container": str(recorder)}
    # Two jobs of one GPU on one node, at once: the second begins while the first sleeps.
    single = {**base, "gpus_per_node": 1, "extra": {"nodelist": "127.0.1.4"}, "setup": ["sleep 5"]}
    every = {**base, "nodes": "2", "gpus_per_node": 2}
    jobs = submit_plainly(
        site,
        [
            (single, ["--explain"], "one"),
            (single, ["--explain"], "two"),
            (every, ["--explain"], "all"),
            ({**every, "binds_gpus": True}, ["--explain"], "own"),
        ],
    )
    assert [await_end(site, job) for job in jobs] == ["COMPLETED"] * 4

    def seen(name: str) -> list[tuple[str, ...]]:
        return sorted({tuple(line.split()) for line in (site.folder / f"{name}.seen").read_text().splitlines()})

    assert sorted([seen("one"), seen("two")]) == [[("0", "0", "0")], [("0", "0", "1")]]
    assert seen("all") == [(str(rank), str(rank % 2), "0,1") for rank in range(4)]
    assert seen("own") == [(str(rank), str(rank % 2), str(rank % 2)) for rank in range(4)]
    # What our processes make of it, where CUDA shows as many.
    for name in ("one", "two", "all", "own"):
        for rank, local_rank, visible in seen(name):
            names = visible.split(",")
            plan = plan_devices(
                device="cuda",
                data_parallel=False,
                device_ids=None,
                visible=visible,
                num_devices=len(names),
                rank=int(rank),
                world_size=len(seen(name)),
                local_rank=int(local_rank),
                local_world_size=min(2, len(seen(name))),
                launcher="submitit",
            )
            physical = local_rank if name == "all" else visible
            assert (plan.indices, plan.physical) == ((names.index(physical),), (physical,))


def test_a_gpu_that_cuda_does_not_know_fails_the_job_with_what_it_was_given(site: Site) -> None:
    arguments = ["--", "--run-dir", "run", *site.settings(*TRIVIAL)]
    ended = site.type_in("--gpus-per-node", "1", "--wait", *arguments)
    assert ended.returncode == 2
    assert "CUDA_VISIBLE_DEVICES=0 names GPUs, but the driver shows none" in ended.stdout + ended.stderr


AWKWARD = [
    "with space",
    "quote's",
    'double"quote',
    "semi;touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "new\nline",
    "percent%j",
    "back\\slash",
    "&& touch pwned #",
]


def test_awkward_names_are_quoted_right_or_refused(site: Site) -> None:
    config = site.folder / "config of $(mine).yaml"
    config.write_text("seed: 3\n")
    told = submit_plainly(site, [({}, ["--explain", "--config", str(config)], name) for name in AWKWARD])
    assert len(told) == len(AWKWARD)
    for name, answer in zip(AWKWARD, told, strict=True):
        if answer.startswith("refused"):
            assert any(character in name for character in "\"'`$%\\\n"), (name, answer)
            continue
        assert await_end(site, answer) == "COMPLETED", name
        said = "".join(path.read_text() for path in (site.folder / name / "logs").glob("*.txt"))
        assert re.search(r"^seed += 3\b", said, re.MULTILINE), (name, said)
    assert sum(not answer.startswith("refused") for answer in told) >= 3
    assert not list(site.folder.rglob("pwned"))
    assert not (REPOSITORY / "pwned").exists()


@pytest.mark.parametrize("kind", ["local", "debug"])
def test_without_slurm_the_same_job_runs_here(tmp_path: Path, real_photos: Path, one_process: str, kind: str) -> None:
    site = Site(DevCluster(Path("/nowhere")), tmp_path, real_photos)
    flags = ["--cluster", kind, *(["--tasks-per-node", "2", "--wait"] if kind == "local" else [])]
    ended = site.type_in(*flags, "--", "--run-dir", "run", *site.settings(*(TRIVIAL if kind == "debug" else ())))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (site.result("run")["weights_sha256"] == one_process) == (kind == "local")
    assert site.result("run")["world_size"] == (2 if kind == "local" else 1)


def test_a_dry_run_does_everything_short_of_submitting(site: Site) -> None:
    before = known_jobs(site)
    arguments = ["--", "--run-dir", "run", *site.settings(*TRIVIAL)]
    ended = site.type_in("--nodes", "2", "--dry-run", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("dry run: everything is in order, nothing was submitted\n")
    assert "#SBATCH --nodes=2\n" in ended.stdout
    assert re.search(r"^ +slurm  Job \d+ to start at ", ended.stdout, re.MULTILINE)
    assert re.search(r"^ +model  .*: 864 train, 216 val images, fingerprint [0-9a-f]{12}$", ended.stdout, re.MULTILINE)
    assert not (site.folder / "run").exists()
    assert known_jobs(site) == before


def test_going_on_is_checked_before_the_queue(tmp_path: Path, real_photos: Path) -> None:
    site = Site(DevCluster(Path("/nowhere")), tmp_path, real_photos)
    here = ["--cluster", "debug", "--", "--run-dir", "run"]
    assert site.type_in(*here, *site.settings(*TRIVIAL, "train.epochs=2")).returncode == 0
    (site.folder / "run" / "result.json").unlink()
    changed = site.type_in("--dry-run", *here, *site.settings(*TRIVIAL, "train.epochs=3"))
    assert changed.returncode == 2
    assert "train.epochs: 2 → 3" in changed.stderr
    assert "--accept-change train.epochs" in changed.stderr
    same = site.type_in("--dry-run", *here, *site.settings(*TRIVIAL, "train.epochs=2"))
    assert same.returncode == 0, same.stderr
    assert "resumes from " in same.stdout
    unseen = ["--data-on-nodes", "--dry-run", *here[:-1], "other", "--config", str(CONFIG)]
    told = site.type_in(*unseen, "data.root=/on/the/nodes")
    assert told.returncode == 0, told.stderr
    assert "tried with random pixels; the data are not looked for on this machine" in told.stdout


def test_without_a_cluster_it_says_what_to_type(tmp_path: Path, real_photos: Path) -> None:
    site = Site(DevCluster(Path("/nowhere")), tmp_path, real_photos)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "launch" / "submit.py"), "--", "--run-dir", "run", *site.settings(*TRIVIAL)],
        cwd=tmp_path,
        env=environment(PATH=f"{tmp_path}/bin:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "no SLURM answers on this machine" in ended.stderr
    assert "--cluster local" in ended.stderr
    assert not (site.folder / "run").exists()
