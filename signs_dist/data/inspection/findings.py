"""What is odd about photos, a line for each: what, how many, examples, and what to do. Pure functions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.inspection.looking import PhotoFacts
from signs_dist.data.inspection.spelling import spelled_alike
from signs_dist.data.names import printable
from signs_dist.data.problems import BadFile

Level = Literal["problem", "warning", "note"]
"""problem: a training stops, or learns what is wrong. warning: its result is worse, or looks better than it is."""

NUM_EXAMPLES = 3
FEW_IN_A_CLASS = 10
"""A class with fewer photos than this is too small: its accuracy says little."""
IMBALANCE = 3.0
"""From this ratio of the largest class to the smallest on, small classes count too little in the loss."""
LONG = 2.0
"""A photo this many times as long as wide is much distorted in a square."""
LARGE_PIXELS = 2_000_000
"""Photos of this many pixels and more take long to decode: a data set of small ones starts sooner."""
MANY = 200

ENOUGH_TO_WEIGH = 20
"""Classes with fewer photos say nothing of imbalance: so few, weighed by their rarity, unsettle a training."""

_EQUALS = " = "
_REPAIR = "Replace or remove what cannot be read; --write leaves it out"
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
}


@dataclass(frozen=True)
class Finding:
    """Something odd."""

    kind: str
    """In a word, for programs."""
    level: Level
    what: str
    """How many there are of what."""
    examples: tuple[str, ...] = ()
    """All of them, each on a line: a path, or paths of equal photos with = between them."""
    advice: str = ""
    """What to do or to type: a sentence."""
    paths: tuple[str, ...] = ()
    """Photos to show."""

    def line(self) -> str:
        """All in one line, with the first examples."""
        shown = ", ".join(printable(_shortened(example)) for example in self.examples[:NUM_EXAMPLES])
        more = ", …" if len(self.examples) > NUM_EXAMPLES else ""
        examples = f" ({shown}{more})" if shown else ""
        advice = f". {self.advice}" if self.advice else ""
        return f"{self.level}: {self.what}{examples}{advice}"


def find_oddities(found: Inspection) -> list[Finding]:
    """All that is odd, problems first."""
    everything = [
        *_broken(found),
        *_labels(found),
        *_copies(found),
        *_near_copies(found),
        *_classes(found),
        *_shapes(found),
        *_pixels(found),
        *_places(found),
    ]
    order = ("problem", "warning", "note")
    return sorted(everything, key=lambda finding: order.index(finding.level))


def has_problems(found: Inspection) -> bool:
    """Whether the photos need repair before a training."""
    return any(finding.level == "problem" for finding in find_oddities(found))


def imbalance(counts: Mapping[str, int]) -> tuple[str, str] | None:
    """The largest class and the smallest, where the smaller ones count too little in the loss; None where not.

    Classes of fewer than `ENOUGH_TO_WEIGH` photos do not decide.
    """
    enough = [name for name, count in counts.items() if count >= ENOUGH_TO_WEIGH]
    if not enough:
        return None
    largest, smallest = max(enough, key=counts.__getitem__), min(enough, key=counts.__getitem__)
    return (largest, smallest) if counts[largest] >= IMBALANCE * counts[smallest] else None


def _broken(found: Inspection) -> Iterator[Finding]:
    kinds: dict[str, list[BadFile]] = {}
    without_class = {path for path, _ in found.listed.bad_names}
    for file in found.bad:
        kinds.setdefault(re.sub(r"[0-9,.]*[0-9]", "N", file.reason), []).append(file)
    for files in kinds.values():
        paths = tuple(file.path for file in files)
        if files[0].path in without_class:
            what = f"{_photos(len(files))} {_have(len(files))} no class: {files[0].reason}"
            yield Finding("no class", "problem", what, paths, "Rename, sort into class folders or remove")
        else:
            what = f"{_photos(len(files))} cannot be read: {files[0].reason}"
            yield Finding("broken", "problem", what, paths, _REPAIR)


def _labels(found: Inspection) -> Iterator[Finding]:
    exact, near = found.duplicates.conflicting, found.near.conflicting
    if exact:
        what = f"{_times(len(exact))} one photo is in more than one class"
        advice = "Keep the file in the right class; --write leaves out all of them"
        yield Finding("two classes", "problem", what, _equations(exact), advice, _shown(exact))
    if near:
        what = f"{_times(len(near))} nearly one photo is in more than one class"
        yield Finding("two classes, nearly", "warning", what, _equations(near), "Look at them", _shown(near))
    for note in found.listed.name_notes:
        yield Finding("class names", "warning", note)
    told = " ".join(found.listed.name_notes)
    for names in spelled_alike(found.class_counts()):
        if not all(repr(name) in told for name in names):
            what = f"classes {' and '.join(map(repr, names))} differ in spelling only"
            yield Finding("class names", "warning", what, advice="If they are one class, rename a folder")
    if len(found.class_counts()) == 1:
        name = next(iter(found.class_counts()))
        what = f"all photos are of the single class {printable(name)}"
        yield Finding("single class", "problem", what, advice="A classifier needs photos of two or more")
    for problem in found.listed.problems:
        yield Finding("class folder", "problem", problem.rstrip("."))


def _copies(found: Inspection) -> Iterator[Finding]:
    across, within = found.duplicates.across, found.duplicates.within
    within = tuple(group for group in within if group not in found.duplicates.conflicting)
    if across:
        what = f"{_photos(len(across))} {_are(len(across))} in more than one split, so the accuracy there is too high"
        yield Finding("copies across splits", "warning", what, _equations(across), "Keep one of each", _shown(across))
    if within:
        what = f"{_photos(len(within))} {_are(len(within))} there more than once"
        yield Finding("copies", "note", what, _equations(within), _on_one_side(found), _shown(within))


def _near_copies(found: Inspection) -> Iterator[Finding]:
    across = tuple(group for group in found.near.across if group not in found.near.conflicting)
    within = tuple(group for group in found.near.within if group not in found.near.conflicting)
    if across:
        what = f"{_groups(len(across))} of nearly equal photos {_are(len(across))} in more than one split"
        yield Finding(
            "near copies across splits", "warning", what, _equations(across), "Keep each group in one", _shown(across)
        )
    if within:
        what = f"{_groups(len(within))} of nearly equal photos, such as one photo saved twice"
        advice = "Remove the copies if a photo is not to count twice"
        if "val" not in found.listed.splits:
            advice = "A division keeps them on one side if --write lists them in a table"
        yield Finding("near copies", "note", what, _equations(within), advice, _shown(within))


def _on_one_side(found: Inspection) -> str:
    if "val" in found.listed.splits:
        return "Remove the copies if a photo is not to count twice"
    return "A division keeps them on one side; remove the copies if a photo is not to count twice"


def _classes(found: Inspection) -> Iterator[Finding]:
    counts = found.class_counts()
    if found.single:
        what = f"{_num(len(found.single), 'class', 'classes')} {_have(len(found.single))} a single photo"
        yield Finding("single photo", "problem", what, found.single, "Train and val each need one: add photos")
    small = [name for name, count in counts.items() if count < FEW_IN_A_CLASS and name not in found.single]
    if small:
        what = f"{_num(len(small), 'class', 'classes')} {_have(len(small))} fewer than {FEW_IN_A_CLASS} photos"
        rows = tuple(f"{printable(name)}: {counts[name]}" for name in small)
        yield Finding("small classes", "warning", what, rows, "Add photos: what is said of so few is mostly chance")
    uneven = imbalance(counts)
    if uneven is not None:
        largest, smallest = uneven
        what = (
            f"the largest class, {printable(largest)}, has {counts[largest]:,} photos, and the smallest, "
            f"{printable(smallest)}, {counts[smallest]:,}"
        )
        yield Finding(
            "imbalance", "warning", what, advice="Train with loss.class_weights=balanced, or with data.order=balanced"
        )
    for split in dict.fromkeys(split for split, _ in found.missing):
        names = tuple(printable(name) for of, name in found.missing if of == split)
        level: Level = "warning" if split == "test" else "problem"
        what = f"{split} has no photo of {_num(len(names), 'class', 'classes')}"
        yield Finding("missing classes", level, what, names, "Move or add some")


def _shapes(found: Inspection) -> Iterator[Finding]:
    facts = [found.facts[photo.path] for photo in found.photos]
    long = tuple(each.path for each in facts if max(each.width, each.height) >= LONG * min(each.width, each.height))
    if long:
        what = f"{_photos(len(long))} {_have(len(long))} one side at least twice as long as the other"
        yield Finding("long", "note", what, long, "Squeezed to squares: cut them where that matters", long)
    num_large = sum(each.width * each.height >= LARGE_PIXELS for each in facts)
    if num_large >= MANY and found.listed.kind == "folder":
        what = (
            f"{_photos(num_large)} {_have(num_large)} 2 megapixels or more, and {_are(num_large)} decoded for each run"
        )
        command = f"python -m signs_dist.data.build --source {shlex.quote(str(found.listed.source))}"
        yield Finding("large", "note", what, advice=f"To decode them once: {command}")


def _pixels(found: Inspection) -> Iterator[Finding]:
    facts = [found.facts[photo.path] for photo in found.photos]
    kinds: Sequence[tuple[str, str, str]] = (
        ("is_grey", "grey", "Read as three equal channels"),
        ("is_turned", "turned by EXIF", "Read upright"),
        ("is_transparent", "stored with transparency", "White is put below it"),
        ("is_animated", "of several frames or pages", "The first is read"),
    )
    for attribute, words, advice in kinds:
        paths = tuple(each.path for each in facts if getattr(each, attribute))
        if paths and not (attribute == "is_grey" and len(paths) == len(facts)):
            what = f"{_photos(len(paths))} {_are(len(paths))} {words}"
            yield Finding(attribute.removeprefix("is_"), "note", what, paths, advice, paths)
    misnamed = tuple(each.path for each in facts if _is_misnamed(each))
    if misnamed:
        what = f"{_photos(len(misnamed))} {_have(len(misnamed))} a suffix of another format than the content"
        yield Finding("misnamed", "note", what, misnamed, "Read by the content")


def _is_misnamed(facts: PhotoFacts) -> bool:
    suffix = PurePosixPath(facts.path).suffix.lower()
    of_suffix = next((name for name, suffixes in _SUFFIXES.items() if suffix in suffixes), None)
    return of_suffix is not None and of_suffix != facts.image_format


def _places(found: Inspection) -> Iterator[Finding]:
    outside = found.listed.outside
    if outside:
        what = f"{_photos(len(outside))} {_are(len(outside))} outside the split folders, and not used"
        yield Finding("outside", "warning", what, outside, "Move them into train, val or test, or out of the folder")
    splits = found.listed.splits
    if splits and "val" not in splits:
        what = (
            f"the photos are split into {' and '.join(splits)}, without val"
            if len(splits) > 1
            else (f"all photos are in {splits[0]}, and none in val")
        )
        yield Finding("no val", "note", what, advice="A run takes val from train, by data.split")
    for note in found.listed.notes:
        yield Finding("passed over" if note.startswith("passed over") else "folder", "note", note)
    if found.listed.tables:
        number = len(found.listed.tables)
        what = f"{_num(number, 'table lies', 'tables lie')} beside the photos, and {_are(number)} not read"
        first = shlex.quote(str(found.listed.source / found.listed.tables[0]))
        yield Finding(
            "tables", "note", what, found.listed.tables, f"If it has the classes: python -m signs_dist.inspect {first}"
        )


def _shortened(example: str) -> str:
    """The first of many equal photos."""
    paths = example.split(_EQUALS)
    return example if len(paths) <= NUM_EXAMPLES else _EQUALS.join([*paths[:NUM_EXAMPLES], "…"])


def _equations(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(_EQUALS.join(group) for group in groups)


def _shown(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(path for group in groups for path in group[:2])


def _photos(number: int) -> str:
    return _num(number, "photo", "photos")


def _times(number: int) -> str:
    return _num(number, "time", "times")


def _groups(number: int) -> str:
    return _num(number, "group", "groups")


def _num(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
