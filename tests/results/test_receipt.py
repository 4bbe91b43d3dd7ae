"""The receipt of a run: what it holds, what it leaves out, and how damage shows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.files import write_json
from signs_dist.results.receipt import (
    claim_of,
    is_intact,
    lines_of,
    make_receipt,
    read_receipt,
    receipt_of,
    sealed,
    shortened_settings,
    with_proof,
    without_machine,
    write_receipt,
)
from signs_dist.run_folder.chain import check_chain
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import SaveLine, StartLine
from tests.proving.claims import SUBJECT, some_lines, some_result

MANIFEST = {
    "command": ["python", "-m", "signs_dist.train", "--run-dir", "/home/me/runs/a"],
    "working_folder": "/home/me",
    "python": "3.11",
    "versions": {"torch": "2.13"},
    "subject": SUBJECT,
    "plan": {"micro_batch": 2},
    "arithmetic": {"version": 1, "names": {"torch": "2.13"}, "subject": "s", "digest": "d"},
    "data": {"name": "/home/me/photos", "root": "/home/me/photos", "classes": ["0"], "fingerprints": {"train": "f"}},
    "code": {"commit": "c0ffee", "dirty": False, "files": {"mynet": {"path": "/home/me/mynet.py", "sha256": "5"}}},
}
CONFIG = {"data": {"root": "/home/me/photos", "reader_args": {"password": "1234"}}, "optim": {"lr": 0.1}}


def some_receipt() -> dict[str, Any]:
    lines = [*some_lines(), SaveLine(epoch=3, step=12, stall_seconds=0.1)]
    return make_receipt(CONFIG, MANIFEST, lines, some_result(), [2, 1])


def test_a_receipt_holds_what_others_need() -> None:
    receipt = some_receipt()
    assert receipt["config"]["optim"] == {"lr": 0.1}
    assert receipt["data"]["images"] == {"train": 32, "val": 8}
    assert receipt["data"]["fingerprints"] == {"train": "f"}
    assert receipt["code"]["files"] == {"mynet": "5"}
    assert (receipt["code"]["commit"], receipt["code"]["versions"]) == ("c0ffee", {"torch": "2.13"})
    assert receipt["arithmetic"] == MANIFEST["arithmetic"]
    assert receipt["processes"] == [2, 1]
    assert receipt["subject"] == SUBJECT
    assert receipt["result"]["weights_sha256"] == "w"
    assert receipt["proved"] == []


def test_its_lines_alone_show_whether_the_chain_is_whole() -> None:
    receipt = json.loads(json.dumps(some_receipt()))
    assert check_chain(lines_of(receipt)) == []
    assert all("images_per_second" not in line for line in receipt["chain"])
    receipt["chain"][1]["train_loss"] += 1e-9
    assert check_chain(lines_of(receipt))


def test_it_holds_no_folder_of_the_machine_and_no_password() -> None:
    text = json.dumps(some_receipt())
    assert "/home" not in text
    assert "1234" not in text
    assert '"root": "photos"' in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data/photos", "photos"),
        ("~/photos", "photos"),
        (r"C:\data\photos", "photos"),
        (["/a/b", "c/d", 3, None, True], ["b", "c/d", 3, None, True]),
        ({"api_key": "x", "num_tokens": 5, "args": {"Secret": "y"}}, {"api_key": "withheld", "num_tokens": 5}),
        ("https://me:pass@host/x", "https://host/x"),
        ("mynet:make", "mynet:make"),
    ],
)
def test_what_belongs_to_a_machine_is_left_out(value: Any, expected: Any) -> None:
    found = without_machine(value)
    if isinstance(value, dict):
        assert found.pop("args") == {"Secret": "withheld"}
    assert found == expected


def test_settings_that_are_not_whole_are_named() -> None:
    assert some_receipt()["shortened"] == ["data.root", "data.reader_args"]
    config = {"model": {"weights": "/w.pt", "args": {"sizes": (1, 2)}}, "data": {"root": "photos"}, "exact": True}
    assert shortened_settings(config) == ["model.weights"]


def test_any_changed_bit_shows(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    write_json(path, with_proof(some_receipt(), {"verdict": "PASS", "by": "a reviewer"}))
    whole, choose = path.read_bytes(), random.Random(0)
    assert is_intact(read_receipt(path))
    for _ in range(200):
        content = bytearray(whole)
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
        path.write_bytes(content)
        try:
            assert not is_intact(read_receipt(path))
        except UserError:
            continue


def test_a_proof_is_added_and_is_no_part_of_the_claim() -> None:
    receipt = some_receipt()
    proved = with_proof(receipt, {"verdict": "PASS"})
    assert is_intact(proved)
    assert proved["proved"] == [{"verdict": "PASS"}]
    assert claim_of(proved) == claim_of(receipt)
    assert [each["verdict"] for each in with_proof(proved, {"verdict": "FAIL"})["proved"]] == ["PASS", "FAIL"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is damaged, or no receipt: it is not JSON"),
        ("[]", "is no receipt of an exact run"),
        ('{"finished": true}', "is no receipt of an exact run"),
        (json.dumps(sealed({**some_receipt(), "version": 2})), "has version 2 of a receipt"),
        (json.dumps(sealed({**some_receipt(), "chain": {}})), "its entry chain is missing or of another kind"),
    ],
)
def test_files_that_are_no_receipt(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "receipt.json").write_text(content)
    with pytest.raises(UserError, match=told):
        read_receipt(tmp_path / "receipt.json")


def test_a_receipt_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_receipt(tmp_path / "receipt.json")
    with pytest.raises(UserError, match="a folder, not a file"):
        read_receipt(tmp_path)


def test_it_is_written_at_the_end_of_an_exact_run_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.write_config("exact: true\noptim: {lr: 0.1}\n")
    folder.write_manifest(MANIFEST)
    folder.add(StartLine(attempt=1, time="now", first_step=0, world_size=3))
    write_receipt(folder, some_result())
    assert not folder.receipt.exists()  # there is no chain yet
    for line in some_lines():
        folder.add(line)
    write_receipt(folder, some_result(exact=False))
    assert not folder.receipt.exists()
    write_receipt(RunFolder(folder.path, is_writer=False), some_result())
    assert not folder.receipt.exists()
    write_receipt(folder, some_result())
    receipt = read_receipt(folder.receipt)
    assert receipt["processes"] == [3]
    assert receipt["config"] == {"exact": True, "optim": {"lr": 0.1}}
    assert claim_of(receipt) == claim_of(receipt_of(folder, some_result()))


def test_a_run_that_is_trained_further_sets_its_receipt_aside(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    folder.write_result(some_result())
    write_json(folder.receipt, some_receipt())
    folder.set_result_aside()
    assert not folder.receipt.exists()
    assert (folder.path / "receipt-3-epochs.json").exists()
