"""What processes tell travels as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from signs_dist.diverging.facts import Detail, Start, Step
from tests.diverging.test_blame import DETAIL, STEP

START = Start(0, "/a", True, "float32", 0, {"images": 8}, {"seed": 1}, {"train": "1"}, {}, {"fc.weight": "1"}, ["note"])


@pytest.mark.parametrize("value", [START, STEP, DETAIL], ids=lambda value: type(value).__name__)
def test_values_come_back_as_they_were_sent(value: Start | Step | Detail) -> None:
    assert type(value).from_fields(json.loads(json.dumps(dataclasses.asdict(value)))) == value
