"""What `bench` prints: short tables, and what to change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from signs_dist.benching.figures import Figures
from signs_dist.console.screen import Screen, percent
from signs_dist.training.profiling import operation_lines


def show_figures(screen: Screen, figures: Figures, choices: Sequence[str], advice: Sequence[str]) -> None:
    """Print everything; with --quiet what to change alone."""
    screen.tables(lambda width: [speed_table(figures)])
    screen.say(f"parts of a step: {describe_parts(figures)}")
    if figures.setup.step:
        screen.say(f"a step with images is {figures.setup.step}")
    screen.tables(lambda width: [variant_table(figures), loader_table(figures)])
    for line in choices:
        screen.say(line)
    if figures.sums is not None:
        screen.tables(lambda width: [sums_table(figures)])
    trace = figures.trace
    screen.say(f"most expensive operations of {trace.num_steps} steps:")
    for line in operation_lines(trace.operations, trace.num_steps, trace.seconds):
        screen.say(f"  {line}")
    if figures.setup.is_cached:
        screen.say("with model.cache_features, later epochs train the head alone: they are not measured")
    if figures.setup.has_sizes:
        screen.say("with train.progressive_sizes, the first epochs have smaller images: they are not measured")
    screen.say("what to change:")
    for line in advice:
        screen.result(f"  {line}")


def describe_way(figures: Figures) -> str:
    """How the run computes, for the first lines."""
    cores = "1 core" if figures.setup.num_cores == 1 else f"{figures.setup.num_cores} cores"
    processes = "1 process" if figures.setup.world_size == 1 else f"{figures.setup.world_size} processes"
    return f"{figures.setup.device}, {cores} a process, {processes}; {figures.setup.chosen.name}"


def describe_batch(figures: Figures) -> str:
    """How many images a measured step has."""
    batch, wanted = figures.setup.batch, figures.setup.wanted_batch
    if batch == wanted:
        return f"{batch} images a step"
    return f"{batch} images a step: the {wanted} of train.global_batch take too long to measure; --seconds allows more"


def describe_parts(figures: Figures) -> str:
    """The parts of a step: those of the network alone, and the preparation of its images."""
    return ", ".join(f"{name} {_milliseconds(seconds)}" for name, seconds in figures.parts.items())


def speed_table(figures: Figures) -> Table:
    """The network alone, with data, with saves."""
    table = _table("", "images/s", "a step", "")
    bare, data, saving = figures.bare.seconds, figures.data.seconds, figures.saving
    table.add_row("network alone, random images", *_speed(figures, bare))
    waits = f"{bare / data:.2f} of the network alone; data wait {percent(figures.wait_share)}"
    table.add_row("training, with data", *_speed(figures, data), waits)
    every = "each step" if saving.steps_between == 1 else f"in {saving.steps_between:,} steps"
    cost = f"{data / figures.saving_seconds:.3f} of that; a save {every}, {_milliseconds(saving.seconds)} each"
    table.add_row("training, with saves", *_speed(figures, figures.saving_seconds), cost)
    return table


def variant_table(figures: Figures) -> Table:
    """The network alone in other ways, the fastest first."""
    table = _table("network alone", "images/s", "a step", "")
    chosen = figures.variants[figures.setup.chosen].seconds
    for variant, timing in sorted(figures.variants.items(), key=lambda item: item[1].seconds):
        note = "this run" if variant == figures.setup.chosen else f"{chosen / timing.seconds:.2f} times as fast"
        table.add_row(variant.name, *_speed(figures, timing.seconds), note)
    return table


def loader_table(figures: Figures) -> Table:
    """The loader alone."""
    table = _table("loader alone", "images/s", "a step", "")
    for number, timing in figures.loading.items():
        name = {0: "in the training process", 1: "1 worker"}.get(number, f"{number} workers")
        table.add_row(name, *_speed(figures, timing.seconds), "this run" if number == figures.setup.num_workers else "")
    return table


def sums_table(figures: Figures) -> Table:
    """Sums over processes."""
    sums = figures.sums
    assert sums is not None
    table = _table(f"sums over {figures.setup.world_size} processes", "each", "")
    rate = f"{sums.bytes_per_second(figures.setup.world_size) / 1e6:,.0f} MB/s a process"
    table.add_row(f"gradient, {sums.num_bytes / 1e6:.1f} MB", _milliseconds(sums.seconds), rate)
    table.add_row("gradient, in exact mode", _milliseconds(sums.exact_seconds), "")
    table.add_row("one number", _milliseconds(sums.latency_seconds), "")
    return table


def _table(*headers: str) -> Table:
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    for place, header in enumerate(headers):
        table.add_column(header, justify="right" if 0 < place < len(headers) - 1 else "left", no_wrap=place == 0)
    return table


def _speed(figures: Figures, seconds: float) -> tuple[str, str]:
    rate = figures.rate(seconds)
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}", _milliseconds(seconds)


def _milliseconds(seconds: float) -> str:
    """`0.031 ms`, `4.2 ms` or `310 ms`."""
    value = 1000 * seconds
    return f"{value:.3f} ms" if value < 1 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"
