"""One process of a run that the command diverge compares with another: it does a step when it is told to.

torchrun --nproc-per-node=2 -m signs_dist.diverging.side FILE

FILE is a `SideOrder` as JSON. The process reports to the command, and answers each line that it gets:

    names     the file names of samples
    images    the names, labels and contents of all training images
    step      does the next step, and tells a `Step`
    again     does the same step once more from the same state, and tells a `Detail`
    state     the digests that a checkpoint of this place may have
    end       ends
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.diverging.lines import LineEndedError, report_to
from signs_dist.diverging.orders import SideOrder
from signs_dist.errors import EXIT_OK

if TYPE_CHECKING:
    from signs_dist.config.settings import Config
    from signs_dist.data.folder import ImageIndex
    from signs_dist.diverging.lines import Line
    from signs_dist.retraining.again import Again
    from signs_dist.retraining.recorded_run import RecordedRun, State
    from signs_dist.training.process import Process

MOST_LISTED = 1_000_000
"""Images of which each is listed, if two runs have other images."""
MOST_READ = 20_000
"""Images whose contents are read for this."""


def build_parser() -> CommandParser:
    """The program's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.diverging.side", description="Do the steps that the command diverge asks for."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what to train, and where to report")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Train as the file says."""
    options = build_parser().parse_args(arguments)
    order = SideOrder.from_fields(json.loads(options.file.read_text(encoding="utf-8")))

    from signs_dist.retraining.programs import run_here

    config, run, start, notes = open_run(order)
    run_here(config, lambda process: _serve(order, config, run, start, notes, process), device=order.device)
    return EXIT_OK


def open_run(order: SideOrder) -> tuple[Config, RecordedRun, State, list[str]]:
    """(the config to train with, the run, the state to begin from, notes on broken checkpoints).

    Raises:
        UserError: there is no such run, or the config is not legal.
    """
    from signs_dist.retraining.again import config_again
    from signs_dist.retraining.recorded_run import BEGINNING, read_recorded_run

    if order.run is not None:
        run = read_recorded_run(Path(order.run))
        config = config_again(run, data=order.data, overrides=order.overrides)
        start, notes = run.newest_before(order.equal)
        return config, run, start, notes
    config = plain_config(order)
    return config, run_of_config(config), BEGINNING, []


def plain_config(order: SideOrder) -> Config:
    """The config of an order that names no run, without what hides the layers: a compiler and CUDA graphs."""
    from signs_dist.config.reading import load_config
    from signs_dist.models.preprocessing import decide

    config = decide(load_config(order.config, order.overrides)).config
    changes = {"compile": False, "graph": False, "autotune": False}
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def run_of_config(config: Config) -> RecordedRun:
    """A run of this config that has not begun, for `begin_again`."""
    from signs_dist.retraining.recorded_run import RecordedRun

    return RecordedRun(
        path=Path(),
        config=config,
        micro_batch=config.train.micro_batch or config.train.global_batch,
        precision=None,
        world_size=1,
        num_steps=None,
        states=(),
        division=None,
        data={},
        working_folder=None,
        arithmetic=None,
        result=None,
    )


def _serve(
    order: SideOrder, config: Config, run: RecordedRun, start: State, notes: list[str], process: Process
) -> dict[str, Any]:
    from signs_dist.diverging.facts import describe_protocol
    from signs_dist.retraining.again import begin_again

    again = begin_again(config, process, run, start)
    try:
        rank = process.context.rank
        hello = {"token": order.token, "side": order.name, "rank": rank, "protocol": describe_protocol()}
        line = report_to(order.address, hello)
        try:
            line.send(dataclasses.asdict(describe_start(again, run.config, rank, notes)))
            Server(again, process, line).serve(order.until)
        except LineEndedError:
            pass  # the command has ended
        finally:
            line.close()
    finally:
        again.close()
    return {}


def describe_start(again: Again, config: Config, rank: int, notes: list[str]) -> Any:
    """A `Start` of this process.

    Args:
        again: before its first step.
        config: of the run, with the settings that people have set.
        rank: of this process.
        notes: what is to be told.
    """
    import signs_dist
    from signs_dist.diverging.digests import weights_and_buffers
    from signs_dist.diverging.facts import Start
    from signs_dist.results.run_settings import read_settings

    prepared = again.stepper.prepared
    plan = prepared.plan
    return Start(
        rank=rank,
        toolkit=str(Path(signs_dist.__file__).resolve().parent.parent),
        is_exact=prepared.config.exact,
        precision=prepared.precision.name,
        steps_done=again.steps_done,
        plan={
            "images": plan.num_samples,
            "global_batch": plan.global_batch,
            "micro_batch": plan.micro_batches.size,
            "steps": plan.num_steps,
        },
        settings=read_settings(config.model_dump(mode="json")),
        fingerprints=dict(prepared.fingerprints),
        arithmetic=again.arithmetic.as_dict(),
        weights=weights_and_buffers(again.stepper.state.model),
        notes=[*notes, *_notes_on(again)],
    )


def _notes_on(again: Again) -> list[str]:
    """What keeps this training from being that of the run."""
    notes = []
    if again.same_images is False:
        notes.append("its training images have changed since it was trained")
    if again.same_bits is False:
        differences = "; ".join(again.differences) or "no version or instruction differs"
        notes.append(f"it was trained with other arithmetic than that of this machine: {differences}")
    return notes


class Server:
    """Answers the command, and trains as it is told.

    Args:
        again: the run.
        process: where this process runs.
        line: to the command.
    """

    def __init__(self, again: Again, process: Process, line: Line) -> None:
        self._again, self._line, self._pulse = again, line, process.pulse
        self._rank = process.context.rank
        self._next: dict[str, Any] = {}

    def serve(self, until: int) -> None:
        """Train until so many steps are done since the start of the run, or until the command says `end`."""
        self._next = self._answer_until(("step", "end"))
        if self._next["do"] == "end":
            return
        self._again.stepper.state.around = self._do_step
        for _ in self._again.train_until(until):
            while self._next["do"] == "state":
                self._line.send({"states": self._digest_states()})
                self._next = self._answer_until(("step", "state", "end"))
            if self._next["do"] == "end":
                return

    def _do_step(self, do: Any, state: Any, batch: Any, prepare: Any, *, step: int, run_step: int, sums: Any) -> None:
        from signs_dist.diverging.observing import Observation, StepCall
        from signs_dist.diverging.snapshot import Snapshot

        before = Snapshot(state)
        call = StepCall(do, state, batch, prepare, step, run_step, sums)
        layers = self._again.stepper.prepared.trained_part
        observation = Observation(call, self._rank, layers)
        observation.run()
        self._line.send(dataclasses.asdict(observation.step(run_step + 1)))
        while True:
            self._next = self._answer_until(("step", "state", "again", "end"))
            if self._next["do"] != "again":
                return
            before.restore(state)
            once_more = Observation(call.again(), self._rank, layers, self._next["micro_batch"])
            once_more.run()
            self._line.send(dataclasses.asdict(once_more.detail()))

    def _answer_until(self, names: Sequence[str]) -> dict[str, Any]:
        """Answer what needs no step, and return the first other line."""
        index = self._again.stepper.prepared.data.splits["train"]
        self._pulse.enter("wait for the other run", collective=True)
        while True:
            told = self._line.receive()
            if told["do"] in names:
                return told
            if told["do"] == "names":
                self._line.send({"names": [str(index.paths[sample]) for sample in told["samples"]]})
            else:
                assert told["do"] == "images", told
                self._line.send({"images": list_images(index)})

    def _digest_states(self) -> list[str]:
        """Of the state that a checkpoint of this place has: at the end of an epoch, before and after its evaluation."""
        from signs_dist.checkpointing.state_digest import state_sha256
        from signs_dist.diverging.saved_states import at_next_epoch

        content = self._again.content()
        plain = at_next_epoch(content, self._again.stepper.prepared.plan.num_steps)
        return list(dict.fromkeys([state_sha256(content), state_sha256(plain)]))


def list_images(index: ImageIndex) -> list[list[Any]] | None:
    """[name, label, contents] of each image; None if they are too many. Contents are a digest where they are files."""
    if len(index) > MOST_LISTED:
        return None
    reads = index.source is None and len(index) <= MOST_READ
    contents = (_digest_file(index.root / path) if reads else "" for path in index.paths)
    return [
        [path, int(label), content] for path, label, content in zip(index.paths, index.labels, contents, strict=True)
    ]


def _digest_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(run_command(main))
