"""The record of an export, as tests need it."""

from __future__ import annotations

from typing import Any

from signs_dist.inference.export_record import ExportRecord, Preprocessing, Result

RESULT = Result(
    split="val", data="hands", num_images=4, num_correct=3, accuracy=0.75, interval=(0.3, 0.95), measured="export"
)


def make_record(**changes: Any) -> ExportRecord:
    """The record of a network of this project with three classes, at 16 pixels, in .pt2."""
    values: dict[str, Any] = {
        "format": "torch",
        "name": "first",
        "trained_on": "hands",
        "network": "mlp",
        "network_args": {},
        "classes": ("zero", "one", "two"),
        "preprocessing": Preprocessing(image_size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), is_inside=True),
        "flip_average": False,
        "views_are_inside": False,
        "max_megapixels": 250.0,
        "batch": 8,
        "weights": "model.pt",
        "weights_sha256": "ab" * 32,
        "results": (RESULT,),
        "config": {},
        "versions": {"signs_dist": "1", "torch": "2"},
    }
    return ExportRecord(**{**values, **changes})
