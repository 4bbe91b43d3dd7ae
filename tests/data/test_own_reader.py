from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from signs_dist.config.reading import load_config
from signs_dist.config.settings import DataConfig
from signs_dist.data.batches import FileBatches
from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.other_sources import OtherSource, open_other_source
from signs_dist.data.own_reader import OwnReader, index_own_reader, list_own_reader
from signs_dist.data.packed import cache_key
from signs_dist.data.plan import BatchKey
from signs_dist.data.sets import open_data_set, open_split
from signs_dist.data.sources.division_file import to_text
from signs_dist.errors import UserError
from tests.markdown_pages import blocks
from tests.own_modules import module_writer
from tests.processes import REPOSITORY

SOURCE = """
import io
import contextlib
import io
import os
import numpy as np
import PIL.Image

COLOURS = {"red": (200, 0, 0), "blue": (0, 0, 200)}
made_in = []

def pixels(name):
    return np.full((16, 16, 3), COLOURS[name.split("/")[0]], np.uint8)

class Drawn:
    def __init__(self, images=2, kind="array"):
        self.num_images, self.kind = images, kind
        self.file = open(os.devnull)  # cannot be pickled
        self.file.close()
        made_in.append(os.getpid())

    def images(self):
        for number in range(self.num_images):
            for colour in COLOURS:
                yield f"{colour}/{number}", colour, "train" if number else "valid"

    def read(self, name):
        image = pixels(name)
        if self.kind == "array":
            return image
        if self.kind == "grey":
            return image[:, :, 0]
        if self.kind == "pil":
            return PIL.Image.fromarray(image).convert("CMYK")
        if self.kind == "bytes":
            stream = io.BytesIO()
            PIL.Image.fromarray(image).save(stream, "PNG")
            return stream.getvalue()
        if self.kind == "float":
            return image / 255
        if self.kind == "none":
            return None
        raise KeyError(name)

class Stamped(Drawn):
    def stamp(self, name):
        return {"red/0": 3}.get(name, 1)

class Listing:
    entries = []
    def __init__(self, entries): self.entries = entries
    def images(self): return iter(self.entries)
    def read(self, name): raise KeyError(name)

class Kept:
    def __init__(self, file): self.file = file
    def images(self):
        import json
        with open(self.file) as stream:
            return json.load(stream)
    def read(self, name): raise KeyError(name)

class Falling(Drawn):
    def images(self):
        yield "a", "red", "train"
        raise OSError("the server is away")

class Mute:
    def images(self): return []

def nothing():
    return None
"""


def indexed(name: str, args: dict[str, Any]) -> dict[str, ImageIndex]:
    return index_own_reader(*list_own_reader(name, args))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return module_writer(tmp_path, monkeypatch)(SOURCE)


def test_the_splits_of_a_reader(module: str) -> None:
    splits = indexed(f"{module}:Drawn", {"images": 3})
    assert {name: index.paths for name, index in splits.items()} == {
        "train": ("blue/1", "blue/2", "red/1", "red/2"),
        "val": ("blue/0", "red/0"),
    }
    assert splits["train"].classes == ("blue", "red")
    assert splits["train"].labels.tolist() == [0, 0, 1, 1]
    assert splits["train"].full_name("red/1") == f"{module}:Drawn/red/1"


@pytest.mark.parametrize("kind", ["array", "pil", "bytes", "grey"])
def test_what_read_may_give(module: str, kind: str) -> None:
    data = OwnReader(f"{module}:Drawn", {"kind": kind}).read("red/1")
    assert isinstance(data, bytes)
    red = load_rgb(data, name="red/1", size=None)
    expected = (200, 200, 200) if kind == "grey" else (200, 0, 0)
    assert np.array(red).reshape(-1, 3).tolist() == [list(expected)] * 256


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("float", "cannot read the image red/1: read gives an array of float64 [16, 16, 3], not of uint8 [H, W, 3]."),
        ("none", "read gives nothing (None), not bytes, a Path, a PIL image, or a uint8 array"),
        ("broken", "Drawn fails when it reads 'red/1': KeyError: 'red/1' at "),
    ],
)
def test_errors_of_read_name_the_image_and_the_place(module: str, kind: str, expected: str) -> None:
    with pytest.raises(BadImageError) as caught:
        OwnReader(f"{module}:Drawn", {"kind": kind}).read("red/1")
    assert expected in str(caught.value)
    assert caught.value.path == "red/1"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], "images() gives no image."),
        ([["a", "red"]], "images() gives ['a', 'red']. It must give (name, class name, split) for each image."),
        (["abc"], "images() gives 'abc'."),
        ([["/a", "red", "train"]], "images() gives the name '/a'. A name is a path with forward slashes"),
        ([["a/../b", "red", "train"]], "images() gives the name 'a/../b'."),
        ([["a\\b", "red", "train"]], "images() gives the name 'a\\\\b'."),
        ([[3, "red", "train"]], "images() gives the name 3."),
        ([["a", 3, "train"]], "images() gives the class 3 for a. A class is a text."),
        ([["a", "", "train"]], "images() gives the class '' for a."),
        ([["a", "red", "traim"]], "images() gives the split 'traim' for a. Give train, val or test; or None"),
        ([["a", "red", 3]], "images() gives the split 3 for a. Give train, val or test; or None for all images"),
        ([["a", "red", "train"], ["a", "blue", "val"]], "images() gives 'a' twice. Names must differ."),
        ([["a", "red", "train"], ["b", "blue", "train"]], "has no val images. Both train and val are needed"),
        ([["a", "red", "val"]], "has no train images."),
        ([["a", "red", "train"], ["b", "red", "val"]], "has the single class 'red'."),
        (
            [["a", "red", "train"], ["b", "red", "val"], ["c", "blue", "val"]],
            "has no train image of class blue. Give each class images in train and in val",
        ),
        (
            [["a", "red", "train"], ["b", "blue", "train"], ["c", "blue", "val"]],
            "has no val image of class red.",
        ),
    ],
)
def test_lists_that_are_no_data_set_are_refused(module: str, entries: list[Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        indexed(f"{module}:Listing", {"entries": entries})
    assert expected in str(caught.value)
    assert f"data.reader={module}:Listing" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Falling", "fails when it lists its images: OSError: the server is away at "),
        ("Mute", "gives a Mute without a method read. It must have images()"),
        ("nothing", "gives a NoneType without a method images."),
        ("Drawm", "has no function or class Drawm."),
    ],
)
def test_what_is_wrong_with_a_reader_is_said(module: str, name: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        indexed(f"{module}:{name}", {})
    assert expected in str(caught.value)


def test_it_is_made_again_where_it_is_unpickled_and_in_a_fork(module: str) -> None:
    made_in = __import__(module).made_in
    reader = OwnReader(f"{module}:Drawn", {})
    assert len(made_in) == 1
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert (copy.name, copy.args, len(made_in)) == (reader.name, reader.args, 2)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        reader.read("red/1")
        os.write(send, str(made_in[-1] == os.getpid()).encode())
        os._exit(0)
    os.close(send)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(receive, 10) == b"True"
    os.close(receive)


def test_stamps_decide_whether_images_are_packed_again(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, stamped = (indexed(f"{module}:{name}", {})["val"] for name in ("Drawn", "Stamped"))
    assert stamped.reader.stamp("red/0")[1].endswith(" 3")
    before = cache_key(plain), cache_key(stamped)
    own = __import__(module)
    monkeypatch.setattr(own.Stamped, "stamp", lambda self, name: 5)
    assert cache_key(plain) == before[0]
    assert cache_key(stamped) != before[1]
    assert cache_key(indexed(f"{module}:Drawn", {"kind": "pil"})["val"]) != before[0]  # other pixels


@pytest.mark.parametrize("storage", ["packed", "files"])
def test_a_run_reads_its_images(module: str, tmp_path: Path, storage: str) -> None:
    config = load_config(
        None,
        [
            *(f"data.reader={module}:Drawn", "data.reader_args.images=3", "data.image_size=8"),
            *(f"data.storage={storage}", f"data.cache={tmp_path}/cache"),
        ],
    ).data
    data = open_data_set(config, num_processes=1, report=lambda *_: None)
    assert (data.name, data.classes) == (f"{module}:Drawn", ("blue", "red"))
    source, fingerprint = open_split(data.splits["train"], config, num_threads=2, report=lambda *_: None)
    assert isinstance(source, FileBatches) is (storage == "files")
    batch = source[BatchKey(0, 0, np.array([0, 3]))]
    assert batch.labels.tolist() == [0, 1]
    assert batch.images[:, :, 0, 0].tolist() == [[0, 0, 200], [200, 0, 0]]
    assert len(fingerprint) == 64


def test_a_file_may_be_given_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PIL.Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "one.png")
    source = f"""
from pathlib import Path
class Files:
    def images(self): return []
    def read(self, name): return Path({str(tmp_path)!r}) / name if name != "text" else {str(tmp_path / "one.png")!r}
"""
    reader = OwnReader(f"{module_writer(tmp_path, monkeypatch)(source)}:Files", {})
    assert reader.read("one.png") == reader.read("text") == tmp_path / "one.png"


def test_the_reader_of_the_documents_reads_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    page = (REPOSITORY / "docs" / "your-code.md").read_text(encoding="utf-8")
    source = next("\n".join(block.lines) for block in blocks(page) if block.language == "python")
    rows = [
        (f"{split}/{name}/{number}", name, split, png(colour))
        for split in ("train", "val")
        for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200)))
        for number in range(8)
    ]
    with contextlib.closing(sqlite3.connect(tmp_path / "photos.sqlite")) as database, database:
        database.execute("CREATE TABLE photos (name TEXT, class TEXT, split TEXT, content BLOB)")
        database.executemany("INSERT INTO photos VALUES (?, ?, ?, ?)", rows)
    name = f"{module_writer(tmp_path, monkeypatch)(source)}:Photos"
    index = indexed(name, {"path": str(tmp_path / "photos.sqlite")})["train"]
    config = load_config(None, ["data.image_size=8", f"data.cache={tmp_path}/cache"]).data
    batches, _ = open_split(index, config, num_threads=4, report=lambda *_: None)
    batch = batches[BatchKey(0, 0, np.array([0, 15]))]
    assert batch.images[:, :, 0, 0].tolist() == [[0, 0, 200], [200, 0, 0]]


def png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    return stream.getvalue()


def test_a_run_is_evaluated_through_its_reader(module: str, tmp_path: Path) -> None:
    from signs_dist.inference.scoring import score
    from signs_dist.inference.trained_model import load_model
    from signs_dist.training.fit import fit

    settings = ["data.reader_args.images=5", "data.image_size=8", "model.name=mlp", "train.global_batch=8"]
    more = ["train.epochs=1", "log.report=false", f"data.cache={tmp_path}/cache"]
    config = load_config(None, [f"data.reader={module}:Drawn", *settings, *more])
    result = fit(config, run_dir=tmp_path / "run", quiet=True)
    model = load_model(tmp_path / "run")
    assert score(model).accuracy == result["val_accuracy"]
    with pytest.raises(UserError, match=f"{module}:Drawn has no split test. Choose the split train or val."):
        score(model, split="test")


def test_images_without_splits_are_divided_once(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [[f"{name}/person{number % 5}/{number}", name, None] for name in ("red", "blue") for number in range(10)]

    def opened(
        entries: list[list[Any]], copy: Path | None = None, *, file: str = "list.json", **settings: Any
    ) -> OtherSource:
        (tmp_path / file).write_text(json.dumps(entries))
        given = {"reader": f"{module}:Kept", "reader_args": {"file": file}} | settings
        found = open_other_source(DataConfig.model_validate(given), (), copy=copy)
        assert found is not None
        return found

    first = opened(entries)
    assert {name: len(index) for name, index in first.splits.items()} == {"train": 16, "val": 2, "test": 2}
    assert "divided: train 80.0 %, val 10.0 %, test 10.0 % of the images" in first.notes[0]
    assert isinstance(first.splits["val"].reader, OwnReader)
    later = opened([["red/new", "red", None], *entries])
    assert {name: split for name, split in (later.division or {}).items() if name != "red/new"} == first.division
    of_run = tmp_path / "division.csv"
    of_run.write_text(to_text(first.division or {}))
    assert opened([["red/new", "red", None], *entries], of_run).division == first.division
    other = [[name, "blue" if class_name == "red" else "red", split] for name, class_name, split in entries]
    assert opened(other, file="other.json").division is not None
    assert len(list(Path("data/splits").glob("*.csv"))) == 2  # other arguments may list other images
    grouped = opened(entries, group_pattern="(person.)", split=[0.6, 0.4])
    sides = {(name.split("/")[1], split) for name, split in (grouped.division or {}).items()}
    assert len(sides) == 5  # each person on one side
    with pytest.raises(UserError, match=r"gives no split .None. for some images, and val for others"):
        opened([*entries, ["red/new", "red", "val"]])
    with pytest.raises(UserError, match=r"Type data\.group_pattern instead"):
        opened(entries, columns={"group": "person"})
