"""The model card."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from signs_dist.exporting.card import MOST_CLASSES, CardContent, cell, make_card
from signs_dist.exporting.checking import Agreement
from signs_dist.exporting.photos import Judged
from signs_dist.inference.export_record import Preprocessing
from tests.inference.exports import RESULT, make_record

OUTSIDE = Preprocessing(image_size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), is_inside=False)


def content(folder: Path, **changes: Any) -> CardContent:
    record = make_record(**changes)
    num_classes = len(record.classes)
    judged = Judged(RESULT, (2,) * num_classes, (1,) * num_classes, ())
    agreement = Agreement("4 val photos", 4, 0, 1e-7, 1e-4)
    return CardContent(record, folder, judged, [agreement], {"torch": "2"}, {"train": 1200, "val": 4})


def test_it_says_what_the_model_is(tmp_path: Path) -> None:
    card = make_card(content(tmp_path))
    for line in (
        "# first",
        "A classifier of photos into 3 classes: `mlp`, trained on hands (1,200 train, 4 val images).",
        "| hands, val | 75.0 % | 30.0 to 95.0 % | 3 of 4 | these weights, in float32 |",
        'model = torch.export.load("model.pt2").module()',
        "| 1 | one | 1 of 2 |",
        "- 4 val photos: same class on all, probabilities to 1.0e-07 (allowed: 0.0001)",
        f"| SHA-256 of the weights | `{'ab' * 32}` (`signs_dist.weights_sha256`) |",
    ):
        assert line in card.splitlines()
    assert "The file does all of it. It takes uint8 [N, height, width, 3]" in card
    assert "mirror" not in card
    assert "The .pt2 file was written by torch 2." in card


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flip_average": True, "views_are_inside": True}, "mirror, as for the results. The file does it."),
        ({"ten_crop": 0.9, "views_are_inside": True}, "averaged over ten crops of each photo, as for the results."),
        ({"config": {"evaluate": {"ten_crop": True}}}, "The run averages over ten crops. These files leave it out"),
        (
            {
                "flip_average": True,
                "format": "safetensors",
                "network": "torchvision:resnet18",
                "preprocessing": OUTSIDE,
            },
            "The weights alone leave it out; the lines above do it.",
        ),
        ({"network": "timm:resnet18", "format": "safetensors", "preprocessing": OUTSIDE}, "library_name: timm"),
        ({"results": (RESULT.model_copy(update={"measured": "run", "split": "test"}),)}, "| as the run reported |"),
        ({"classes": tuple(map(str, range(MOST_CLASSES + 9)))}, "and 9 more, which the metadata of the file name."),
        ({"name": "<b>|x"}, "# \\&lt;b\\>\\|x"),
    ],
)
def test_what_it_says_of_a_model(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said.replace("\\&lt;", "&lt;") in make_card(content(tmp_path, **changes))


def test_a_network_that_no_library_has(tmp_path: Path) -> None:
    own = content(tmp_path, network="mlp", format="safetensors", preprocessing=OUTSIDE)
    (tmp_path / "architecture.pt2").write_bytes(b"")
    assert "No library has this network: `architecture.pt2` holds what it computes" in make_card(own)


def test_the_class_of_a_network_that_cannot_be_traced_is_needed(tmp_path: Path) -> None:
    own = content(tmp_path, network="fractions:Fraction", format="safetensors", preprocessing=OUTSIDE)
    card = make_card(dataclasses.replace(own))
    assert "from fractions import Fraction" in card
    assert "the lines above need the file with its class" in card


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cat", "cat"), ("a|b", "a\\|b"), ("a_b*", "a\\_b\\*"), ("<script>", "&lt;script\\>"), ("a\nb", "a\\\\nb")],
)
def test_a_name_in_a_table(text: str, expected: str) -> None:
    assert cell(text) == expected
