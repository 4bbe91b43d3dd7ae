"""What the page says about one split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from signs_dist.reporting.content import read_content
from signs_dist.reporting.split_view import view_split
from signs_dist.reporting.writing import write_report
from tests.reporting.run_folders import write_run


def test_a_split_of_a_finished_run(one_run: Path) -> None:
    content = read_content(one_run)
    view = view_split(content, "val")
    assert view is not None
    assert view.matrix == content.summary.result["val_confusion"]
    num_wrong = content.summary.result["val_images"] - content.summary.result["val_correct"]
    assert view.num_mistakes == num_wrong
    assert len(view.mistakes) == min(24, num_wrong)
    assert all(tile.picture for tile in (*view.mistakes, *view.uncertain))
    assert view.mistakes[0].true != view.mistakes[0].predicted
    assert view.mistakes[0].description.startswith(f"{view.mistakes[0].file}: class {view.mistakes[0].true}, predicted")
    assert "Expected calibration error (ECE): " in view.calibration
    assert "15 bins of equal width" in view.calibration
    assert view.pictures_note == ""
    assert view_split(content, "test") is None


def test_photos_that_are_not_here_leave_their_names(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2, photos=tmp_path / "photos")
    shutil.rmtree(tmp_path / "photos")
    view = view_split(read_content(run), "val")
    assert view is not None
    assert {tile.picture for tile in view.mistakes} == {None}
    assert f"cannot be read on this machine below {tmp_path / 'photos'}" in view.pictures_note


def test_no_picture_from_outside_of_the_data_set_comes_into_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2, photos=tmp_path / "photos")
    private = shutil.copy(next((tmp_path / "photos").rglob("*.*")), tmp_path / "private.jpg")
    header, *lines = (run / "predictions-val.jsonl").read_text().splitlines()
    names = [str(private), "../private.jpg", "x/../../private.jpg"]
    changed = [json.dumps(json.loads(line) | {"file": names[number % 3]}) for number, line in enumerate(lines)]
    (run / "predictions-val.jsonl").write_text("\n".join([header, *changed]))
    view = view_split(read_content(run), "val")
    assert view is not None
    assert {tile.picture for tile in (*view.mistakes, *view.uncertain)} == {None}


def test_a_class_without_an_image_has_no_recall_and_takes_no_part_in_the_mean(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2, num_images=4, accuracy=1.0)  # of 6 classes
    view = view_split(read_content(run), "val")
    assert view is not None
    absent = view.scores[5]
    assert (absent.support, absent.precision, absent.recall, absent.f1) == (0, None, None, None)
    assert view.macro_f1 == "100.0 %"
    write_report([run], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count('data-value="">–</td>') == 2 * 3  # of two classes, three numbers


def test_classes_without_a_name_have_their_number(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"classes": result["classes"][:1]}))
    view = view_split(read_content(run), "val")
    assert view is not None
    assert view.matrix is not None
    assert view.classes == [result["classes"][0], *map(str, range(1, len(view.matrix)))]


def test_drawn_images_in_no_folder_leave_their_names(tmp_path: Path) -> None:
    view = view_split(read_content(write_run(tmp_path / "a", epochs=2)), "val")
    assert view is not None
    assert "drawn for the run and are in no folder" in view.pictures_note


def test_without_predictions_there_is_the_matrix_of_the_result_and_the_reason(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", epochs=2)
    (run / "predictions-val.jsonl").unlink()
    view = view_split(read_content(run), "val")
    assert view is not None
    assert view.matrix is not None
    assert view.reliability is None
    assert "no predictions-val.jsonl" in view.why_no_predictions


def test_many_classes_have_the_most_confused_pairs(tmp_path: Path) -> None:
    classes = [f"species {number}" for number in range(41)]
    run = write_run(tmp_path / "a", epochs=2, classes=classes, num_images=400, accuracy=0.5, is_finished=False)
    view = view_split(read_content(run), "val")
    assert view is not None
    assert view.matrix is None
    assert 0 < len(view.pairs) <= 40
    assert len(view.scores) == 41
