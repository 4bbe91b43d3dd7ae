"""Scoring a trained model on a split."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from signs_dist.console.command import run_command
from signs_dist.data.shards.writing import pack_into_shards
from signs_dist.errors import UserError
from signs_dist.evaluate import main as evaluate
from signs_dist.inference.scoring import open_scored_split, score
from signs_dist.inference.trained_model import load_model
from tests.inference.runs import make_run
from tests.sets import write_colour_set


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_score_is_what_evaluate_prints(
    run: Path, tmp_path: Path, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = score(load_model(run), split=split)
    assert run_command(evaluate, [str(run), "--split", split, "--json", str(tmp_path / "out.json"), "--quiet"]) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert (found.accuracy, found.loss) == (told[f"{split}_accuracy"], told[f"{split}_loss"])
    assert found.confusion.tolist() == told[f"{split}_confusion"]
    assert found.num_images == (36 if split == "train" else 12)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{split} accuracy {100 * found.accuracy:.1f} % ({found.num_correct}/{found.num_images} ")


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_score_is_that_of_the_run(run: Path, split: str) -> None:
    result = json.loads((run / "result.json").read_text())
    found = score(load_model(run), split=split)
    assert (found.loss, found.num_correct) == (result[f"{split}_loss"], result[f"{split}_correct"])


def test_another_data_set(run: Path, tmp_path: Path) -> None:
    write_colour_set(tmp_path / "other", counts={"val": 7})
    assert score(load_model(run), tmp_path / "other").num_images == 21
    assert score(load_model(run), str(tmp_path / "other"), split="val").num_images == 21


def test_shards_are_scored_by_a_model_whose_own_images_were_divided(run: Path, tmp_path: Path) -> None:
    write_colour_set(tmp_path / "other", counts={"train": 1, "val": 4})
    pack_into_shards(tmp_path / "other", shard_megabytes=1, report=lambda *_: None)
    model = load_model(run)
    data = model.config.data.model_copy(update={"split": (0.8, 0.2), "split_seed": 3})
    divided = dataclasses.replace(model, config=model.config.model_copy(update={"data": data}))
    assert score(divided, tmp_path / "other").num_images == 12


def test_other_classes_are_refused(run: Path, tmp_path: Path) -> None:
    write_colour_set(tmp_path / "other", counts={"val": 2}, num_classes=4)
    with pytest.raises(UserError, match=r"class 3 is not among the classes 0, 1, 2"):
        score(load_model(run), tmp_path / "other")


def test_a_split_that_is_not_there(run: Path, tmp_path: Path) -> None:
    write_colour_set(tmp_path / "other", counts={"train": 1, "val": 1})
    with pytest.raises(UserError, match=r"other has no split test\. Choose the split train or val\."):
        score(load_model(run), tmp_path / "other", split="test")


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_any_split(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        score(load_model(run), tmp_path / name)


def test_data_that_are_gone_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, "train.epochs=1")
    shutil.rmtree(tmp_path / "colours")
    with pytest.raises(UserError, match="colours"):
        score(load_model(run))


def test_images_that_have_changed_since_the_training_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, "train.epochs=1")
    told = f"changed since the training: the val images of {tmp_path / 'colours'}"
    assert run_command(evaluate, [str(run)]) == 0
    assert "changed since" not in capsys.readouterr().out
    photo = next((tmp_path / "colours" / "val_signs").iterdir())
    shutil.copy(photo, photo.with_name("0_copy.jpg"))
    for arguments in ([], ["--data", str(tmp_path / "colours")]):
        assert run_command(evaluate, [str(run), *arguments]) == 0
        assert told in capsys.readouterr().out
    assert run_command(evaluate, [str(run), "--split", "test"]) == 0
    assert "changed since" not in capsys.readouterr().out
    shutil.copytree(tmp_path / "colours", tmp_path / "other")
    assert run_command(evaluate, [str(run), "--data", str(tmp_path / "other")]) == 0
    assert "changed since" not in capsys.readouterr().out


def test_drawn_images_are_drawn_again_where_they_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no photos are
    counts = ("data.synthetic.train=12", "data.synthetic.val=6", "data.synthetic.test=6")
    run = make_run(tmp_path, "data.root=null", *counts, "train.epochs=1")
    result = json.loads((run / "result.json").read_text())
    shutil.rmtree(tmp_path / "cache")
    found = score(load_model(run))
    assert (found.num_images, found.loss) == (result["val_images"], result["val_loss"])


def test_scoring_draws_no_random_numbers(run: Path) -> None:
    model = load_model(run)
    before = torch.get_rng_state()
    score(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_is_told_while_images_are_packed(run: Path, tmp_path: Path) -> None:
    write_colour_set(tmp_path / "other", counts={"val": 2})
    told: list[tuple[str, int, int]] = []
    model = load_model(run)
    opened = open_scored_split(model, str(tmp_path / "other"), "val", num_cores=1, report=lambda *row: told.append(row))
    assert (opened.data_name, opened.split, opened.num_images) == (str(tmp_path / "other"), "val", 6)
    assert len(opened.fingerprint) == 64
    assert told[-1][1:] == (6, 6)


def test_a_run_on_a_table_is_scored_on_its_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_colour_set(tmp_path / "set", counts={"all": 12})
    rows = [f"set/all_signs/{path.name},{path.name[0]}" for path in sorted((tmp_path / "set/all_signs").iterdir())]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path,label", *rows, ""]))
    run = make_run(tmp_path, f"data.root={table}", "data.split=[0.5, 0.25, 0.25]", "train.epochs=1")
    result = json.loads((run / "result.json").read_text())
    model = load_model(run)
    shutil.rmtree("data")  # the copy in the run folder is enough
    for split in ("val", "test"):
        assert (score(model, split=split).num_images, score(model, split=split).loss) == (9, result[f"{split}_loss"])
    assert score(model, table).num_images == 9
    assert not Path("data").exists()
    (tmp_path / "copy.csv").write_text(table.read_text())  # other data: not the division of the run
    assert score(model, tmp_path / "copy.csv").num_images == 36
    with pytest.raises(UserError, match=r"copy.csv has no split val: its images are not split. To .*, omit split"):
        score(model, tmp_path / "copy.csv", split="val")
    split = [f"{row},{'train' if number else 'test'}" for number, row in enumerate(rows)]
    (tmp_path / "split.csv").write_text("\n".join(["path,label,split", *split]))
    assert score(model, tmp_path / "split.csv", split="test").num_images == 1
    with pytest.raises(UserError, match=r"split.csv has no split val. Choose the split train or test"):
        score(model, tmp_path / "split.csv")
    table.write_text(table.read_text().replace(",2\n", ",9\n"))
    with pytest.raises(UserError, match=r"t.csv has the classes 0, 1, 9 now, and the model has 0, 1, 2"):
        score(model)


def test_own_metrics_are_computed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judges_of_scoring.py").write_text(
        "def hits(num_classes):\n"
        "    return lambda probabilities, labels: (probabilities.argmax(1) == labels).float().mean()\n"
    )
    model = load_model(run)
    evaluation = model.config.evaluate.model_copy(update={"metrics": ("judges_of_scoring:hits",)})
    model = dataclasses.replace(model, config=model.config.model_copy(update={"evaluate": evaluation}))
    opened = open_scored_split(model, None, "val", num_cores=1, report=lambda *_: None)
    assert opened.notes[-1].startswith("evaluate.metrics are not computed: evaluate.metrics=judges_of_scoring:hits")
    assert score(model, split="val").metrics == {}
    monkeypatch.syspath_prepend(str(tmp_path))
    found = score(model, split="val")
    assert found.metrics == {"hits": pytest.approx(found.accuracy)}
