"""In place of a training: a program that writes what a run leaves, in a moment.

python trainer.py RUN_DIR BEHAVIOUR [VALUE]
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path


def main(path: Path, behaviour: str, value: str = "0.5") -> int:
    path.mkdir(parents=True, exist_ok=True)
    with (path / "starts").open("a") as stream:
        stream.write("start\n")
    (path / "config.yaml").write_text("train: {epochs: 8}\n")
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    lines = [{"kind": "epoch", "epoch": epoch, "val_accuracy": float(value)} for epoch in range(1, 9)]
    lines = lines if behaviour == "finish" else lines[:4]
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if behaviour == "fail":
        print("Traceback (most recent call last):\nerror: the loss is not a finite number")
        return 1
    if behaviour == "die":
        signal.raise_signal(signal.SIGKILL)
    if behaviour == "wait":  # until it is stopped, as a training that lasts long
        while not stopped:
            time.sleep(0.01)
        return 75
    (path / "result.json").write_text(json.dumps({"finished": True, "val_accuracy": float(value)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
