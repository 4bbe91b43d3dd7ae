from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from signs_dist.data.duplicates import Duplicates
from signs_dist.data.photos.build_plan import BuildRequest, choose_division
from signs_dist.data.photos.build_record import (
    BUILD_FILE,
    build_record,
    is_already_built,
    read_build_file,
    request_facts,
    summary,
)
from signs_dist.data.photos.sources import arrange, list_source
from signs_dist.data.problems import BadFile
from signs_dist.errors import UserError
from tests.data.photo_files import write_files

COUNTS = {"train": {"a": 1500, "b": 2}, "val": {"a": 1, "b": 1}}


def facts_of(request: BuildRequest) -> dict[str, Any]:
    files = list_source(request.source)
    return request_facts(request, files, choose_division(request, arrange(files, request.source)))


@pytest.fixture
def request_to_build(tmp_path: Path) -> BuildRequest:
    names = [f"{split}/{label}/1.jpg" for split in ("train", "val") for label in "ab"]
    return BuildRequest(write_files(tmp_path / "photos", dict.fromkeys(names, b"x")), tmp_path / "out")


def write_record(request: BuildRequest, bad: list[BadFile], small_classes: dict[str, int] | None = None) -> Path:
    assert request.out is not None
    request.out.mkdir()
    record = build_record(facts_of(request), COUNTS, bad, small_classes or {}, Duplicates((), ()), request)
    (request.out / BUILD_FILE).write_text(json.dumps(record))
    return request.out


def test_the_seed_is_a_fact_only_where_train_is_divided(request_to_build: BuildRequest, tmp_path: Path) -> None:
    assert (facts_of(request_to_build)["seed"], facts_of(request_to_build)["val_share"]) == (None, None)
    names = dict.fromkeys(["train/a/1.jpg", "train/b/1.jpg"], b"x")
    assert facts_of(BuildRequest(write_files(tmp_path / "unsplit", names)))["seed"] == 230


def test_a_finished_build_is_recognised(request_to_build: BuildRequest) -> None:
    out = request_to_build.out or Path()
    assert not is_already_built(out, facts_of(request_to_build), request_to_build)
    write_record(request_to_build, [])
    assert is_already_built(out, facts_of(request_to_build), request_to_build)
    assert summary(read_build_file(out)) == "train 1,502, val 2"


def test_other_settings_are_named_with_what_to_type(request_to_build: BuildRequest) -> None:
    out = write_record(request_to_build, [])
    (request_to_build.source / "train/a/1.jpg").write_bytes(b"changed")
    other = BuildRequest(request_to_build.source, out, size=32)
    with pytest.raises(UserError) as caught:
        is_already_built(out, facts_of(other), other)
    assert str(caught.value) == (
        f"{out} is already built with other settings: the source's files have changed (names, sizes or times); "
        f"--size 64, not 32. To build it again, repeat the command after: rm -r {out}. To keep it, choose another "
        f"folder with --out."
    )


def test_a_build_without_its_bad_images_is_accepted_only_when_asked_for(request_to_build: BuildRequest) -> None:
    out = write_record(request_to_build, [BadFile("train/a/2.jpg", "truncated")])
    with pytest.raises(UserError, match=r"already built, without 1 bad image .* add --bad-images skip"):
        is_already_built(out, facts_of(request_to_build), request_to_build)
    asked = BuildRequest(request_to_build.source, out, bad_images="skip")
    assert is_already_built(out, facts_of(asked), asked)


def test_a_broken_record_is_told(request_to_build: BuildRequest) -> None:
    out = write_record(request_to_build, [])
    (out / BUILD_FILE).write_text("{")
    with pytest.raises(UserError, match=r"build.json is broken .* build it again"):
        read_build_file(out)


def test_a_build_without_its_small_classes_is_accepted_only_when_asked_for(request_to_build: BuildRequest) -> None:
    out = write_record(request_to_build, [], {"owl": 1})
    with pytest.raises(UserError, match=r"already built, without the small class owl\. .* add --small-classes skip"):
        is_already_built(out, facts_of(request_to_build), request_to_build)
    asked = BuildRequest(request_to_build.source, out, small_classes="skip")
    assert is_already_built(out, facts_of(asked), asked)


@pytest.mark.parametrize(("division", "is_refused"), [(None, False), ("published", False), ("stratified", True)])
def test_a_set_from_before_there_was_a_choice_of_the_split(tmp_path: Path, division: Any, is_refused: bool) -> None:
    names = [f"{label}/{number}.jpg" for label in "ab" for number in range(5)]
    source = write_files(tmp_path / "photos", dict.fromkeys(names, b"x"))
    out = write_record(BuildRequest(source, tmp_path / "out"), [])
    record = json.loads((out / BUILD_FILE).read_text())
    del record["split"]
    (out / BUILD_FILE).write_text(json.dumps(record))
    request = BuildRequest(source, out, split=division)
    if is_refused:
        with pytest.raises(UserError, match="--split published, not stratified"):
            is_already_built(out, facts_of(request), request)
    else:
        assert is_already_built(out, facts_of(request), request)
