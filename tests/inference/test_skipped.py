from __future__ import annotations

from signs_dist.inference.skipped import Skipped


def test_photos_without_a_prediction_are_counted_and_named() -> None:
    skipped = Skipped()
    skipped.add([{"path": "a.jpg", "class": "x"}, {"path": "b.jpg", "error": "truncated"}])
    skipped.add([{"path": "c.jpg", "class": "x"}])
    assert skipped.lines() == ["1 of 3 photos has no prediction:", "  b.jpg: truncated"]


def test_a_million_of_them_take_little_memory() -> None:
    skipped = Skipped(most_kept=30)
    for number in range(50):
        skipped.add([{"path": f"{number}.jpg", "error": "truncated"}] * 10)
    assert skipped.lines() == [
        "500 of 500 photos have no prediction:",
        "  truncated: 30 images, such as 0.jpg, 0.jpg, 0.jpg",
        "  and 470 more",
    ]
