"""Settings of a cluster: what is legal, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.cluster_file import load_cluster
from signs_dist.errors import UserError
from tests.processes import REPOSITORY


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"nodes": "many"}, "--nodes many: type a number from 1, or the least and the most nodes, such as 1-4."),
        ({"time": "soon"}, "--time soon: type minutes, hours:minutes:seconds or days-hours, such as 4:00:00 or 1-12."),
        ({"time": "2"}, "signal_seconds=120 with time=2: the signal would come at the start. Type --signal-seconds 30"),
        ({"memory": "lots"}, "--memory lots: type a number with K, M, G or T, such as 64G."),
        ({"time": "2", "signal_seconds": 200}, "--signal-seconds 200 with time=2: the signal would come at the start."),
        (
            {"time": "1-25:00"},
            "time 1-25:00: after a colon at most 59 minutes or seconds, after days at most 23 hours.",
        ),
        ({"time": "1:61:00"}, "--time 1:61:00: after a colon at most 59 minutes"),
        ({"signal_seconds": 0}, "--signal-seconds: 0 is not legal. It takes a whole number, at least 1 and at most"),
        ({"extra": {"time": "5"}}, "extra time=5: a flag sets this parameter. Type --time."),
        ({"extra": {"ntasks_per_node": 5}}, "a flag sets this parameter. Type --tasks-per-node."),
        ({"extra": {"clusters": "other"}}, "Type SLURM_CLUSTERS=other before this command, which they all read."),
        ({"extra": {"gres": "gpu:2"}}, "extra gres=gpu:2: a flag sets this parameter. Type --gpus-per-node."),
        (
            {"extra": {"no-requeue": True}},
            "extra no-requeue=True: the batch script sets this parameter, and depends on it. Omit it",
        ),
        (
            {"gpus_per_node": -1},
            "--gpus-per-node: -1 is not legal. It takes a whole number, at least 0",
        ),
        ({"gpus_per_node": 4, "tasks_per_node": 2}, "each process has one GPU. Omit tasks_per_node."),
        ({"gpu_type": "a100"}, "gpus_per_node is 0. Type --gpus-per-node 1."),
        ({"binds_gpus": True, "gpus_per_node": 1, "agent": "torchrun"}, "binds_gpus is for one task per GPU."),
        ({"agent": "mpirun"}, "--agent: mpirun is not legal. It takes one of srun, torchrun."),
        ({"partition": "gpu\nrm -rf /"}, "a batch script cannot hold line breaks and other control characters."),
        ({"extra": {"comment": "a\nb"}}, "a batch script cannot hold line breaks and other control characters."),
    ],
)
def test_what_is_not_legal_is_told(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        load_cluster("slurm", flags)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "file", "values"),
    [
        ({}, "", ("course", 3, "guest", "2G")),
        ({"time": "2:00:00"}, "", ("course", 120, "guest", "2G")),
        ({"partition": "gpu", "memory": "8G"}, "", ("gpu", 3, "guest", "8G")),
        ({"account": "mine"}, "account: site\ntime: 600\npartition: gpu", ("gpu", 600, "mine", "2G")),
        ({}, "kind: local", (None, 60, None, None)),
    ],
)
def test_a_persons_variables_for_sbatch_give_what_neither_file_nor_flag_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, Any],
    file: str,
    values: tuple[str | None, int, str | None, str | None],
) -> None:
    variables = {"PARTITION": "course", "TIMELIMIT": "3", "ACCOUNT": "guest", "MEM_PER_NODE": "2G", "QOS": ""}
    for name, value in variables.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    (tmp_path / "site.yaml").write_text(f"{file}\n" if file else "{}\n")
    cluster = load_cluster(str(tmp_path / "site.yaml"), flags)
    assert (cluster.partition, cluster.minutes, cluster.account, cluster.memory) == values
    assert cluster.qos is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TIMELIMIT", "UNLIMITED", "SBATCH_TIMELIMIT: time=UNLIMITED: type minutes, hours:minutes:seconds or"),
        ("TIMELIMIT", "0", "SBATCH_TIMELIMIT: time=0: at least one minute."),
        ("TIMELIMIT", "1", "SBATCH_TIMELIMIT: signal_seconds=120 with time=1: the signal would come at the start."),
        ("MEM_PER_NODE", "lots", "SBATCH_MEM_PER_NODE: memory=lots: type a number with K, M, G or T, such as 64G."),
    ],
)
def test_a_variable_that_is_not_legal_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"SBATCH_{name}", value)
    with pytest.raises(UserError) as caught:
        load_cluster("slurm", {})
    assert told in str(caught.value)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("partition: gpu\nnodes: 2\ntime: 600\nextra: {reservation: course}\nsetup: [module load cuda]\n")
    cluster = load_cluster(str(file), {"nodes": "4", "partition": None, "extra": {"hint": "nomultithread"}})
    assert (cluster.partition, cluster.nodes, cluster.minutes) == ("gpu", "4", 600)
    assert cluster.extra == {"reservation": "course", "hint": "nomultithread"}
    assert cluster.setup == ("module load cuda",)


def test_an_unknown_setting_is_refused_with_the_legal_ones(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("partitoin: gpu\n")
    with pytest.raises(UserError) as caught:
        load_cluster(str(file), {})
    assert f"{file}:1: unknown setting partitoin. Did you mean partition? Legal: kind, partition, account," in str(
        caught.value
    )
    file.write_text("optim: {lr: 0.1}\n")  # hyperparameters are the config's
    with pytest.raises(UserError, match=r"site.yaml:1: optim is a setting of training, not of .* Put optim "):
        load_cluster(str(file), {})
    file.write_text("partition: gpu\nlearning_rate: 0.1\n")
    with pytest.raises(UserError, match=r"site.yaml:2: learning_rate is a setting of training, .* Put optim.lr into"):
        load_cluster(str(file), {})
    file.write_text("partition: gpu\nnodes: 2\npartition: cpu\n")
    with pytest.raises(UserError, match=r"site.yaml:3: partition is given twice; line 1 sets it already"):
        load_cluster(str(file), {})
    file.write_text("partition: gpu\ntime: soon\n")
    with pytest.raises(UserError, match=r"site.yaml:2: time=soon: type minutes"):
        load_cluster(str(file), {})
    file.write_text("nodes: [1]\ncpus_per_task: many\n")
    with pytest.raises(UserError, match=r"site.yaml:2: cpus_per_task: many is not legal. It takes a whole number"):
        load_cluster(str(file), {})
    for text in ("- a\n", "a: [", "a: b: c\n"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"site\.yaml"):
            load_cluster(str(file), {})


def test_an_unknown_cluster_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(UserError, match=r"--cluster locl: .* Did you mean local\? It is one of slurm, local, debug, "):
        load_cluster("locl", {})


def test_where_a_cluster_was_looked_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed toolkit has no folder with sites of its own: the files are the user's."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load_cluster("site", {})
    place = f"there is no configs/cluster/site.yaml in {tmp_path}."
    assert str(caught.value) == f"--cluster site: {place} It is one of slurm, local, debug, or a YAML file."


def test_the_examples_are_legal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    files = sorted((REPOSITORY / "configs" / "cluster").glob("*.yaml"))
    assert files
    for file in files:
        load_cluster(file.stem, {})
    assert load_cluster("example-gpu", {}).minutes == 240


def test_a_parameter_of_the_sites_own_is_passed_on() -> None:
    given = {"gres": "lscratch:10", "time-min": "10", "reservation": "course", "hold": True}
    assert load_cluster("slurm", {"extra": given}).extra == given
