"""The console script: `signs-dist train …` runs `python -m signs_dist.train …`.

It starts the launchers by name, and imports none of them: their rooms come after this one.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from signs_dist import __version__
from signs_dist.console.command import run_command
from signs_dist.errors import EXIT_OK, UserError

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("signs_dist.train", "train a classifier"),
    "evaluate": ("signs_dist.evaluate", "score a trained model on a split"),
    "predict": ("signs_dist.predict", "print the class of each photo"),
    "export": ("signs_dist.export", "write a trained model for others: ONNX, .pt2, safetensors"),
    "report": ("signs_dist.report", "make a page about a run, or about several"),
    "runs": ("signs_dist.runs", "list all runs, watch one live, remove runs"),
    "compare": ("signs_dist.compare", "compare two runs: settings, accuracy, which photos changed"),
    "track": ("signs_dist.track", "send a run to TensorBoard, Weights & Biases, MLflow or Trackio"),
    "build": ("signs_dist.data.build", "make a data set from photos or a zip"),
    "inspect": ("signs_dist.inspect", "look at photos, and write a config that fits them"),
    "audit": ("signs_dist.data.audit", "find broken, repeated and unlabelled images"),
    "download": ("signs_dist.data.download", "download the published SIGNS photos"),
    "synthetic": ("signs_dist.data.synthetic", "draw hands showing 0 to 5"),
    "sweep": ("signs_dist.sweep", "train with many settings, and compare"),
    "checkpoint": ("signs_dist.checkpoint", "show and verify checkpoints"),
    "replay": ("signs_dist.replay", "train a step of a run again, and look into it"),
    "prove": ("signs_dist.prove", "train parts of an exact run again, and compare: a receipt others can check"),
    "diverge": ("signs_dist.diverge", "find where two runs part: step, micro-batch, layer, direction"),
    "parity": ("signs_dist.parity", "check that any number of processes gives the same result"),
    "drill": ("signs_dist.drill", "kill a short run many times, and check that nothing is lost"),
    "doctor": ("signs_dist.doctor", "examine the machines that a run would use"),
    "bench": ("signs_dist.bench", "measure a config on this machine, and say what makes it faster"),
    "completion": ("signs_dist.completion", "let a shell complete commands and flags at the Tab key"),
}
"""Command → (module with a function `main(arguments)`, what it does)."""
LAUNCHERS: dict[str, tuple[str, str]] = {
    "local": ("launch.local", "train on several processes of this machine"),
    "submit": ("launch.submit", "submit a run to SLURM, and look after it"),
    "dev-cluster": ("slurm.dev_cluster", "start a real SLURM in a folder, to rehearse on"),
}
"""The same, by the module's name in a checkout."""
IN_BATCH_SCRIPTS: dict[str, tuple[str, str]] = {
    "agent": ("launch.agent", "start the processes of one node"),
    "requeue": ("launch.requeue", "decide whether a job is requeued"),
}
"""The same, for the batch templates of slurm/; the list of commands omits them."""


def usage() -> str:
    """The text of `signs-dist --help`."""
    shown = COMMANDS | LAUNCHERS
    width = max(map(len, shown))
    rows = "\n".join(f"  {name:<{width}}  {about}" for name, (_, about) in shown.items())
    return f"usage: signs-dist COMMAND …\n\n{rows}\n\nTo see a command's flags: signs-dist COMMAND --help"


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, with the other arguments. Returns its exit code.

    Raises:
        UserError: there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return EXIT_OK
    name, *rest = arguments
    if name == "--version":
        print(f"signs_dist {__version__}")
        return EXIT_OK
    code: int = importlib.import_module(find_module(name)).main(rest)
    return code


def find_module(name: str) -> str:
    """The module of a command, by the name that imports it here. Raises `UserError` for an unknown command."""
    if name in COMMANDS:
        return COMMANDS[name][0]
    launchers = LAUNCHERS | IN_BATCH_SCRIPTS
    if name in launchers:
        from signs_dist.environment.installation import add_checkout_to_path, full_name

        add_checkout_to_path()
        return full_name(launchers[name][0])
    known = [*COMMANDS, *LAUNCHERS]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"signs-dist {name}: no such command.{hint} Commands: {', '.join(known)}")


def main() -> int:
    """Entry point of the console script."""
    return run_command(dispatch)


if __name__ == "__main__":
    sys.exit(main())
