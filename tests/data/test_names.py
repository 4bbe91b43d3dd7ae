from __future__ import annotations

import unicodedata

import pytest

from signs_dist.data.names import check_class_names, class_notes, listed, printable, same_class, split_of_folder
from signs_dist.errors import UserError

NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train train_signs Train TRAIN Training training_set train-images seg_train train2017 trainset trains",
        ),
        (
            "val",
            "val val_signs valid Valid validation Validation VAL val_set valset dev devset eval Evaluation holdout",
        ),
        ("val", "hold-out hold_out vals validations seg_val valid_images development val2017 dev_data"),
        ("test", "test test_signs Test TESTING Testing tests test_set testset seg_test test-data test2014 images_test"),
        (None, "cat trainer training_wheels trainstation protest latest contest testament seg_pred extra bus device"),
        (None, "evaluate values valley tester attest devil images data set signs 2017 fold1 train_1 test_drive"),
    ],
)
def test_names_of_splits(split: str | None, names: str) -> None:
    assert {name: split_of_folder(name) for name in names.split()} == dict.fromkeys(names.split(), split)


def test_blanks_around_the_name_of_a_split_do_not_hide_it() -> None:
    assert split_of_folder(" Train ") == "train"
    assert split_of_folder("Training Set") == "train"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", "dog"], {"cat": "cat", "dog": "dog"}),
        ([NFD], {NFD: NFD}),
        ([NFC, NFD, "dog"], {NFC: NFC, NFD: NFC, "dog": "dog"}),
        (["\u212b", "\u00c5"], {"\u212b": "\u00c5", "\u00c5": "\u00c5"}),  # the sign of the unit, and the letter
    ],
)
def test_one_text_in_two_spellings_is_one_class(names: list[str], expected: dict[str, str]) -> None:
    assert same_class(names) == expected


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat", "dog"], None),
        ([NFD, "dog"], None),
        ([NFC, NFD], f"class {NFC}: folders with its name in two spellings (Unicode NFC and NFD) are one class"),
        (["Cat", "cat"], "classes 'Cat' and 'cat' differ only in case"),
        (["cat", "cat "], "classes 'cat' and 'cat ' differ only in case, blanks"),
        (["big  cat", "big cat"], "differ only in case, blanks"),
        (["01", "1", "2"], "classes '01' and '1' differ only in case, blanks, leading zeros or"),
        (["level 07", "level 7"], "leading zeros"),
        (["10", "1", "0", "100"], None),
        (["A", "\uff21"], "the width of letters, and stay 2 classes"),
    ],
)
def test_names_that_look_alike_are_told(names: list[str], words: str | None) -> None:
    notes = class_notes(names)
    assert notes == [] if words is None else words in notes[0]
    assert len(notes) <= 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ca\x1b[31mt", r"'ca\\x1b\[31mt' has control characters"),
        ("cat\ndog", r"'cat\\ndog' has control characters"),
        ("cat\u2028dog", "has control characters"),
        ("cat\udcff", "bytes that are not UTF-8. Rename it"),
        ("c" * 300, "has 300 bytes, more than the 255"),
        ("\u00e9" * 128, "has 256 bytes"),
    ],
)
def test_names_that_no_class_can_have(name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"photos: .*{words}"):
        check_class_names(["dog", name], "photos")


def test_odd_names_that_are_legal() -> None:
    check_class_names(["=HYPERLINK(1)", "-1", "a b", "[red]", "\u202f", "猫", "c" * 255, NFD, "🐈"], "photos")


def test_names_in_messages() -> None:
    assert listed(["a", "b\n"]) == "a, b\\n"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert printable(unicodedata.normalize("NFD", NFC)) == NFD
