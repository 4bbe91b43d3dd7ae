"""Every Python block of the pages runs. docs/python-api.md is run by tests/test_docs.py."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from tests.markdown_pages import blocks, pages

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_ELSEWHERE = {
    "docs/python-api.md": "tests/test_docs.py",
    "docs/your-code.md": "tests/data/test_own_reader.py",
}
"""Page with Python blocks → the test file that runs them."""


def python_of(page: str) -> list[str]:
    found = blocks((REPOSITORY / page).read_text(encoding="utf-8"))
    return ["\n".join(block.lines) for block in found if block.language == "python"]


def run_api(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notebook.py").write_text(code)
    runpy.run_path("notebook.py")
    assert "function connect" in capsys.readouterr().out


def run_exact_mode(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line is of a network's constructor, and one of its forward pass."""
    first, second = code.splitlines()
    (folder / "net.py").write_text(
        f"""
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {first}

    def forward(self):
        {second}
"""
    )
    net = runpy.run_path("net.py")["Net"]()
    net()
    assert net.state_dict()["num_passes"] == 1


def run_hand_it_on(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With an ONNX file that has the inputs and outputs of an export."""
    pytest.importorskip("onnxruntime")
    import onnx
    from onnx import TensorProto, helper

    shape = ["n", "height", "width", 3]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["logits"], axes=[1, 2], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("logits", "probabilities")]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)], outputs
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    PIL.Image.new("RGB", (6, 4), (30, 20, 10)).save(folder / "photo.jpg")
    (folder / "notebook.py").write_text(code)
    names = runpy.run_path("notebook.py")
    assert names["logits"].argmax() == 0
    assert names["probabilities"].shape == (1, 3)


RUN_HERE: dict[str, Callable[[str, Path, pytest.CaptureFixture[str]], None]] = {
    "docs/api.md": run_api,
    "docs/exact-mode.md": run_exact_mode,
    "docs/hand-it-on.md": run_hand_it_on,
}


def test_no_python_block_escapes() -> None:
    """The pages of the tutorial are run by tests/test_tutorial.py, all that there are."""
    names = [page.relative_to(REPOSITORY).as_posix() for page in pages(REPOSITORY)]
    with_code = {name for name in names if not name.startswith("docs/tutorial/") and python_of(name)}
    assert with_code == RUN_HERE.keys() | RUN_ELSEWHERE.keys(), "add a function to RUN_HERE that runs the new block"
    for page, file in RUN_ELSEWHERE.items():
        assert Path(page).name in (REPOSITORY / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", RUN_HERE)
def test_the_python_blocks_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = python_of(page)
    RUN_HERE[page](code, tmp_path, capsys)
