"""A finished run on pictures of one colour, made once for the tests of a file."""

from __future__ import annotations

from pathlib import Path

from signs_dist.training.fit import fit
from tests.training.parts import make_config

NETWORK = ("model.name=signs_net", "model.args={channels: 4, dropout: 0.2}", "train.epochs=3", "optim.lr=0.05")
ONE_THREAD = "train.num_threads=1"
"""For fixtures of a module, which are made before a test's own environment: several tests run side by side."""


def make_run(folder: Path, *settings: str) -> Path:
    """Train in `folder`; the run is in `folder / run`, the pictures in `folder / colours`."""
    names = {setting.partition("=")[0] for setting in settings}
    own = [one for one in (*NETWORK, ONE_THREAD) if one.partition("=")[0] not in names]
    fit(make_config(folder, *own, *settings), folder / "run", quiet=True)
    return folder / "run"
