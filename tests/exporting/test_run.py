"""What an export says about itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.exporting.photos import Judged
from signs_dist.exporting.run import in_float32, make_record, remarks, without_paths, without_ten_crop
from signs_dist.inference.export_files import Format
from signs_dist.inference.trained_model import TrainedModel, read_trained_model
from signs_dist.learning.precision import Precision
from tests.inference.exports import RESULT
from tests.inference.runs import make_run

JUDGED = Judged(RESULT, (), (), ())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return read_trained_model(make_run(tmp_path_factory.mktemp("trained")), weights="final", device="cpu")


def test_no_folder_of_this_machine_is_told() -> None:
    config = load_config(None, ["data.root=/home/ada/photos", "model.weights=/home/ada/w.pth", "optim.lr=0.5"])
    settings = without_paths(config)
    assert "/home" not in str(settings)
    assert settings["model"]["weights"] == "w.pth"
    assert settings["optim"]["lr"] == 0.5


def test_no_folder_in_the_arguments_of_own_code_is_told() -> None:
    own = ["data.reader=shapes.images:Shapes", "data.reader_args={index: /home/ada/i.db, more: [~/x/y, 3]}"]
    assert without_paths(load_config(None, own))["data"]["reader_args"] == {"index": "i.db", "more": ["y", 3]}


def test_the_record(model: TrainedModel) -> None:
    result = model.folder.read_result()
    assert result is not None
    record = make_record(model, "onnx", JUDGED, result)
    assert (record.name, record.trained_on, record.network) == ("run", "colours", "signs_net")
    assert record.network_args == {"channels": 4, "dropout": 0.2}
    assert record.weights == "model.pt, last, after epoch 3"
    assert record.weights_sha256 == result["weights_sha256"]
    assert [(each.split, each.measured) for each in record.results] == [
        ("val", "export"),
        ("val", "run"),  # another number of images than the export has measured
        ("test", "run"),
    ]
    assert record.results[2].num_correct == result["test_correct"]


def test_the_record_of_other_weights_has_no_results_of_the_final_ones(model: TrainedModel) -> None:
    best = read_trained_model(model.folder.path, weights="best", device="cpu")
    record = make_record(best, "safetensors", JUDGED, best.folder.read_result() or {})
    assert record.weights == str(Path("checkpoints/best.pt"))
    assert [each.measured for each in record.results] == ["export"]
    assert not record.preprocessing.is_inside


@pytest.mark.parametrize(
    ("precision", "ten_crop", "form", "told"),
    [
        ("float32", False, "onnx", []),
        ("bfloat16", False, "onnx", ["the run computes in bfloat16, the export in float32: their probabilities"]),
        ("float32", True, "onnx", []),
        ("float32", True, "safetensors", ["left out: evaluate.ten_crop, which safetensors does not hold;"]),
    ],
)
def test_what_an_export_computes_otherwise(
    model: TrainedModel, precision: str, ten_crop: bool, form: Format, told: list[str]
) -> None:
    evaluation = model.config.evaluate.model_copy(update={"ten_crop": ten_crop})
    config = model.config.model_copy(update={"evaluate": evaluation})
    changed = dataclasses.replace(model, config=config, precision=Precision(precision, "cpu"))
    assert [line[: len(start)] for line, start in zip(remarks(changed, form), told, strict=True)] == told
    assert without_ten_crop(changed).config.evaluate.ten_crop_side is None


def test_an_export_computes_in_float32(model: TrainedModel) -> None:
    assert in_float32(model).precision.name == "float32"
    assert not in_float32(model).prepare.channels_last
