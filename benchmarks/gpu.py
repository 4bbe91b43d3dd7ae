"""Check and measure everything that needs a GPU, in under ten minutes on one GPU: first the tests, then the speeds.

    make bench-gpu
    make bench-gpu ARGS="--data PHOTOS --json gpu.json"
    PYTHONPATH=. python benchmarks/gpu.py --only bare --only signs    # where nothing can be installed
    PYTHONPATH=. python benchmarks/gpu.py --rehearse                  # on a CPU, with tiny sizes

Each part is a process with a time limit of its own: `benchmarks/gpu_parts.py`. A part that fails, or is ended, keeps
the figures that it has printed, and the next part begins. The exit code is 1 if a part failed; a bar that does not hold
fails nothing. PHOTOS has folders train_signs and val_signs; without it they are random pixels, as many and as large.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
TOTAL_SECONDS = 570
LEAST_SECONDS = 15
"""A part is not begun with less time than that."""
SPEED_BAR, GRAPH_BAR = 20_000.0, 0.9
"""Images/s of training by signs.yaml: five times the 4,000 of before; and their part of the graphed bare network."""
TRAINING, BARE = "training, signs.yaml", "bare network, signs.yaml"
PLAIN, GRAPHED = "step by step", "one CUDA graph"

Row = Mapping[str, Any]
"""A figure: `figure` and `settings` say what it is; `value` and `unit`, or `text` where it is none."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the whole.

    Attributes:
        name: of the function in gpu_parts.py, or checks.
        limit_seconds: after that it is ended.
    """

    name: str
    limit_seconds: float


PARTS = (
    Part("machine", 40),
    Part("checks", 230),
    Part("bare", 60),
    Part("signs", 90),
    Part("exact", 60),
    Part("recipe", 60),
    Part("compiled", 120),
    Part("cs230", 45),
    Part("resnet18", 60),
    Part("checkpointing", 60),
    Part("save", 90),
    Part("processes", 60),
)
"""In the order of their worth: what comes last may find no time left."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """What became of a part.

    Attributes:
        name: of the part.
        seconds: that it took.
        end: "" if it did its work; else why not.
        rows: its figures.
    """

    name: str
    seconds: float
    end: str
    rows: Sequence[Row] = ()


@dataclasses.dataclass(frozen=True)
class Bar:
    """What is to be reached.

    Attributes:
        name: for people.
        at_least: the least value that holds.
        found: the value; None: it was not measured.
    """

    name: str
    at_least: float
    found: float | None

    @property
    def verdict(self) -> str:
        """Whether it holds, in words."""
        if self.found is None:
            return "unmeasured"
        return "holds" if self.found >= self.at_least else "does not hold"


def seconds_for(part: Part, left_seconds: float) -> float | None:
    """The time limit of a part; None if too little is left to begin it."""
    return min(part.limit_seconds, left_seconds) if left_seconds >= LEAST_SECONDS else None


def read_rows(output: str) -> list[Row]:
    """The figures that a part has printed: each line that is a JSON object with the key `figure`."""
    found = []
    for line in output.splitlines():
        if not line.startswith('{"figure"'):
            continue
        try:
            found.append(json.loads(line))
        except ValueError:  # it was ended while it wrote
            continue
    return found


def read_checks(output: str) -> list[Row]:
    """The figures of pytest's output: its counts, and a row for each test that failed."""
    totals = re.findall(r"^=* ?((?:\d+ [a-z]+,? ?)+) in [\d.]+s", output, flags=re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, flags=re.MULTILINE)
    counts = [{"figure": "GPU checks", "settings": "pytest -m gpu", "text": totals[-1].strip()}] if totals else []
    return [*counts, *({"figure": "GPU checks", "settings": name, "text": "failed"} for name in failed)]


def find_gpu_tests(repository: Path) -> list[str]:
    """The files with tests that need a GPU, below `repository`: to collect all tests takes half a minute."""
    files = sorted((repository / "tests").rglob("test_*.py"))
    marked = re.compile(r"^(pytestmark = \[?| *@| +)pytest\.mark\.gpu\b", re.MULTILINE)
    found = [file for file in files if marked.search(file.read_text(encoding="utf-8"))]
    return [str(file.relative_to(repository)) for file in found]


def _best(rows: Iterable[Row], figure: str, settings: str = "") -> float | None:
    found = (row for row in rows if row["figure"] == figure and settings in row["settings"])
    return max((row["value"] for row in found if "value" in row), default=None)


def find_bars(rows: Sequence[Row]) -> list[Bar]:
    """The bars, from all figures."""
    training, graphed = _best(rows, TRAINING), _best(rows, BARE, GRAPHED)
    share = training / graphed if training is not None and graphed else None
    return [
        Bar("signs.yaml at 64 x 64, images/s of training", SPEED_BAR, training),
        Bar("of the bare network as one CUDA graph", GRAPH_BAR, share),
    ]


def derive(rows: Sequence[Row]) -> list[Row]:
    """What follows from figures: the time of a training step by that of the bare network, in the same way."""
    ways = (("data.storage=packed train.graph=false", PLAIN), ("data.storage=device train.graph=true", GRAPHED))
    found = []
    for settings, way in ways:
        training, bare = _best(rows, TRAINING, settings), _best(rows, BARE, way)
        if training and bare:
            about = {"figure": "loop overhead, signs.yaml", "settings": f"{settings}, against {way}"}
            found.append({**about, "value": bare / training, "unit": ""})
    return found


def describe(row: Row) -> str:
    """The value of a figure with its unit, or its text."""
    if "value" not in row:
        return str(row["text"])
    value, unit = row["value"], row["unit"]
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f} {unit}".rstrip()


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def make_report(machine: Mapping[str, Any], parts: Sequence[Ended], bars: Sequence[Bar]) -> str:
    """All figures as Markdown."""
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    lines += [_cells("figure", "settings", "value"), _cells("---", "---", "---")]
    rows = [row for part in parts for row in part.rows if row["figure"] != "machine"]
    lines += [_cells(row["figure"], row["settings"], describe(row)) for row in [*rows, *derive(rows)]]
    lines += ["", _cells("bar", "at least", "found", "verdict"), _cells("---", "---", "---", "---")]
    for bar in bars:
        wanted, found = (
            describe({"value": value, "unit": ""}) if value is not None else "-" for value in (bar.at_least, bar.found)
        )
        lines.append(_cells(bar.name, wanted, found, bar.verdict))
    lines += ["", _cells("part", "seconds", "end"), _cells("---", "---", "---")]
    lines += [_cells(part.name, f"{part.seconds:.0f}", part.end or "done") for part in parts]
    return "\n".join(lines)


def command_of(part: Part, options: argparse.Namespace) -> list[str]:
    """What a part starts."""
    if part.name == "checks":
        workers = ["-n", "4"] if options.workers else []
        flags = ["-q", "-m", "gpu", "-p", "no:cacheprovider", *workers]
        return [sys.executable, "-m", "pytest", *flags, *find_gpu_tests(REPOSITORY)]
    flags = ["--device", options.device, *(["--rehearse"] if options.rehearse else [])]
    data = ["--data", str(options.data.resolve())] if options.data is not None else []
    return [sys.executable, str(REPOSITORY / "benchmarks" / "gpu_parts.py"), part.name, *flags, *data]


def run_part(part: Part, command: Sequence[str], limit_seconds: float, folder: Path) -> Ended:
    """Run a part in `folder` until it ends, or the limit is over. What it has started ends with it."""
    from signs_dist.environment.process_table import kill_tree

    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    begun, end = time.perf_counter(), ""
    # Files, not pipes: processes that outlive the part could keep these open.
    with (folder / f"{part.name}.out").open("w+") as out, (folder / f"{part.name}.err").open("w+") as err:
        where = REPOSITORY if part.name == "checks" else folder
        environment = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen(command, stdout=out, stderr=err, cwd=where, env=environment) as process:
            try:
                process.wait(limit_seconds)
            except BaseException as error:
                kill_tree(process.pid)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                end = f"ended after its limit of {limit_seconds:.0f} s"
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    if not end and process.returncode:
        lines = errors.strip().splitlines()
        end = f"failed with exit code {process.returncode}{': ' + lines[-1] if lines else ''}"
        print(errors[-4000:], file=sys.stderr)
    rows = read_checks(output) if part.name == "checks" else read_rows(output)
    return Ended(part.name, time.perf_counter() - begun, end, rows)


def run_all(parts: Iterable[Part], options: argparse.Namespace, folder: Path) -> list[Ended]:
    """Run parts one after the other, each with its limit, all together within `options.seconds`."""
    begun, found = time.perf_counter(), []
    for part in parts:
        limit = seconds_for(part, options.seconds - (time.perf_counter() - begun))
        if limit is None:
            found.append(Ended(part.name, 0, "not begun: no time was left"))
            continue
        print(f"{part.name}: at most {limit:.0f} s", file=sys.stderr, flush=True)
        found.append(run_part(part, command_of(part, options), limit, folder))
        for row in found[-1].rows:
            print(f"  {row['figure']}, {row['settings']}: {describe(row)}", file=sys.stderr, flush=True)
    return found


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="PHOTOS", help="photos of signs (default: random pixels)")
    parser.add_argument("--only", action="append", choices=names, metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="for all parts (default: %(default)g)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU, to try this script")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file as well")
    parser.add_argument("--workers", type=int, default=4, help="0: one process runs the tests (default: %(default)d)")
    return parser


def main() -> int:
    options = build_parser().parse_args()
    if options.rehearse:
        options.device = "cpu"
    wanted = [part for part in PARTS if not options.only or part.name in options.only]
    with tempfile.TemporaryDirectory() as folder:
        parts = run_all(wanted, options, Path(folder))
    rows = [row for part in parts for row in part.rows]
    machine = next((row["facts"] for row in rows if row["figure"] == "machine"), {})
    bars = find_bars(rows)
    print(make_report(machine, parts, bars))
    if options.json is not None:
        content = {
            "version": 1,
            "rehearsal": options.rehearse,
            "machine": machine,
            "parts": [dataclasses.asdict(part) for part in parts],
            "derived": derive(rows),
            "bars": [{**dataclasses.asdict(bar), "verdict": bar.verdict} for bar in bars],
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 1 if any(part.end for part in parts) else 0


if __name__ == "__main__":
    sys.exit(main())
