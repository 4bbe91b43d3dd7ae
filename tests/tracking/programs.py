"""Programs that use a dashboard's own library, and print JSON: they warn, and leave threads behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.processes import run
from tests.tracking.dashboards import python

WANDB = """
import json, struct, sys
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record

def records(content):  # LevelDB's log format: blocks of 32 KiB with parts of records
    at, part = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        part, at = part + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            record, part = Record(), b""
            yield record.FromString(content[at - length : at]) if kind == 1 else record.FromString(part)
        elif kind == 2:
            part = content[at - length : at]

found = {"ids": [], "points": [], "config": {}, "summary": {}, "pictures": []}
for file in sorted(Path(sys.argv[1]).rglob("*.wandb")):
    for record in records(file.read_bytes()):
        if record.HasField("run"):
            found["ids"].append(record.run.run_id)
            found["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("summary"):
            found["summary"] |= {item.key: json.loads(item.value_json) for item in record.summary.update}
        if record.HasField("history"):
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            if "train/loss" in items:
                found["points"].append([items["_step"], items["train/loss"], items.get("val/loss")])
            found["pictures"] += [name.removesuffix("/path") for name in items if name.endswith("/path")]
print(json.dumps(found))
"""
MLFLOW = """
import json, sys
from mlflow.tracking import MlflowClient

client = MlflowClient(f"sqlite:///{sys.argv[1]}")
(experiment,) = [each for each in client.search_experiments() if each.name == "signs_dist"]
runs = client.search_runs([experiment.experiment_id])
history = lambda run, name: [[point.step, point.value] for point in client.get_metric_history(run.info.run_id, name)]
print(json.dumps({
    "ids": [run.info.run_id for run in runs],
    "status": runs[0].info.status,
    "points": history(runs[0], "train/loss"),
    "val": history(runs[0], "val/loss"),
    "params": runs[0].data.params,
    "final": runs[0].data.metrics.get("final/val_accuracy"),
    "artifacts": sorted(item.path for item in client.list_artifacts(runs[0].info.run_id)),
}))
"""
TRACKIO = """
import json, sqlite3, sys

base = sqlite3.connect(sys.argv[1])
rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
values = [(name, step, json.loads(text)) for name, step, text in rows]
print(json.dumps({
    "ids": sorted({name for name, _, _ in values}),
    "points": [[step, each["train/loss"]] for _, step, each in values if "train/loss" in each],
    "final": [each["final/val_accuracy"] for _, _, each in values if "final/val_accuracy" in each],
    "config": json.loads(base.execute("select config from configs").fetchone()[0]),
}))
"""
TENSORBOARD = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()
print(json.dumps({
    "points": [[event.step, event.value] for event in events.Scalars("train/loss")],
    "scalars": tags["scalars"],
    "pictures": tags["images"],
    "config": events.Tensors("config")[0].tensor_proto.string_val[0].decode(),
}))
"""


def ask(program: str, path: Path) -> dict[str, Any]:
    """What a program prints as its last line about a path."""
    ended = run([python(), "-c", program, str(path)], path.parent)
    assert ended.code == 0, ended.err
    value: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
    return value
