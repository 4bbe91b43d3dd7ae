"""Names a file that was given as weights and holds none, and says how to make weights from it. Nothing in it is run."""

from __future__ import annotations

import codecs
import json
import pickle
import zipfile
from pathlib import Path

HEAD_BYTES = 4096
"""How much of a file is looked at."""
_SAVE_WEIGHTS = "torch.save(model.state_dict(), 'weights.pt')"
_MAGIC = (
    (b"\x89HDF", "an HDF5 file", f"Load it with the library that wrote it, then {_SAVE_WEIGHTS}"),
    (b"\x93NUMPY", "a NumPy array", "Give a file that torch.save wrote."),
    (b"\x1f\x8b", "a gzip file", "Unpack it first: gunzip FILE"),
    (b"GGUF", "a GGUF file", "Give a file that torch.save wrote."),
    (b"\x89PNG", "an image", "Give a file that torch.save wrote."),
    (b"\xff\xd8\xff", "an image", "Give a file that torch.save wrote."),
)
"""(first bytes, what it is, what to do)"""


def describe_other_file(path: Path, error: Exception) -> str:
    """What a file is, and what to do to get weights from it.

    Args:
        path: a regular file.
        error: what torch.load(…, weights_only=True) raised.
    """
    known = _describe(path, holds_objects=isinstance(error, pickle.UnpicklingError))
    if known:
        return known
    reason = str(error).strip().partition("\n")[0][:200]
    # torch's advice about `weights_only` is to run the code in the file.
    return reason if reason and "weights" not in reason.lower() else "torch.save did not write it, or it is damaged."


def _describe(path: Path, *, holds_objects: bool) -> str:
    """As `describe_other_file`; "" if that is not known. `holds_objects`: whether torch met objects of Python in it."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}."
    if not head:
        return "it is empty. Copy or download it again."
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path, holds_objects=holds_objects)
    if head.startswith(b"\x80") and len(head) > 1 and head[1] <= 5:
        return _WHOLE_MODULE
    if head[8:9] == b"{" and _is_safetensors(head, path.stat().st_size):
        return (
            "it is a safetensors file. Convert it: "
            "torch.save(safetensors.torch.load_file('model.safetensors'), 'weights.pt')"
        )
    for magic, kind, advice in _MAGIC:
        if head.startswith(magic):
            return f"it is {kind}. {advice}"
    return _describe_text(head)


_WHOLE_MODULE = (
    "it holds Python objects, such as a whole model, and to load them would run code from the file. Where the model "
    f"was made, save its weights alone: {_SAVE_WEIGHTS}"
)


def _describe_zip(path: Path, *, holds_objects: bool) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "it is cut off or damaged. Copy or download it again."
    if any(name.endswith("/constants.pkl") for name in names):
        return f"it is a TorchScript archive. Save its weights alone: model = torch.jit.load(FILE); {_SAVE_WEIGHTS}"
    if any(name.endswith("/data.pkl") for name in names):
        return _WHOLE_MODULE if holds_objects else ""
    return "it is a zip archive that torch.save did not write. Unpack it, and give the file with the weights."


def is_safetensors_file(path: Path) -> bool:
    """Whether a file begins as a safetensors file does. False for what cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        return head[8:9] == b"{" and _is_safetensors(head, path.stat().st_size)
    except OSError:
        return False


def _is_safetensors(head: bytes, num_bytes: int) -> bool:
    # 8 bytes with the length of a JSON header, the header, the tensors (github.com/huggingface/safetensors).
    length = int.from_bytes(head[:8], "little")
    if length > num_bytes - 8:
        return False
    if length > len(head) - 8:
        return True
    try:
        return isinstance(json.loads(head[8 : 8 + length]), dict)
    except ValueError:
        return False


def _describe_text(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself. Type: git lfs pull"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut off
    except UnicodeDecodeError:
        return ""
    if "\0" in text:
        return ""
    if text.lstrip()[:15].lower().startswith(("<!doctype", "<html")):
        return "it is a web page, as a download that failed leaves it. Download the file itself."
    return "it is a text file. Give a file that torch.save wrote."
