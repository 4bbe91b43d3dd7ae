"""The log of the images that each step trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.run_folder.sample_log import SampleLog, find_repeated, keep_samples, read_samples


def test_lines_of_several_processes_are_joined_in_the_order_of_steps(tmp_path: Path) -> None:
    first, second = SampleLog(tmp_path, 0), SampleLog(tmp_path, 1)
    second.write(1, 1, 1, [5, 6])
    first.write(1, 1, 0, [7, 8])
    first.write(2, 1, 0, [1, 2])
    second.write(2, 1, 1, [3, 4])
    assert read_samples(tmp_path) == {(1, 1): [7, 8, 5, 6], (2, 1): [1, 2, 3, 4]}


def test_a_cut_off_line_is_skipped_and_lines_of_repeated_steps_are_dropped(tmp_path: Path) -> None:
    log = SampleLog(tmp_path, 3)
    for epoch, step in ((1, 1), (1, 2), (2, 1)):
        log.write(epoch, step, 0, [10 * epoch + step])
    path = tmp_path / "samples-rank3.jsonl"
    path.write_text(path.read_text() + '{"epoch": 2, "st')
    assert list(read_samples(tmp_path)) == [(1, 1), (1, 2), (2, 1)]
    keep_samples(tmp_path, lambda place: place <= (1, 2))
    log.write(2, 1, 0, [99])
    assert read_samples(tmp_path) == {(1, 1): [11], (1, 2): [12], (2, 1): [99]}


def test_repeated_samples_are_found_within_an_epoch_only() -> None:
    assert find_repeated({(1, 1): [1, 2], (1, 2): [3, 4], (2, 1): [1, 2]}) == []
    assert find_repeated({(1, 1): [1, 2], (1, 2): [3, 2]}) == [(1, 2)]
    assert find_repeated({(1, 1): [1, 2, 1, 2]}) == [(1, 1)]  # a step that was done twice


@pytest.mark.parametrize(
    "line", ['{"epoch": 2}', '{"epoch": 2, "step": 1, "micro_batch": 0, "samples": ["x"]}', "[]", '{"epo\0\0', "\0"]
)
def test_a_damaged_line_costs_no_other(tmp_path: Path, line: str) -> None:
    log = SampleLog(tmp_path, 0)
    log.write(1, 1, 0, [1])
    with (tmp_path / "samples-rank0.jsonl").open("a") as stream:
        stream.write(line)
    log.write(1, 2, 0, [2])
    assert read_samples(tmp_path) == {(1, 1): [1], (1, 2): [2]}
    keep_samples(tmp_path, lambda place: place == (1, 2))
    assert read_samples(tmp_path) == {(1, 2): [2]}
