"""Which variables act on a job, and which would outrank what a submission says."""

from __future__ import annotations

import pytest

from signs_dist.environment.slurm_variables import (
    acting_variables,
    foreign_cluster,
    ignored_variables,
    question_environment,
    read_job_defaults,
    sbatch_environment,
    sbatch_option,
)

OPTIONS = ("nodes", "ntasks-per-node", "open-mode", "requeue", "signal", "time")
"""Of the least script."""


@pytest.mark.parametrize(
    ("variable", "option"),
    [
        ("SBATCH_TIMELIMIT", "time"),
        ("SBATCH_ARRAY_INX", "array"),
        ("SBATCH_MEM_PER_NODE", "mem"),
        ("SBATCH_MEM_PER_CPU", "mem-per-cpu"),
        ("SBATCH_GPUS_PER_NODE", "gpus-per-node"),
        ("SBATCH_REQ_SWITCH", "switches"),
        ("SBATCH_A_NAME_TO_COME", "a-name-to-come"),
        ("SLURM_HINT", "hint"),
        ("SLURM_CONF", None),
        ("PATH", None),
    ],
)
def test_the_option_of_a_variable(variable: str, option: str | None) -> None:
    assert sbatch_option(variable) == option


@pytest.mark.parametrize(
    ("name", "value", "options", "is_ignored"),
    [
        *((f"SBATCH_{name}", "x", (), True) for name in ("TIMELIMIT", "SIGNAL", "REQUEUE", "NO_REQUEUE", "EXPORT")),
        *((f"SBATCH_{name}", "x", (), True) for name in ("OUTPUT", "ERROR", "OPEN_MODE", "JOB_NAME", "ARRAY_INX")),
        *((f"SBATCH_{name}", "1", (), True) for name in ("WAIT", "DEBUG", "NO_KILL", "OVERCOMMIT")),
        *((f"SBATCH_{name}", "4", (), True) for name in ("GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GPU_BIND")),
        ("SBATCH_GRES", "gpu:2", (), True),
        ("SBATCH_GRES", "tmp:20G", (), False),
        ("SBATCH_PARTITION", "gpu", (), False),
        ("SBATCH_PARTITION", "gpu", ("partition",), True),
        ("SBATCH_ACCOUNT", "physics", ("account",), True),
        ("SBATCH_QOS", "long", (), False),
        ("SBATCH_RESERVATION", "course", (), False),
        ("SBATCH_RESERVATION", "course", ("reservation",), True),
        ("SBATCH_MEM_PER_CPU", "4G", (), False),
        ("SBATCH_MEM_PER_CPU", "4G", ("mem",), True),
        ("SBATCH_MEM_PER_GPU", "4G", ("mem",), True),
        ("SBATCH_CPUS_PER_GPU", "8", ("cpus-per-task",), True),
        ("SBATCH_CPUS_PER_GPU", "8", (), False),
        ("SBATCH_EXCLUSIVE", "", (), False),
        ("SBATCH_WCKEY", "mine", (), False),
        ("SLURM_HINT", "nomultithread", (), False),
        ("SLURM_HINT", "nomultithread", ("hint",), True),
        # sbatch passes them on, and srun in the job takes options from them.
        *((name, "NONE", (), True) for name in ("SLURM_EXPORT_ENV", "SRUN_EXPORT_ENV")),
        *((name, "1", (), True) for name in ("SLURM_TIMELIMIT", "SLURM_WAIT", "SLURM_SIGNAL", "SLURM_NTASKS")),
        *((name, "1", (), True) for name in ("SRUN_CPUS_PER_TASK", "SLURM_WORKING_DIR", "SLURM_STDOUTMODE")),
        *((name, "0", (), True) for name in ("SLURM_EXIT_ERROR", "SLURM_LABELIO", "SLURM_KILL_BAD_EXIT")),
        *((f"SLURM_{name}", "a100", (), True) for name in ("CONSTRAINT", "EXCLUSIVE", "BCAST", "SEND_LIBS")),
        *((name, "1", (), False) for name in ("SLURM_CPU_BIND", "SLURM_MPI_TYPE", "SLURM_CONF", "SLURM_CLUSTERS")),
        *((name, "1", (), False) for name in ("SLURM_JWT", "PATH", "SALLOC_TIMELIMIT")),
    ],
)
def test_what_would_outrank_a_submission_is_ignored(
    name: str, value: str, options: tuple[str, ...], is_ignored: bool
) -> None:
    said = {*OPTIONS, *options}
    assert ignored_variables({name: value}, said) == ([name] if is_ignored else [])
    assert sbatch_environment({name: value}, said) == ({} if is_ignored else {name: value})
    acts = sbatch_option(name) is not None and not is_ignored
    assert acting_variables({name: value}, said) == ([name] if acts else [])


def test_a_job_that_submits_hands_on_nothing_of_its_own() -> None:
    mine = {"SLURM_JOB_ID": "7", "SLURM_CPU_BIND": "cores", "SLURM_CONF": "/etc/x", "SBATCH_ACCOUNT": "mine"}
    assert list(sbatch_environment(mine, OPTIONS)) == ["SLURM_CONF", "SBATCH_ACCOUNT"]
    del mine["SLURM_JOB_ID"]
    assert sbatch_environment(mine, OPTIONS) == mine  # a person's, in a shell of a login node


def test_questions_are_asked_without_a_persons_filters_and_formats() -> None:
    filters = ("SQUEUE_PARTITION", "SQUEUE_FORMAT", "SCANCEL_STATE", "SCANCEL_INTERACTIVE", "SACCT_FORMAT")
    kept = {"SLURM_CONF": "/etc/x", "SLURM_CLUSTERS": "a", "PATH": "/bin"}
    assert question_environment({**dict.fromkeys(filters, "x"), "SLURM_TIME_FORMAT": "%s", **kept}) == kept


def test_settings_that_variables_give() -> None:
    environment = {"SBATCH_TIMELIMIT": "3", "SBATCH_PARTITION": "gpu", "SBATCH_QOS": "", "SBATCH_GPUS": "2"}
    assert read_job_defaults(environment) == {
        "time": ("3", "SBATCH_TIMELIMIT"),
        "partition": ("gpu", "SBATCH_PARTITION"),
    }


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [
        ({}, None),
        ({"SBATCH_CLUSTERS": "b"}, "b"),
        ({"SBATCH_CLUSTERS": "b", "SLURM_CLUSTERS": "a"}, "b"),
        ({"SBATCH_CLUSTERS": "b", "SLURM_CLUSTERS": "b"}, None),
        ({"SLURM_CLUSTERS": "a"}, None),
    ],
)
def test_another_cluster_for_sbatch_alone(environment: dict[str, str], cluster: str | None) -> None:
    assert foreign_cluster(environment) == cluster
