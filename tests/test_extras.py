from __future__ import annotations

import sys

import pytest

from signs_dist.errors import UserError
from signs_dist.extras import how_to_install, is_installed, require_extra


def test_a_package_that_is_installed_is_not_imported() -> None:
    assert is_installed("tabnanny")
    require_extra("timm", "tabnanny", "model.name=timm:resnet18")
    assert "tabnanny" not in sys.modules


def test_a_package_that_is_not_installed_is_refused_with_what_to_type() -> None:
    assert not is_installed("no_such_package")
    with pytest.raises(UserError) as error:
        require_extra("timm", "no_such_package", "model.name=timm:resnet18")
    assert str(error.value) == (
        "model.name=timm:resnet18 needs no_such_package, which is not installed. Type: pip install 'signs_dist[timm]'"
    )


def test_a_module_that_is_hidden_counts_as_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tabnanny", None)
    assert not is_installed("tabnanny")


def test_several_extras_are_installed_by_one_command() -> None:
    assert how_to_install(["wandb", "mlflow"]) == "pip install 'signs_dist[wandb,mlflow]'"
