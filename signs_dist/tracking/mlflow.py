"""MLflow. Its environment variables are honoured: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, …"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH
from PIL import Image

from signs_dist.tracking.tracker import Ending, RunFacts, numbers_of, plain

EXPERIMENT = "signs_dist"
"""Where the environment names no other."""
STATUSES: Mapping[Ending, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
CURVE = "train/loss"
"""A curve that every line adds a point to."""


class MLflow:
    """A run of MLflow."""

    def __init__(self, facts: RunFacts, run_id: str) -> None:
        self._client = MlflowClient()
        self.url = ""
        if run_id:
            self.run_id = run_id
            self._client.update_run(run_id, status="RUNNING")
            return
        run = self._client.create_run(self._experiment(), run_name=facts.name)
        self.run_id = str(run.info.run_id)
        texts = {name: str(value)[:MAX_PARAM_VAL_LENGTH] for name, value in plain(facts.settings).items()}
        self._client.log_batch(self.run_id, params=[Param(name, text) for name, text in texts.items()])

    def _experiment(self) -> str:
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))

    def last_step(self) -> int | None:
        """The last step of the curve of the loss, -1 without one."""
        return max((metric.step for metric in self._client.get_metric_history(self.run_id, CURVE)), default=-1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step, all or none."""
        now = int(1000 * time.time())
        self._client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in values.items()])

    def flush(self) -> None:
        """Nothing to do: `log` returns when the numbers are stored."""

    def show_picture(self, step: int, name: str, picture: bytes) -> None:
        """Add a picture (PNG) to the artifacts."""
        self._client.log_image(self.run_id, Image.open(io.BytesIO(picture)), key=name.replace("/", "_"), step=step)

    def end(self, ending: Ending, result: Mapping[str, Any]) -> None:
        """Add the final numbers and result.json, and end the run."""
        if result:
            self.log(int(result.get("steps", 0)), numbers_of(result))
            self._client.log_dict(self.run_id, dict(result), "result.json")
        self._client.set_terminated(self.run_id, STATUSES[ending])


def open_tracker(facts: RunFacts, run_id: str) -> MLflow:
    """A new run, or the one with an earlier id."""
    return MLflow(facts, run_id)
