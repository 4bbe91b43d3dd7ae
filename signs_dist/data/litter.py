"""The files and folders that systems and programs leave among photos, by name. No command reads them."""

from __future__ import annotations

import re

LITTER_FOLDERS = (
    *("@eaDir", "@Recycle", "@Recently-Snapshot", "@tmp", "#recycle", "#snapshot"),  # Synology and QNAP
    *("$RECYCLE.BIN", "System Volume Information", "FOUND.000"),  # Windows
    *("__MACOSX", "Network Trash Folder", "Temporary Items"),  # macOS
    *("lost+found", "~snapshot", "_gsdata_", "__pycache__"),  # ext4, NetApp, GoodSync, Python
)
"""Names of folders, in any case."""

LITTER_FILES = (
    *("Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "ZbThumbnail.info", "Picasa.ini"),
    *("Icon\r", "SYNOPHOTO_THUMB_XL.jpg", "SYNOPHOTO_THUMB_B.jpg", "SYNOPHOTO_THUMB_M.jpg", "SYNOPHOTO_THUMB_S.jpg"),
)
"""Names of files, in any case."""

LITTER_PREFIXES = (".", "~$", "~syncthing~", ":2e")
"""Beginnings of names: hidden files and folders, such as .DS_Store, ._x.jpg (AppleDouble), .git, .ipynb_checkpoints;
locks of Office; files that Syncthing is writing; a dot as netatalk writes it."""

LITTER_SUFFIXES = (
    *("~", ".bak", ".orig", ".old", ".swp", ".swo"),  # editors
    *(".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".!sync"),  # half-written files
    *(".thm", ".lnk", ".url", ".webloc", ":zone.identifier"),  # thumbnails of videos, shortcuts, Windows' marks
)
"""Ends of files' names, in any case."""

LITTER_PARTS = ("sync-conflict-", "conflicted copy", "[conflicted]", "(sfconflict ", ".syncthing.")
"""Parts of files' names, in any case: copies that Syncthing, Dropbox, Nextcloud, pCloud, Seafile and
others make of a file."""

_FOLDERS = frozenset(name.casefold() for name in LITTER_FOLDERS)
_FILES = frozenset(name.casefold() for name in LITTER_FILES)
_PARTS = re.compile("|".join(map(re.escape, LITTER_PARTS)))
_LOST_CLUSTERS = re.compile(r"found\.\d{3}")


def is_litter_folder(name: str) -> bool:
    """Whether a system or a program, not the user, made the folder of this name."""
    folded = name.casefold()
    return folded in _FOLDERS or folded.startswith(LITTER_PREFIXES) or _LOST_CLUSTERS.fullmatch(folded) is not None


def is_litter_file(name: str) -> bool:
    """Whether a system or a program, not the user, made the file of this name."""
    folded = name.casefold()
    return (
        folded in _FILES
        or folded.startswith(LITTER_PREFIXES)
        or folded.endswith(LITTER_SUFFIXES)
        or _PARTS.search(folded) is not None
    )


def litter_in(path: str) -> str | None:
    """The first part of a path with forward slashes that is litter, with a slash if it is a folder; None if none is."""
    *folders, name = path.split("/")
    for folder in folders:
        if is_litter_folder(folder):
            return f"{folder}/"
    return name if name and is_litter_file(name) else None
