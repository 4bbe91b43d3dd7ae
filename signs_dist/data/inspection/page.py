"""The page about a folder of photos: its classes with a picture each, what is odd with examples, and the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from signs_dist.data.class_counts import UNSPLIT
from signs_dist.data.inspection.choices import Choice
from signs_dist.data.inspection.findings import Finding
from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.inspection.measures import count_formats, measure
from signs_dist.data.inspection.pictures import small_pictures
from signs_dist.reporting.page import render

NUM_SHOWN = 6
"""Pictures of each oddity."""
NUM_LISTED = 20
"""Names of each oddity."""


@dataclasses.dataclass(frozen=True)
class Fact:
    """A number or a word, its name, and a second line or ""."""

    name: str
    text: str
    detail: str = ""
    varies: bool = False


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """A class of the table."""

    name: str
    picture: str | None
    counts: list[int]
    """Photos in each split."""
    total: int
    share: float
    """Length of its bar: percent of the largest class."""


@dataclasses.dataclass(frozen=True)
class OddityView:
    """An oddity with its examples."""

    level: str
    what: str
    advice: str
    pictures: list[tuple[str, str]]
    """(path, picture)."""
    examples: list[str]
    num_more: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectionPage:
    """The page, section by section."""

    title: str
    layout: str
    headline: list[Fact]
    facts: list[Fact]
    splits: list[str]
    classes: list[ClassRow]
    oddities: list[OddityView]
    choices: list[tuple[str, str, str]]
    command: str


def page_html(
    found: Inspection, oddities: Sequence[Finding], choices: Sequence[Choice], *, command: str, processes: int | None
) -> str:
    """The page as one HTML file.

    Args:
        found: the photos.
        oddities: what is odd about them.
        choices: settings for them; empty where none can train.
        command: what to type next.
        processes: worker processes that draw the pictures. None: all usable cores.
    """
    of_class = first_of_each_class(found)
    shown = [path for finding in oddities for path in finding.paths[:NUM_SHOWN]]
    pictures = small_pictures(found.listed.open_reader, [*of_class.values(), *shown], processes=processes)
    return render("inspection.html", view(found, oddities, choices, pictures, command), has_charts=False)


def first_of_each_class(found: Inspection) -> dict[str, str]:
    """Class → the path of the photo that stands for it: the first one that is not odd in its pixels, else the first."""
    chosen: dict[str, str] = {}
    plain: dict[str, str] = {}
    for photo in found.photos:
        facts = found.facts[photo.path]
        chosen.setdefault(photo.class_name, photo.path)
        if not (facts.is_grey or facts.is_transparent or facts.is_animated):
            plain.setdefault(photo.class_name, photo.path)
    return chosen | plain


def view(
    found: Inspection,
    oddities: Sequence[Finding],
    choices: Sequence[Choice],
    pictures: Mapping[str, str],
    command: str,
) -> InspectionPage:
    """The page's values. `pictures`: path → picture, of those that are shown."""
    from signs_dist.config.yaml_text import format_value

    totals = found.class_counts()
    largest = max(totals.values(), default=1)
    of_class = first_of_each_class(found)
    return InspectionPage(
        title=found.listed.source.name or str(found.listed.source),
        layout=found.listed.layout,
        headline=_headline(found, oddities),
        facts=_facts(found),
        splits=[split for split in found.counts if split != UNSPLIT],
        classes=[
            ClassRow(
                name,
                pictures.get(of_class.get(name, "")),
                [row[name] for split, row in found.counts.items() if split != UNSPLIT],
                total,
                round(100 * total / largest, 1),
            )
            for name, total in totals.items()
        ],
        oddities=[
            OddityView(
                finding.level,
                finding.what,
                finding.advice,
                [(path, pictures[path]) for path in finding.paths[:NUM_SHOWN] if path in pictures],
                list(finding.examples[:NUM_LISTED]),
                max(0, len(finding.examples) - NUM_LISTED),
            )
            for finding in oddities
        ],
        choices=[
            (choice.key, "not set" if choice.value is None else format_value(choice.value), choice.reason)
            for choice in choices
        ],
        command=command,
    )


def _headline(found: Inspection, oddities: Sequence[Finding]) -> list[Fact]:
    counts = found.class_counts()
    splits = ", ".join(f"{split} {sum(row.values()):,}" for split, row in found.counts.items() if split != UNSPLIT)
    spread = f"{min(counts.values()):,} to {max(counts.values()):,} photos each" if counts else ""
    levels = {level: sum(finding.level == level for finding in oddities) for level in ("problem", "warning", "note")}
    return [
        Fact("photos that can be used", f"{len(found.facts):,}", splits or "not split"),
        Fact("classes", f"{len(counts):,}", spread),
        Fact("cannot be used", f"{len(found.bad):,}"),
        Fact("problems", f"{levels['problem']:,}", f"warnings {levels['warning']:,}, notes {levels['note']:,}"),
    ]


def _facts(found: Inspection) -> list[Fact]:
    facts = list(found.facts.values())
    sizes = measure(facts)
    formats = ", ".join(f"{name} {count:,}" for name, count in count_formats(facts).items())
    return [
        Fact("source", str(found.listed.source)),
        Fact("layout", found.listed.layout),
        *([Fact("formats", formats)] if formats else []),
        *([Fact("sizes", sizes.line())] if sizes is not None else []),
    ]
