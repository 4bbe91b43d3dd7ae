from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.tracking.marks import Mark, mark_path, read_mark, write_mark


def test_a_mark_is_read_back(tmp_path: Path) -> None:
    mark = Mark(run_id="x1", step=25, url="https://example.org/x1", pictures_of=2, is_ended=True, error="no network")
    write_mark(tmp_path, "wandb", mark)
    assert read_mark(tmp_path, "wandb") == mark
    assert read_mark(tmp_path, "mlflow") == Mark()


@pytest.mark.parametrize("text", ["", "[]", '{"step": "3"}', '{"run_id": 3}', '{"step": true}', '{"is_ended": 1}', "{"])
def test_a_damaged_mark_counts_as_none(tmp_path: Path, text: str) -> None:
    write_mark(tmp_path, "wandb", Mark())
    mark_path(tmp_path, "wandb").write_text(text)
    assert read_mark(tmp_path, "wandb") == Mark()


def test_a_field_of_a_later_release_is_omitted(tmp_path: Path) -> None:
    write_mark(tmp_path, "wandb", Mark())
    mark_path(tmp_path, "wandb").write_text('{"run_id": "a", "step": 3, "more": 1}')
    assert read_mark(tmp_path, "wandb") == Mark(run_id="a", step=3)
