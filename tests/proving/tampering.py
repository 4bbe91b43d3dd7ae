"""Forging runs: one bit is changed somewhere, and the forger renews the digests that the change would break.

A clumsy forger renews the SHA-256 beside a checkpoint and no more. A careful one also renews the chain, the result, the
digests in manifest.json and the receipt, so that all files agree: then only training again tells.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import signs_dist as sd
from signs_dist.checkpointing.resume_rules import settings_of_result
from signs_dist.checkpointing.state_digest import state_sha256
from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.checkpointing.tensors import save, weights_sha256
from signs_dist.config.reading import load_saved_config
from signs_dist.config.settings import Config
from signs_dist.files import write_json, write_text
from signs_dist.results.receipt import receipt_of
from signs_dist.run_folder.chain import links
from signs_dist.run_folder.digest import digest_path, file_sha256
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import to_line
from signs_dist.run_folder.records import EpochLine, MetricsLine, StateLine, StepLine, of_kind, to_fields
from signs_dist.run_folder.subject import Subject, config_sha256
from tests.sets import small_run, write_colour_set

EPOCHS = 4
NUM_STEPS = 3


def train_a_run(folder: Path, *settings: str) -> Path:
    """A run of four epochs of three steps on colours, with each epoch's state kept. Returns its folder."""
    colours = write_colour_set(folder / "colours", counts={"train": 12, "val": 4, "test": 4})
    own = small_run(
        colours,
        "exact=true",
        "checkpoint.keep_every_epochs=1",
        "checkpoint.keep=1",
        "log.every_steps=1",
        "train.precision=float32",
        *settings,
        epochs=EPOCHS,
        global_batch=12,
    )
    sd.fit(sd.load_config(None, own), run_dir=folder / "run", quiet=True)
    return folder / "run"


def copy_of(run: Path, folder: Path, without: str = "") -> Path:
    """A copy of a run to tamper with; its photos stay where they are."""
    return shutil.copytree(run, folder / "forged", ignore=shutil.ignore_patterns(without))


class Forger:
    """Changes one bit at a time, chosen by a seed.

    Args:
        run: the run folder. It is changed.
        seed: of the choices.
        is_careful: whether all digests are renewed.
    """

    def __init__(self, run: Path, seed: int, *, is_careful: bool) -> None:
        self.folder, self.is_careful = RunFolder(run), is_careful
        self._choose = random.Random(seed)

    def checkpoint(self, part: str) -> None:
        """A bit of a tensor of a kept state: of `model`, `ema` or `optimizer`."""
        epoch = self._choose.randint(1, EPOCHS)
        path = self.folder.checkpoints / f"epoch-{epoch:04}.pt"
        content = read_checkpoint(path)
        tensors = [tensor for tensor in _tensors(content[part]) if tensor.numel()]
        _flip_in_tensor(self._choose.choice(tensors), self._choose)
        save(path, content)
        write_text(digest_path(path), f"{file_sha256(path)}  {path.name}\n")
        if self.is_careful:
            self._renew_state(epoch * NUM_STEPS, state_sha256(content))

    def model(self) -> None:
        """A bit of the final weights."""
        weights = torch.load(self.folder.model, weights_only=True)
        tensors = [tensor for tensor in weights.values() if tensor.numel()]
        _flip_in_tensor(self._choose.choice(tensors), self._choose)
        save(self.folder.model, weights)
        if self.is_careful:
            self._change_result("weights_sha256", weights_sha256(weights))

    def number(self) -> None:
        """A bit of a number of the training or validation images."""
        lines = self.folder.read_metrics()
        numbers = [number for number, line in enumerate(lines) if type(line) in (StepLine, EpochLine)]
        at = self._choose.choice(numbers)
        # The result repeats the validation of the last epoch: that is another kind of tampering.
        names = ["train_loss", "train_accuracy", "lr"]
        if isinstance(lines[at], EpochLine) and lines[at].epoch < EPOCHS:
            names += ["val_loss", "val_macro_f1"]
        name = self._choose.choice(names)
        changed = dataclasses.replace(lines[at], **{name: self._flipped(getattr(lines[at], name))})
        self._write_lines([*lines[:at], changed, *lines[at + 1 :]])
        if isinstance(lines[at], EpochLine) and name.startswith("val_"):
            self._renew_best(lines[at].epoch, name, getattr(changed, name))
        self._renew_receipt()

    def state(self) -> None:
        """A digit of the state, the chain or the subject in a line of the chain."""
        lines = self.folder.read_metrics()
        at = self._choose.choice([number for number, line in enumerate(lines) if isinstance(line, StateLine)])
        name = "state" if self.is_careful else self._choose.choice(["state", "chain", "subject"])
        changed = dataclasses.replace(lines[at], **{name: self._other_digit(getattr(lines[at], name))})
        self._write_lines([*lines[:at], changed, *lines[at + 1 :]])
        self._renew_receipt()

    def config(self) -> None:
        """A bit of a number of the settings that change the weights."""
        # In so few steps a change of the others may change nothing: the forged settings then are as true as the real.
        names = ["optim.lr", *([] if self.is_careful else ["ema.decay", "optim.clip_norm"])]
        name, config = self._choose.choice(names), self._config()
        section, key = name.split(".")
        old = float(getattr(getattr(config, section), key))
        new = self._flipped(old, bits=range(40, 52))
        text = self.folder.config.read_text()
        assert f"{key}: {old}" in text
        write_text(self.folder.config, text.replace(f"{key}: {old}", f"{key}: {new!r}", 1))
        if self.is_careful:
            plan = self._manifest()["plan"]
            chosen = {"train.precision": plan["precision"], "train.micro_batch": plan["micro_batch"]}
            self._renew_subject(config=config_sha256({**settings_of_result(self._config()), **chosen}))

    def photo(self, colours: Path) -> None:
        """A bit of a pixel of a photo. A careful forger takes the digests of a run on the changed photos."""
        split = self._choose.choice(["train", "val", "test"])
        path = self._choose.choice(sorted((colours / f"{split}_signs").glob("*.jpg")))
        pixels = Image.open(path).convert("RGB")
        place = (self._choose.randrange(16), self._choose.randrange(16))
        red, green, blue = pixels.getpixel(place)  # type: ignore[misc]
        pixels.putpixel(place, (red ^ 1 << self._choose.randrange(8), green, blue))
        pixels.save(path, "PNG")  # JPEG would change its neighbours too
        if self.is_careful:
            other = colours.parent / "other"
            config = self._config().model_dump(mode="json")
            config["data"] |= {"root": str(colours)}
            config["train"] |= {"epochs": 1}
            sd.fit(Config(**config), run_dir=other, quiet=True)
            manifest = json.loads((other / "manifest.json").read_text())
            ours = self._manifest()
            ours["data"]["fingerprints"] = manifest["data"]["fingerprints"]
            write_json(self.folder.manifest, ours)
            self._renew_subject(data=manifest["subject"]["data"])

    def result(self) -> None:
        """A bit of a number of the result."""
        result = json.loads(self.folder.result.read_text())
        name = self._choose.choice(["test_accuracy", "test_loss", "test_correct", "weights_sha256", "test_macro_f1"])
        old = result[name]
        new = self._other_digit(old) if isinstance(old, str) else self._flipped(old)
        self._change_result(name, new)

    def sizes(self) -> None:
        """The number of test photos in the result, which no line of metrics.jsonl has."""
        sizes = json.loads(self.folder.result.read_text())["split_sizes"]
        self._change_result("split_sizes", {**sizes, "test": sizes["test"] + 1})

    def receipt(self) -> None:
        """A bit of receipt.json."""
        content = bytearray(self.folder.receipt.read_bytes())
        at = self._choose.randrange(len(content))
        content[at] ^= 1 << self._choose.randrange(8)
        self.folder.receipt.write_bytes(content)

    def _config(self) -> Config:
        return load_saved_config(self.folder.config)

    def _manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self.folder.manifest.read_text())
        return manifest

    def _flipped(self, number: float, bits: range = range(52)) -> float:
        """The number with another bit: of a float by default one of the fraction, so that it stays near."""
        if isinstance(number, int):
            return number ^ 1
        whole = struct.unpack("<Q", struct.pack("<d", number))[0] ^ 1 << self._choose.choice(bits)
        flipped: float = struct.unpack("<d", struct.pack("<Q", whole))[0]
        return flipped

    def _other_digit(self, digest: str) -> str:
        at = self._choose.randrange(len(digest))
        return f"{digest[:at]}{int(digest[at], 16) ^ 1 << self._choose.randrange(4):x}{digest[at + 1 :]}"

    def _change_result(self, name: str, value: Any) -> None:
        result = json.loads(self.folder.result.read_text())
        write_json(self.folder.result, {**result, name: value})
        self._renew_receipt()

    def _renew_best(self, epoch: int, name: str, value: float) -> None:
        result = json.loads(self.folder.result.read_text())
        if self.is_careful and result["best_epoch"] == epoch:
            write_json(self.folder.result, {**result, f"best_{name}": value})

    def _renew_state(self, step: int, state: str) -> None:
        lines = self.folder.read_metrics()
        self._write_lines(
            [
                dataclasses.replace(line, state=state) if isinstance(line, StateLine) and line.step == step else line
                for line in lines
            ]
        )
        self._renew_receipt()

    def _renew_subject(self, **parts: str) -> None:
        manifest = self._manifest()
        subject = Subject.from_dict(manifest["subject"])
        assert subject is not None
        subject = dataclasses.replace(subject, **parts)
        write_json(self.folder.manifest, {**manifest, "subject": subject.as_dict()})
        self._write_lines(
            [
                dataclasses.replace(line, subject=subject.sha256) if isinstance(line, StateLine) else line
                for line in self.folder.read_metrics()
            ]
        )
        self._renew_receipt()

    def _write_lines(self, lines: list[MetricsLine]) -> None:
        if self.is_careful:
            lines = renewed(lines)
        self.folder.metrics.write_bytes(b"".join(to_line(to_fields(line)) for line in lines))

    def _renew_receipt(self) -> None:
        if self.is_careful:
            write_json(self.folder.receipt, receipt_of(self.folder, json.loads(self.folder.result.read_text())))


def renewed(lines: list[MetricsLine]) -> list[MetricsLine]:
    """The lines with a chain that is whole."""
    for number in range(len(of_kind(lines, StateLine))):
        link = list(links(lines))[number]
        whole = dataclasses.replace(link.line, chain=link.chain)
        lines = [whole if line is link.line else line for line in lines]
    return lines


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else []
    return [tensor for item in items for tensor in _tensors(item)]


def _flip_in_tensor(tensor: Tensor, choose: random.Random) -> None:
    flat = tensor.reshape(-1).view(torch.uint8)
    assert flat.data_ptr() == tensor.data_ptr()
    flat[choose.randrange(flat.numel())] ^= 1 << choose.randrange(8)


KINDS: dict[str, Callable[[Forger, Path], None]] = {
    "weights": lambda forger, colours: forger.checkpoint("model"),
    "average": lambda forger, colours: forger.checkpoint("ema"),
    "optimizer": lambda forger, colours: forger.checkpoint("optimizer"),
    "final weights": lambda forger, colours: forger.model(),
    "a number": lambda forger, colours: forger.number(),
    "the chain": lambda forger, colours: forger.state(),
    "config": lambda forger, colours: forger.config(),
    "a photo": lambda forger, colours: forger.photo(colours),
    "the result": lambda forger, colours: forger.result(),
    "the receipt": lambda forger, colours: forger.receipt(),
}
"""What is tampered with → by what."""
