from __future__ import annotations

from typing import Any

import pytest

from signs_dist.config.dotted_names import DOTTED_PATTERN, is_dotted, module_of
from signs_dist.config.reading import load_config
from signs_dist.config.settings import Config
from signs_dist.errors import UserError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("module:make", True),
        ("package.module:Make", True),
        ("package.module.Make", True),
        ("größe.modul:mache", True),
        ("make", False),
        (":make", False),
        ("module:", False),
        ("module:make:it", False),
        ("3d.module:make", False),
        ("my-package:make", False),
        ("torchvision:resnet18", True),
        ("", False),
    ],
)
def test_the_form_of_a_name(name: str, expected: bool) -> None:
    import re

    assert is_dotted(name) is expected
    assert (re.match(DOTTED_PATTERN, name) is not None) is expected


def test_the_module() -> None:
    assert module_of("package.module:make") == module_of("package.module.make") == "package.module"


@pytest.mark.parametrize(
    "override",
    [
        "loss.name=a.b:c",
        "optim.name=a.b:c",
        "schedule.name=a.b:c",
        "augment.backend=a.b:c",
        "data.reader=a.b:c",
        "evaluate.metrics=a.b:c",
        "evaluate.metrics=['a.b:c', 'a.b:d']",
    ],
)
def test_settings_that_name_own_code(override: str) -> None:
    load_config(None, [override])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss.name=focl"], "It takes one of cross_entropy, focal, bce, mse, l1, or your own as package.module:make."),
        (["optim.name=sdg"], "or your own as package.module:make. Did you mean sgd?"),
        (["loss.args.gamma=2"], "loss.args is not read by loss.name=cross_entropy"),
        (["optim.args.x=2"], "optim.args is not read by optim.name=sgd"),
        (["schedule.args.x=2"], "schedule.args is not read by schedule.name=one_cycle"),
        (["augment.args.x=2"], "augment.args is not read by augment.backend=batch"),
        (["optim.name=a:b", "optim.momentum=0.5"], "optim.momentum is not read by optim.name=a:b. Delete it"),
        (["schedule.name=a:b", "schedule.warmup_epochs=1"], "schedule.warmup_epochs is not read by schedule.name=a:b"),
        (["loss.name=a:b", "loss.label_smoothing=0.1"], "loss.label_smoothing does nothing for loss.name=a:b"),
        (["evaluate.metrics=[a:f1,b:f1]"], "evaluate.metrics has two metrics called f1"),
        (["evaluate.metrics=accuracy"], "It takes a list, each your own as package.module:make."),
        (["data.reader=a:b", "data.root=photos"], "data.reader=a:b replaces data.root=photos. Delete one of the two"),
        (["data.reader_args.x=1"], "data.reader_args is not read with data.reader=null. Delete it, or set data.reader"),
    ],
)
def test_what_does_not_belong_is_refused(overrides: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, overrides)
    assert expected in str(caught.value)


def test_own_losses_smooth_no_labels() -> None:
    config = load_config(None, ["loss.name=a:b", "loss.args.gamma=2"])
    assert config.loss.label_smoothing == 0
    written: dict[str, Any] = config.model_dump(mode="json")
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert written["loss"]["args"] == {"gamma": 2}
