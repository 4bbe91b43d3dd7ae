"""What an inspection says on the screen and in a JSON file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from signs_dist.data.inspection.choices import Choice
from signs_dist.data.inspection.findings import Finding
from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.inspection.measures import count_formats, measure
from signs_dist.monitoring.plain_text import one_line

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen

JSON_VERSION = 1


def summary_lines(found: Inspection) -> list[str]:
    """How many photos there are, how they lie, their formats and sizes."""
    facts = list(found.facts.values())
    lines = [f"{one_line(str(found.listed.source))}: {found.listed.layout}"]
    if facts:
        lines.append("formats: " + ", ".join(f"{name} {count:,}" for name, count in count_formats(facts).items()))
    sizes = measure(facts)
    if sizes is not None:
        lines.append(f"sizes: {sizes.line()}")
    return lines


def tell(screen: Screen, found: Inspection, oddities: Sequence[Finding], *, in_full: bool = False) -> None:
    """Show what was found. `in_full`: all examples of each oddity, each on a line below it."""
    from signs_dist.console.class_tables import count_table

    layout, *measures = summary_lines(found)
    screen.say(layout)
    if found.facts:
        screen.tables(lambda width: [count_table(found.counts, width)])
    for line in measures:
        screen.say(line)
    for finding in oddities:
        if in_full and finding.examples:
            screen.result(dataclasses.replace(finding, examples=()).line())
            for example in finding.examples:
                screen.result(f"  {one_line(example)}")
        else:
            screen.result(one_line(finding.line()))
    counts = [sum(finding.level == level for finding in oddities) for level in ("problem", "warning", "note")]
    number = len(found.facts)
    screen.say(
        f"{number:,} photo{'' if number == 1 else 's'} of {len(found.class_counts()):,} classes can be used; "
        + ", ".join(_count(*pair) for pair in zip(counts, ("problem", "warning", "note"), strict=True))
    )


def as_json(found: Inspection, oddities: Sequence[Finding], choices: Sequence[Choice]) -> dict[str, Any]:
    """All as values that JSON holds, with the version of this format."""
    facts = list(found.facts.values())
    sizes = measure(facts)
    return {
        "version": JSON_VERSION,
        "source": str(found.listed.source),
        "kind": found.listed.kind,
        "layout": found.listed.layout,
        "photos": len(facts),
        "counts": {split: dict(row) for split, row in found.counts.items()},
        "formats": count_formats(facts),
        "sizes": None if sizes is None else dataclasses.asdict(sizes),
        "findings": [
            {**dataclasses.asdict(finding), "examples": list(finding.examples), "line": finding.line()}
            for finding in oddities
        ],
        "config": [dataclasses.asdict(choice) for choice in choices],
    }


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
