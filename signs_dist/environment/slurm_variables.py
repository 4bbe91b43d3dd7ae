"""Variables that SLURM's commands take options from: they outrank the lines of a batch script.

sbatch(1) and srun(1), INPUT ENVIRONMENT VARIABLES; squeue(1), scancel(1), sacct(1), scontrol(1), ENVIRONMENT VARIABLES.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from signs_dist.environment.slurm_job import job_variables

_OPTIONS = {
    "SBATCH_ARRAY_INX": "array",
    "SBATCH_DEBUG": "verbose",
    "SBATCH_MEM_PER_NODE": "mem",
    "SBATCH_REQ_SWITCH": "switches",
    "SBATCH_TIMELIMIT": "time",
    "SBATCH_WAIT4SWITCH": "switches",
    "SLURM_HINT": "hint",
}
"""The options of sbatch whose variable has another name. Every other variable is named after its option."""
_DEFAULTS = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_MEM_PER_NODE": "memory",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_TIMELIMIT": "time",
}
"""Variables whose option is a setting of a cluster: their values are the setting's default."""
_SAME = (
    ("mem", "mem-per-cpu", "mem-per-gpu"),
    ("requeue", "no-requeue"),
    ("cpus-per-task", "cpus-per-gpu"),
)
"""Options of which one alone is legal, or one undoes another."""
_DECIDED = frozenset(
    {
        # How many processes there are, and what each sees: a process has one GPU.
        *("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "gpu-bind", "array", "overcommit"),
        # Where the output goes, what the tasks inherit, when sbatch returns, and what it prints.
        *("output", "error", "open-mode", "job-name", "export", "export-file", "wait", "verbose", "parsable", "quiet"),
        # What happens at the time limit and when a node is lost.
        *("signal", "requeue", "no-requeue", "no-kill", "test-only"),
    }
)
"""Options that a submission decides, whether or not its script has a line for them."""
_OF_STEPS = frozenset(
    {
        *("SLURM_EXPORT_ENV", "SRUN_EXPORT_ENV", "SLURM_TIMELIMIT", "SLURM_SIGNAL", "SLURM_WAIT", "SLURM_IMMEDIATE"),
        *("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_TASKS_PER_NODE"),
        *("SLURM_NTASKS_PER_NODE", "SLURM_NTASKS_PER_CORE", "SLURM_NTASKS_PER_GPU", "SLURM_NTASKS_PER_SOCKET"),
        *("SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK", "SLURM_CPUS_PER_GPU", "SLURM_OVERCOMMIT"),
        *("SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK", "SLURM_GPU_BIND", "SLURM_GRES"),
        *("SLURM_STEP_GRES", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_MEM_PER_NODE"),
        *("SLURM_STDOUTMODE", "SLURM_STDERRMODE", "SLURM_STDINMODE", "SLURM_LABELIO", "SLURM_OPEN_MODE"),
        *("SLURM_WORKING_DIR", "SLURM_REMOTE_CWD", "SLURM_NO_KILL", "SLURM_KILL_BAD_EXIT", "SLURM_DEPENDENCY"),
        *("SLURM_EXIT_ERROR", "SLURM_EXIT_IMMEDIATE", "SLURM_DEBUG", "SLURMD_DEBUG", "SLURM_RESTART_COUNT"),
        *("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
        # With these srun waits for other nodes for ever, ends at once, or starts a copy of Python without its packages.
        *("SLURM_CONSTRAINT", "SLURM_EXCLUSIVE", "SLURM_BCAST", "SLURM_BCAST_EXCLUDE", "SLURM_SEND_LIBS"),
        *("SLURM_CONTAINER", "SRUN_CONTAINER"),
    }
)
"""Variables that srun takes options from, or our processes a job from, and that a submission decides. sbatch passes its
environment on to the job, so a login shell's value would reach them."""
_OF_QUESTIONS = ("SQUEUE_", "SCANCEL_", "SACCT_", "SCONTROL_", "SINFO_", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN")
"""Beginnings of the variables that filter or reformat what SLURM's commands print."""


def sbatch_option(variable: str) -> str | None:
    """The long name of the option of sbatch that a variable sets; None for any other variable."""
    if variable in _OPTIONS:
        return _OPTIONS[variable]
    name = variable.removeprefix("SBATCH_")
    return None if name == variable else name.lower().replace("_", "-")


def ignored_variables(environment: Mapping[str, str], options: Collection[str]) -> list[str]:
    """Variables that would outrank what a submission says: sbatch is called without them.

    Args:
        environment: of this process.
        options: the long names of the options that the batch script has lines for.
    """
    said = {*options, *_DECIDED}
    for group in _SAME:
        if said.intersection(group):
            said.update(group)
    return sorted(
        name
        for name, value in environment.items()
        if (option := sbatch_option(name)) in said or (option == "gres" and "gpu" in value) or name in _OF_STEPS
    )


def acting_variables(environment: Mapping[str, str], options: Collection[str]) -> list[str]:
    """Variables that sbatch takes options from about which a submission says nothing."""
    ignored = ignored_variables(environment, options)
    return sorted(name for name in environment if sbatch_option(name) is not None and name not in ignored)


def sbatch_environment(environment: Mapping[str, str], options: Collection[str]) -> dict[str, str]:
    """The environment in which sbatch does what the batch script says.

    Without the variables of a job that this process runs in, which the new job would inherit; the variables that tell
    where the cluster is stay.

    Args:
        environment: of this process.
        options: the long names of the options that the batch script has lines for.
    """
    hidden = {*job_variables(environment), *ignored_variables(environment, options)}
    return {name: value for name, value in environment.items() if name not in hidden}


def question_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which squeue, scontrol, sacct and scancel do what their arguments say, and no more."""
    return {name: value for name, value in environment.items() if not name.startswith(_OF_QUESTIONS)}


def read_job_defaults(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Settings of a cluster that a person's variables for sbatch give: setting → (value, variable)."""
    return {
        setting: (environment[variable], variable)
        for variable, setting in _DEFAULTS.items()
        if environment.get(variable)
    }


def foreign_cluster(environment: Mapping[str, str]) -> str | None:
    """The cluster that sbatch alone would submit to, while SLURM's other commands ask another; None without one."""
    cluster = environment.get("SBATCH_CLUSTERS")
    return cluster if cluster and cluster != environment.get("SLURM_CLUSTERS") else None
