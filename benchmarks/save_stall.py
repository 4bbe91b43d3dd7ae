"""Measure how long a save stops training, compared with writing the same checkpoint in the foreground.

    python benchmarks/save_stall.py
    python benchmarks/save_stall.py --megabytes 400 --repeats 9

It trains an `mlp` of that size with a save every 25 steps (1500 on a GPU), and reads the stalls from metrics.jsonl.
Then it writes the newest checkpoint as often in the foreground, on the same disk: as the toolkit does (aside, flushed,
digested, renamed, verified), and by a bare torch.save with a flush. On a busy machine single times vary: compare the
medians.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint

SAVES_PER_EPOCH = 3
GLOBAL_BATCH = 4
STEPS = 1500 if torch.cuda.is_available() else 25
"""Steps between saves: enough for the writing to end, since the next save waits for it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100, help="MiB of the model's weights (default: 100)")
    parser.add_argument("--repeats", type=int, default=7, help="saves to measure (default: 7)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to write (default: here)")
    options = parser.parse_args()
    hidden = round(options.megabytes * 2**20 / 4 / (3 * 32 * 32 + 7))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run = Path(folder) / "run"
        settings = [
            *("data.image_size=32", "model.name=mlp", f"model.args={{hidden: [{hidden}]}}", "optim.lr=0.001"),
            f"train.epochs={math.ceil((options.repeats + 2) / SAVES_PER_EPOCH)}",
            *(f"train.epoch_steps={STEPS * SAVES_PER_EPOCH}", f"train.global_batch={GLOBAL_BATCH}"),
            f"data.synthetic.train={max(1800, STEPS * SAVES_PER_EPOCH * GLOBAL_BATCH)}",
            *(f"checkpoint.every_steps={STEPS}", "checkpoint.keep=1"),
        ]
        command = [sys.executable, "-m", "signs_dist.train", "--quiet", "--run-dir", str(run), *settings]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        # The first save of a process also allocates its memory, and the last one ends the epoch.
        stalls = [line["stall_seconds"] for line in lines if line["kind"] == "save"][1:-1]
        newest = CheckpointStore(run / "checkpoints").newest()
        assert newest is not None
        content, num_bytes = read_checkpoint(newest), newest.stat().st_size
        ours, bare = [], []
        for number in range(options.repeats):
            begun = time.perf_counter()
            CheckpointStore(Path(folder) / "foreground", 1).write(Cursor(number, 0), content, None)
            ours.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            with (Path(folder) / "bare.pt").open("wb") as stream:
                torch.save(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            bare.append(time.perf_counter() - begun)
    stall, full, plain = map(statistics.median, (stalls, ours, bare))
    print(f"weights {options.megabytes} MiB, checkpoint {num_bytes / 2**20:.0f} MiB, medians of {len(stalls)} saves")
    print(f"training stands still   {1000 * stall:7.1f} ms  ({', '.join(f'{1000 * value:.0f}' for value in stalls)})")
    print(f"write in the foreground {1000 * full:7.1f} ms  the stall is {100 * stall / full:.1f} % of it")
    print(f"torch.save and a flush  {1000 * plain:7.1f} ms  the stall is {100 * stall / plain:.1f} % of it")


if __name__ == "__main__":
    main()
