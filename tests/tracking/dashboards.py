"""Where each dashboard keeps its data in tests: in files, without any network."""

from __future__ import annotations

from pathlib import Path


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
