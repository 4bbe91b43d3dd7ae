"""What the names of folders and files say: which split a folder is, and which names of classes are one class.

The rules hold for training, build, audit, evaluate and predict alike. docs/your-photos.md has the table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from signs_dist.errors import UserError

SPLITS = ("train", "val", "test")

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": (
        "val",
        "valid",
        "validation",
        "validate",
        "dev",
        "development",
        "eval",
        "evaluation",
        "holdout",
        "hold-out",
        "hold_out",
    ),
    "test": ("test", "testing", "tst"),
}
"""The words that name a split: in any case, also as a plural."""

SPLIT_COMPANIONS = (
    *("set", "data", "dataset", "split", "sample", "example", "file", "folder", "dir"),
    *("image", "img", "photo", "picture", "pic", "signs", "seg", "subset", "resized", "cropped"),
)
"""Words that may stand beside the word of a split, as in val_set, seg_train or train-images; also as plurals."""

MAX_NAME_BYTES = 255
"""Longest name of a file or folder on the usual file systems, in bytes of UTF-8."""

_LABEL = re.compile(r"([0-9]+)_")
_DATE_OR_TIME = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])|[0-9]{10,}")
"""What cameras and phones write there: 20240501 of 20240501_123456.jpg, or the seconds since 1970."""
_NO_CLASS = ("", "unknown", "unlabeled", "unlabelled")
_NUM_NAMED = 5
_COMPANION = f"(?:{'|'.join(SPLIT_COMPANIONS)})s?"
_YEAR = r"(?:19|20)\d\d"
_SPLIT_NAMES = {
    split: re.compile(rf"(?:{_COMPANION}[ _.-]+)*(?:{'|'.join(words)})s?(?:[ _.-]*(?:{_COMPANION}|{_YEAR}))*", re.ASCII)
    for split, words in SPLIT_WORDS.items()
}

_CONTAINER = re.compile(rf"{_COMPANION}(?:[ _.-]*{_COMPANION})*", re.ASCII)


def label_of_name(name: str) -> str | None:
    """The label in a SIGNS file name: `"3"` for `3_IMG_5942.jpg`, None if it has none, or begins with a date."""
    match = _LABEL.match(name)
    return str(int(match[1])) if match and not _DATE_OR_TIME.fullmatch(match[1]) else None


def is_unlabelled(paths: Sequence[str]) -> bool:
    """Whether no path of a test split's images, below its folder, tells a class.

    They have no label in their names, and lie in no folder, or all in one such as images/, test/ or unknown/.
    """
    folders = {path.rpartition("/")[0] for path in paths}
    if len(folders) != 1 or any(label_of_name(path.rpartition("/")[2]) for path in paths):
        return False
    folder = folders.pop()
    return is_mere_container(folder) or split_of_folder(folder) == "test" or folder.casefold() in _NO_CLASS


def unlabelled_note(folder: str, num_images: int) -> str:
    """What is said of a test split without labels, as competitions have it."""
    return f"not used: {folder}, whose {num_images:,} images have no labels"


def split_of_folder(name: str) -> str | None:
    """The split that a folder of this name holds: `val` for valid, Validation, dev or val_set; None for other names."""
    word = name.strip().casefold()
    for split, pattern in _SPLIT_NAMES.items():
        if pattern.fullmatch(word):
            return split
    return None


def is_mere_container(name: str) -> bool:
    """Whether a folder's name says only that images are in it, as the `images` of train/images/cat/1.jpg."""
    return _CONTAINER.fullmatch(name.strip().casefold()) is not None


def same_class(names: Iterable[str]) -> dict[str, str]:
    """Each class name → the name of its class: spellings of one text in Unicode's composed or decomposed form are one.

    macOS writes é as two characters and other systems as one (Unicode's normal forms NFD and NFC, UAX #15). A class in
    one spelling keeps it; a class in several has the composed one.
    """
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(unicodedata.normalize("NFC", name), set()).add(name)
    return {name: composed if len(group) > 1 else name for composed, group in spellings.items() for name in group}


def class_notes(names: Iterable[str], kind: Literal["folder", "label"] = "folder") -> list[str]:
    """What a reader of the class names alone would not see: two spellings that are one class, two that look alike.

    `kind` is what the names are of.
    """
    class_of = same_class(names)
    merged = sorted({name for spelling, name in class_of.items() if spelling != name})
    notes = [
        f"class {printable(name)}: {kind}s with its name in two spellings (Unicode NFC and NFD) are one class"
        for name in merged
    ]
    alike: dict[str, set[str]] = {}
    for name in class_of.values():
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike.setdefault(re.sub(r"(?<![0-9])0+(?=[0-9])", "", plain), set()).add(name)
    notes += [
        f"classes {' and '.join(repr(name) for name in sorted(group))} differ only in case, blanks, leading zeros or "
        f"the width of letters, and stay {len(group)} classes; if they are one, rename a {kind}"
        for _, group in sorted(alike.items())
        if len(group) > 1
    ]
    return notes


def check_class_names(names: Iterable[str], where: object, kind: str = "class folder") -> None:
    """Refuse names of classes that logs, result files and file systems cannot hold.

    Raises:
        UserError: control characters, bytes that are not UTF-8, or more than `MAX_NAME_BYTES`.
    """
    for name in sorted(set(names)):
        if not is_printable(name):
            raise UserError(
                f"{where}: the {kind} '{printable(name)}' has control characters in its name, or bytes that are "
                f"not UTF-8. Rename it."
            )
        if len(name.encode()) > MAX_NAME_BYTES:
            raise UserError(
                f"{where}: the class name {name[:40]}… has {len(name.encode())} bytes, more than the {MAX_NAME_BYTES} "
                f"that a folder's name may have. Shorten it."
            )


def is_printable(name: str) -> bool:
    """Whether any terminal and any JSON file can hold a name as it is."""
    if name.isascii():
        return name.isprintable()
    # Refuses control characters, line separators and bytes that are not UTF-8; not the narrow space in macOS
    # screenshots.
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name)


def printable(name: str) -> str:
    """A name that any terminal and any JSON file can hold: others are escaped."""
    return name if is_printable(name) else ascii(name)[1:-1]


def listed(names: Sequence[str], num_named: int = _NUM_NAMED) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:num_named])
    return shown if len(names) <= num_named else f"{shown} and {len(names) - num_named:,} more"


def empty_folders_note(folders: Sequence[str], kind: str = "class") -> str:
    """The note on folders of classes, or of splits, that are empty."""
    plural = "" if len(folders) == 1 else "s"
    return f"{len(folders):,} {kind} folder{plural} without a file, and not used: {listed(folders)}"


def unreadable_folders_message(where: object, folders: Sequence[str], kind: str = "class") -> str:
    """The refusal of folders of classes, or of splits, that have files but no image."""
    one, several = ("folder", "has") if len(folders) == 1 else ("folders", "have")
    return (
        f"{where}: the {kind} {one} {listed(folders)} {several} files, but no image that can be read. JPEG, PNG, WebP, "
        f"TIFF, BMP, GIF, PPM, AVIF and HEIC can be. Convert the files, or move the {one} out of {where}."
    )


def named_like_split_message(where: object, folder: str, beside: Sequence[str]) -> str:
    """The refusal of a folder that has the name of a split and holds what a class folder holds."""
    name = folder.strip("/")
    return (
        f"{where}: the folder {name}/ has the name of a split, but holds photos without labels, as classes do; "
        f"beside it are {listed([f'{other}/' for other in beside])}. If {name} is a class, put all class folders into "
        f"one folder called train: {where}/train/{name}/, {where}/train/{printable(beside[0])}/. "
        f"If it is a split, give it a folder for each class: {where}/{name}/cat/."
    )
