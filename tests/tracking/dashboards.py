"""The dashboards' own libraries in tests: the Python that has them, and where they keep their data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PYTHON = Path(__file__).resolve().parent.parent.parent / ".venv-dashboards" / "bin" / "python"
"""Has TensorBoard, wandb, MLflow and Trackio beside all that tests have."""
REQUIRED = "SIGNS_DIST_REQUIRE_DASHBOARDS"
"""With this environment variable, as in CI, tests fail where the libraries are missing, instead of being skipped."""


def python() -> str:
    """The Python that has the dashboards' libraries; without it the test is skipped."""
    if not (PYTHON.parent.parent / "installed").exists():
        advice = "the dashboards are not installed. Type: make dashboards"
        if os.environ.get(REQUIRED):
            pytest.fail(advice)
        pytest.skip(advice)
    return str(PYTHON)


def variables(folder: Path) -> dict[str, str]:
    """The environment variables that keep all dashboards below a folder."""
    (folder / "wandb-files").mkdir(exist_ok=True)
    return {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder / "wandb-files"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": str(folder / "trackio"),
        "HF_HUB_OFFLINE": "1",
    }
