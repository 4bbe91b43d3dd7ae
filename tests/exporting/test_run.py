"""What an export says about itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.config.reading import load_config
from signs_dist.data.build import main as build
from signs_dist.exporting.checking import Agreement, PhotoSet, compare
from signs_dist.exporting.formats import FORMATS, ExportFormat
from signs_dist.exporting.photos import Judged
from signs_dist.exporting.run import export_model, in_float32, make_record, remarks, without_paths, without_ten_crop
from signs_dist.inference.export_files import Format, find_export
from signs_dist.inference.export_record import ExportRecord
from signs_dist.inference.exported_model import read_exported_model
from signs_dist.inference.trained_model import TrainedModel, read_trained_model
from signs_dist.learning.precision import Precision
from tests.inference.exports import RESULT
from tests.inference.runs import make_run
from tests.own_modules import module_writer
from tests.sets import write_colour_set

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


def tabled(folder: Path) -> list[str]:
    write_colour_set(folder / "set", counts={"all": 12})
    names = [f"set/all_signs/{path.name}" for path in sorted((folder / "set/all_signs").iterdir())]
    rows = [f"{name},{Path(name).name[0]}" for name in names]
    (folder / "t.csv").write_text("\n".join(["path,label", *rows, ""]))
    return [f"data.root={folder / 't.csv'}", "data.split=[0.5, 0.25, 0.25]"]


def sharded(folder: Path) -> list[str]:
    write_colour_set(folder / "set", counts={"train": 12, "val": 4})
    places = ["--source", str(folder / "set"), "--out", str(folder / "shards"), "--size", "16"]
    assert build([*places, "--shards", "--processes", "1", "--quiet"]) == 0
    return [f"data.root={folder / 'shards'}"]


def rooted(folder: Path) -> list[str]:
    for name in ("one", "two"):
        write_colour_set(folder / f"{name}_set", counts={"all": 12})
        for path in sorted((folder / f"{name}_set/all_signs").iterdir()):
            (folder / name / f"class {path.name[0]}").mkdir(parents=True, exist_ok=True)
            path.rename(folder / name / f"class {path.name[0]}" / path.name)
    return [f"data.root=[{folder / 'one'}, {folder / 'two'}]", "data.split=[0.5, 0.25, 0.25]"]


OWN = """
import numpy as np
class Drawn:
    def images(self):
        return [(f"{kind}/{n}", kind, "val" if n % 4 == 0 else "train") for kind in "abc" for n in range(12)]
    def read(self, name):
        kind, number = name.split("/")
        return np.full((16, 16, 3), 60 * "abc".index(kind) + 3 * int(number), np.uint8)
"""


@pytest.mark.parametrize("kind", ["cached", "table", "shards", "reader", "roots"])
def test_a_run_on_any_data_is_exported(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = module_writer(tmp_path, monkeypatch)(OWN)
    cached = ["model.freeze=backbone", "augment.backend=none", "model.cache_features=true"]
    settings = {
        "cached": lambda: cached,
        "table": lambda: tabled(tmp_path),
        "shards": lambda: sharded(tmp_path),
        "reader": lambda: [f"data.reader={module}:Drawn", "data.root=null"],
        "roots": lambda: rooted(tmp_path),
    }[kind]()
    run = make_run(tmp_path, *settings, "train.epochs=1", "train.precision=float32")
    model = read_trained_model(run, weights="final", device="cpu")
    agreements: list[Agreement] = []

    def check_here(form: ExportFormat, folder: Path, record: ExportRecord, sets: Sequence[PhotoSet]) -> Any:
        """As `check`, in this process."""
        place = find_export(folder)
        assert place is not None
        exported = read_exported_model(place, torch.device("cpu"))
        images = torch.from_numpy(sets[0].images).permute(0, 3, 1, 2)
        agreements.append(compare(sets[0], exported(images).softmax(dim=1).numpy()))
        return agreements, {}

    monkeypatch.setattr("signs_dist.exporting.run.check", check_here)
    forms: tuple[Format, ...] = ("torch", "safetensors") if kind == "cached" else ("safetensors",)
    for form in forms:
        export_model(model, form, tmp_path / form, data=None, num_cores=1, report=lambda *_: None, say=lambda _: None)
        record = record_in(tmp_path / form)
        assert str(tmp_path) not in record.to_json()
        assert str(tmp_path) not in (tmp_path / form / "README.md").read_text()
    result = model.folder.read_result()
    assert result is not None
    assert [agreement.is_good for agreement in agreements] == [True] * len(forms)
    assert record.results[0].num_correct == result["val_correct"]
    assert record.results[0].num_images == result["val_images"]


def record_in(folder: Path) -> ExportRecord:
    place = find_export(folder)
    assert place is not None
    return read_exported_model(place, torch.device("cpu")).record


def test_paths_in_the_arguments_of_a_network_stay_only_where_its_class_is_called(model: TrainedModel) -> None:
    own = model.config.model.model_copy(
        update={"name": "shapes.network:make", "args": {"table": "/home/ada/t.csv", "width": 4}}
    )
    config = model.config.model_copy(update={"model": own})
    of_user = dataclasses.replace(model, config=config)
    for form in FORMATS:
        args = make_record(of_user, form, JUDGED, {}).network_args
        assert args == {"table": "/home/ada/t.csv" if form == "safetensors" else "t.csv", "width": 4}
