from __future__ import annotations

import pytest

from signs_dist.data.litter import is_litter_file, is_litter_folder, litter_in


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "__MACOSX", ".ipynb_checkpoints", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", "lost+found", ".git"),
        *(
            "System Volume Information",
            ".AppleDouble",
            ".Spotlight-V100",
            ".Trashes",
            "FOUND.003",
            "@Recycle",
            ".cache",
        ),
    ],
)
def test_folders_of_systems_and_programs(name: str) -> None:
    assert is_litter_folder(name)


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "._0.jpg", ".hidden.jpg", "Thumbs.db", "thumbs.db", "desktop.ini", "Desktop.ini", "Icon\r"),
        *("0.jpg~", "0.jpg.bak", "0.jpg.orig", ".0.jpg.swp", "~$0.jpg", "~syncthing~0.jpg.tmp", "0.jpg.part"),
        *(
            "0.jpg.crdownload",
            "0 (Ann's conflicted copy 2024-01-01).jpg",
            "0.sync-conflict-20240101-101010-ABCDEFG.jpg",
        ),
        *("0.jpg:Zone.Identifier", "MVI_0001.THM", "0.jpg.tmp", ":2eDS_Store"),
    ],
)
def test_files_of_systems_and_programs(name: str) -> None:
    assert is_litter_file(name)


@pytest.mark.parametrize(
    "name",
    [
        *("cat", "0_IMG_5967 (1).jpg", "photo - Copy.jpg", "a~b.jpg", "#1.jpg", "@home.jpg", "$5.jpg", "_x.jpg"),
        *("recycle", "found", "backup", "conflict.jpg", "sync.jpg", "tmp", "old.jpg", "partition.jpg"),
    ],
)
def test_what_the_user_made(name: str) -> None:
    assert not is_litter_file(name)
    assert not is_litter_folder(name)


def test_a_folder_is_no_litter_for_the_end_of_its_name() -> None:
    assert not is_litter_folder("cats.old")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train/@eaDir/0.jpg/SYNOPHOTO_THUMB_XL.jpg", "@eaDir/"),
        ("__MACOSX/train/._0.jpg", "__MACOSX/"),
        ("train/cat/._0.jpg", "._0.jpg"),
        ("train/cat/0.jpg", None),
        ("cats.old/0.jpg", None),
        ("", None),
    ],
)
def test_litter_in_a_path(path: str, expected: str | None) -> None:
    assert litter_in(path) == expected
