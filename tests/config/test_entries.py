from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.reading import dump_config, load_config
from signs_dist.errors import UserError


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{match: head.*, rate: 1}", "entry 1 has the unknown key rate. An entry is such as {match: head.*, lr: 0.001"),
        ("{lr: 0.1}", "entry 1 has no match, a pattern of parameter names."),
        ("{match: 3, lr: 0.1}", "entry 1 has no match"),
        ("{match: head.*}", "entry 1 sets nothing."),
        ("{match: head.*, lr: 0}", "entry 1 has lr=0, and it must be a number above 0."),
        ("{match: head.*, lr: '0.1'}", "entry 1 has lr='0.1', and it must be a number above 0."),
        ("{match: head.*, weight_decay: -1}", "entry 1 has weight_decay=-1, and it must be a number of at least 0."),
        ("{match: head.*, weight_decay: true}", "entry 1 has weight_decay=True"),
    ],
)
def test_a_wrong_entry_of_groups_is_refused(entry: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, [f"optim.groups=[{entry}]"])
    assert message in str(caught.value)
    assert str(caught.value).startswith("optim.groups=")


def test_groups_are_read_and_written(tmp_path: Path) -> None:
    config = load_config(None, ["optim.groups=[{match: head.*, lr: 1e-3}, {match: '*', weight_decay: 0}]"])
    assert config.optim.groups == ({"match": "head.*", "lr": 1e-3}, {"match": "*", "weight_decay": 0})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            ["model.thaw_after_epochs=2"],
            "model.thaw_after_epochs is not read with model.freeze=none. Delete it, or set model.freeze=backbone",
        ),
        (
            ["model.thaw_after_epochs=3", "model.freeze=backbone", "train.epochs=3"],
            "model.thaw_after_epochs=3 is not before the end of the run, train.epochs=3.",
        ),
    ],
)
def test_a_thaw_that_would_do_nothing_is_refused(typed: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, typed)
    assert message in str(caught.value)
