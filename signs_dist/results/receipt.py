"""receipt.json: what one hands to a reviewer of an exact run, and what others have proved of it.

It holds the settings, digests of data and code, the arithmetic, the chain of states with the numbers that it covers,
the result, and an entry for each time that `prove` trained a part again. With the photos, the file alone suffices to
train the run again. It holds no path of the machine, and no password.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from signs_dist.errors import UserError
from signs_dist.files import find_other_kind
from signs_dist.results.run_settings import read_raw_settings
from signs_dist.run_folder.chain import in_order
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import (
    MEASURED,
    METRICS_KINDS,
    MetricsLine,
    SaveLine,
    StartLine,
    StateLine,
    of_kind,
    parse_lines,
    to_fields,
)

KIND = "receipt of an exact run of signs_dist"
VERSION = 1
MOST_BYTES = 2**30
"""Of a receipt that is read."""
WITHHELD = "withheld"
"""In place of a text that may be a password."""
_SECRET = re.compile(r"password|passwd|secret|token|credential|api_?key|access_?key", re.IGNORECASE)
_USER_OF_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def make_receipt(
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    lines: Sequence[MetricsLine],
    result: Mapping[str, Any],
    world_sizes: Sequence[int],
) -> dict[str, Any]:
    """The receipt of a run that nobody has proved yet.

    Args:
        config: the sections of config.yaml.
        manifest: the contents of manifest.json.
        lines: the records of metrics.jsonl.
        result: the contents of result.json.
        world_sizes: the number of processes of each attempt.
    """
    data, code = _part(manifest, "data"), _part(manifest, "code")
    files = {name: _part(_part(code, "files"), name).get("sha256") for name in _part(code, "files")}
    return sealed(
        {
            "kind": KIND,
            "version": VERSION,
            "config": without_machine(config),
            "shortened": shortened_settings(config),
            "data": {
                "name": without_machine(data.get("name")),
                "classes": data.get("classes"),
                "images": result.get("split_sizes"),
                "fingerprints": data.get("fingerprints"),
            },
            "code": {
                "commit": code.get("commit"),
                "changed": code.get("dirty"),
                "files": files,
                "python": manifest.get("python"),
                "versions": manifest.get("versions"),
            },
            "subject": manifest.get("subject"),
            "plan": manifest.get("plan"),
            "arithmetic": manifest.get("arithmetic"),
            "processes": list(world_sizes),
            "chain": covered_lines(lines),
            "result": without_machine(result),
            "proved": [],
        }
    )


def receipt_of(folder: RunFolder, result: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt of the run in a folder, from its other files.

    Args:
        folder: the run folder.
        result: the contents of its result.json, which need not be written yet.
    """
    starts = of_kind(folder.read_attempts(), StartLine)
    return make_receipt(
        read_raw_settings(folder.config),
        read_json(folder.manifest),
        folder.read_metrics(),
        result,
        [line.world_size for line in starts],
    )


def write_receipt(folder: RunFolder, result: Mapping[str, Any]) -> None:
    """Write the receipt of an exact run that ends, before its result.json. Nothing is written for other runs.

    Args:
        folder: the run folder.
        result: the contents of result.json.
    """
    if folder.is_writer and result["exact"] and of_kind(folder.read_metrics(), StateLine):
        folder.write_json(folder.receipt.name, receipt_of(folder, result))


def covered_lines(lines: Sequence[MetricsLine]) -> list[dict[str, Any]]:
    """The lines of states, and those of the numbers that they cover, as plain values by steps, without times."""
    return [
        {name: value for name, value in to_fields(line).items() if name not in MEASURED}
        for line in in_order(line for line in lines if not isinstance(line, SaveLine))
    ]


def lines_of(receipt: Mapping[str, Any]) -> list[MetricsLine]:
    """The lines in a receipt, with measured times of 0. Those that are no lines are omitted: the chain tells."""
    lines = [{**dict.fromkeys(MEASURED, 0.0), **line} for line in receipt["chain"] if isinstance(line, dict)]
    return parse_lines(lines, METRICS_KINDS)


def sealed(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt with the SHA-256 of its other entries, which shows a file that was damaged."""
    return {**receipt, "sha256": _digest(receipt)}


def is_intact(receipt: Mapping[str, Any]) -> bool:
    """Whether a receipt has the SHA-256 of its entries."""
    return receipt.get("sha256") == _digest(receipt)


def claim_of(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """What a receipt says about its run, without what was proved of it later."""
    return {name: value for name, value in receipt.items() if name not in ("proved", "sha256")}


def with_proof(receipt: Mapping[str, Any], proof: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt with a further entry in `proved`."""
    return sealed({**receipt, "proved": [*receipt["proved"], dict(proof)]})


def read_receipt(path: Path) -> dict[str, Any]:
    """Read a receipt. Whether it is intact is another question: see `is_intact`.

    Raises:
        UserError: there is no such file, it is no receipt, or a later release wrote it.
    """
    if kind := find_other_kind(path):
        raise UserError(f"{path} cannot be read as a receipt: it is {kind}, not a file.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is no receipt: it has more than {MOST_BYTES:,} bytes.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. Give the receipt.json that an exact run has left in its run folder."
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged, or no receipt: it is not JSON.") from None
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise UserError(f"{path} is no receipt of an exact run. Give the receipt.json of its run folder.")
    if values.get("version") != VERSION:
        raise UserError(
            f"{path} has version {str(values.get('version'))[:20]} of a receipt, and this release reads version "
            f"{VERSION}. Use the release that wrote it."
        )
    kinds = {"config": dict, "data": dict, "chain": list, "result": dict, "proved": list, "subject": dict}
    for name, expected in kinds.items():
        if not isinstance(values.get(name), expected):
            raise UserError(f"{path} is damaged: its entry {name} is missing or of another kind.")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def without_machine(value: Any) -> Any:
    """A plain value whose absolute paths are their last names, and whose passwords are withheld."""
    if isinstance(value, Mapping):
        return {
            str(name): WITHHELD if isinstance(each, str) and _SECRET.search(str(name)) else without_machine(each)
            for name, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_machine(each) for each in value]
    return _without_folder(value) if isinstance(value, str) else value


def shortened_settings(config: Mapping[str, Any]) -> list[str]:
    """The settings, by their dotted names, of which a receipt does not hold the whole value."""
    return [
        f"{section}.{name}"
        for section in config
        for name, value in _part(config, section).items()
        if without_machine({name: value})[name] != _as_plain(value)
    ]


def _as_plain(value: Any) -> Any:
    """The value with lists for tuples, as in JSON."""
    if isinstance(value, Mapping):
        return {str(name): _as_plain(each) for name, each in value.items()}
    return [_as_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _without_folder(text: str) -> str:
    if text.startswith(("/", "~")):
        return PurePosixPath(text).name
    if re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        return PureWindowsPath(text).name
    return _USER_OF_ADDRESS.sub("", text)


def _digest(receipt: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of all entries but itself, whatever their order."""
    rest = {name: value for name, value in receipt.items() if name != "sha256"}
    # File names that are not UTF-8 hold lone surrogates, which ASCII writes as escapes.
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, Mapping) else {}
