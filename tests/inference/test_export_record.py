from __future__ import annotations

import json

import pytest

from signs_dist.errors import UserError
from signs_dist.inference.export_record import VERSION, read_record
from tests.inference.exports import make_record


def test_a_record_is_read_back() -> None:
    record = make_record(network_args={"hidden": [8]}, classes=("été", "b"))
    assert read_record(record.to_json(), "model.onnx") == record


def test_fields_of_a_later_release_are_passed_over() -> None:
    content = json.loads(make_record().to_json()) | {"later": 1}
    assert read_record(json.dumps(content), "model.onnx") == make_record()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "model.onnx was not written by signs_dist.export: its metadata have no record `signs_dist`"),
        ("", "with the classes and the preprocessing. To make one: python -m signs_dist.export RUN_DIR"),
        ("{}", "model.onnx: the record `signs_dist` in its metadata is damaged: format: Field required."),
        ("no json", "is damaged"),
        (make_record().to_json().replace('"batch":8', '"batch":0'), "is damaged: batch: "),
        (
            make_record(version=VERSION).to_json().replace(f'"version":{VERSION}', '"version":99'),
            "its version is 99; this release reads up to 1: update signs_dist",
        ),
    ],
)
def test_what_is_no_record(text: str | None, told: str) -> None:
    with pytest.raises(UserError) as caught:
        read_record(text, "model.onnx")
    assert told in str(caught.value)
