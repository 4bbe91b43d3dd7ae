"""Show what made a checkpoint, and verify that checkpoints are whole.

python -m signs_dist.checkpoint show runs/signs/checkpoints/last.pt     the command, config, versions, data and attempts
python -m signs_dist.checkpoint verify runs/signs/checkpoints/*.pt      compare each with the SHA-256 beside it
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError
from signs_dist.monitoring.plain_text import one_line
from signs_dist.run_folder.digest import find_damage
from signs_dist.run_folder.folder import RunFolder, timestamp


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.checkpoint",
        description="Show and verify the checkpoints of a run. No code in a file is run.",
        epilog="Exit codes: 0 all are whole, 1 a checkpoint is broken, 2 wrong input.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{show,verify}")
    show = commands.add_parser("show", help="print what made a checkpoint: command, config, versions, data, attempts")
    show.add_argument("path", type=Path, metavar="FILE", help="a checkpoint, or a run folder for its newest checkpoint")
    show.add_argument("--json", action="store_true", help="print everything except the tensors as JSON")
    verify = commands.add_parser("verify", help="compare checkpoints with the SHA-256 beside them")
    verify.add_argument("paths", type=Path, nargs="+", metavar="FILE", help="checkpoints, or run folders")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Show or verify checkpoints."""
    options = build_parser().parse_args(arguments)
    if options.command == "verify":
        return verify([file for path in options.paths for file in find_files(path)])
    show(find_files(options.path)[-1], as_json=options.json)
    return EXIT_OK


def find_files(path: Path) -> list[Path]:
    """The checkpoint at a path, or all checkpoints of a run folder, the newest last. Raises `UserError` without one."""
    if not os.path.lexists(path):  # a link to nothing is a broken checkpoint
        raise UserError(f"{path}: no such file. Give a run folder, or a file in its folder checkpoints/.")
    if not path.is_dir():
        return [path]
    folder = RunFolder(path).checkpoints if RunFolder(path).checkpoints.is_dir() else path
    from signs_dist.checkpointing.store import CheckpointStore

    files = [file for _, file in CheckpointStore(folder).files()]
    if not files:
        raise UserError(f"{folder} holds no checkpoint.")
    return files[::-1]


def verify(files: Sequence[Path]) -> int:
    """Print a line for each file. Returns the exit code: 1 if a file is broken."""
    damages = {file: find_damage(file) or _find_faults(file) for file in files}
    # A run that trains deletes old checkpoints meanwhile.
    damages = {file: damage for file, damage in damages.items() if os.path.lexists(file) or not damage}
    for file, damage in damages.items():
        print(one_line(f"{file}: {f'BROKEN: {damage}' if damage else 'OK'}"))
    return EXIT_FAILED if any(damages.values()) else EXIT_OK


def _find_faults(file: Path) -> str:
    """What is wrong with the content of a checkpoint whose bytes are whole; "" if nothing is."""
    from signs_dist.checkpointing.store import read_checkpoint
    from signs_dist.errors import CheckpointError

    try:
        read_checkpoint(file)
    except (CheckpointError, UserError) as error:
        return str(error).removeprefix(f"{file} ").removeprefix("is broken: ").removesuffix(".")
    return ""


def show(file: Path, *, as_json: bool) -> None:
    """Print what made a checkpoint, and its config."""
    from signs_dist.checkpointing.content import require_whole
    from signs_dist.errors import CheckpointError
    from signs_dist.models.archive_members import MAX_PICKLE_BYTES
    from signs_dist.models.weights import read_plain

    content = read_plain(file, MAX_PICKLE_BYTES)
    if not isinstance(content.get("run"), dict) or not isinstance(content.get("config"), dict):
        keys = ", ".join(str(key)[:40] for key in list(content)[:5] if isinstance(key, str))
        raise UserError(
            f"{file} is no checkpoint of a run: it holds {keys or 'nothing'}. Give a run folder, "
            f"or a file in its folder checkpoints/."
        )
    try:
        require_whole(content, file)
    except CheckpointError as error:
        raise UserError(f"{error} Show another one: {file.parent}") from error
    damage = find_damage(file)
    if as_json:
        import json

        print(json.dumps(_plain(content) | {"file": str(file), "damage": damage}, indent=2, ensure_ascii=False))
        return
    rows = [
        ("file", str(file)),
        ("bytes", f"{file.stat().st_size:,}; {damage or 'its SHA-256 matches the SHA-256 beside it'}"),
    ]
    for name, value in [*rows, *describe_checkpoint(content)]:
        print(f"{name:>12}  {one_line(value)}")
    print("\nconfig:")
    import yaml

    print(yaml.safe_dump(content["config"], sort_keys=False, allow_unicode=True), end="")


def describe_checkpoint(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, text) rows on what made a checkpoint, without its config."""
    run, cursor, best = content["run"], content["cursor"], content["best"]
    data, code = _part(run, "data"), _part(run, "code")
    changed = ", with uncommitted changes" if code.get("dirty") else ""
    versions = ", ".join(f"{name} {version}" for name, version in _part(run, "versions").items() if version)
    fingerprints = ", ".join(f"{split} {digest[:12]}" for split, digest in _part(data, "fingerprints").items())
    epoch, step = cursor["epoch"], cursor["step"]
    place = f"epoch {epoch + 1}, step {step}" if step else f"end of epoch {epoch}"
    average = ", and their average" if content["ema"] else ""
    num_parameters = sum(tensor.numel() for tensor in content["model"].values())
    return [
        ("made", timestamp(content["saved_at"])),
        ("place", f"{place}; {content['images']:,} images seen"),
        ("next rate", f"{content['learning_rate']:.6g}"),
        ("best", f"epoch {best['epoch']}, {100 * best['accuracy']:.1f} %" if best else "no epoch scored yet"),
        ("weights", f"{len(content['model'])} tensors, {num_parameters:,} values{average}"),
        ("command", " ".join(_texts(run.get("command")))),
        ("in", str(run.get("working_folder"))),
        ("versions", f"Python {run.get('python')}, {versions}"),
        ("commit", f"{code['commit']}{changed}" if code.get("commit") else "not from a git checkout"),
        ("data", f"{data.get('name')} in {data.get('root')}, {len(content['classes'])} classes; {fingerprints}"),
        ("batch", f"{content['global_batch']}, micro-batches of {content['micro_batch']}, {content['precision']}"),
        ("host", f"{run.get('host')}, {run.get('platform')}"),
        ("attempts", f"{run.get('attempts')}; processes of each: {', '.join(_texts(run.get('world_sizes')))}"),
    ]


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping within the notes about a run; empty where a file has none."""
    part = values.get(name)
    return part if isinstance(part, dict) else {}


def _texts(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, (list, tuple)) else []


def _plain(value: Any) -> Any:
    """The same value with each tensor as its shape and dtype."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "dtype"):
        return f"tensor {list(value.shape)} {value.dtype}"
    return value


if __name__ == "__main__":
    sys.exit(run_command(main))
