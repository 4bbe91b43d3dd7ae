"""Files that fit in a head, and classes whose public members fit on a card."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.test_layers import PACKAGES, REPOSITORY

MOST_LINES = 400
MOST_MEMBERS = 15
REASON = "# Many members: "
"""A comment above a class that has more, with the reason behind it."""


def product_files() -> list[Path]:
    return sorted(file for package in (*PACKAGES, "examples") for file in (REPOSITORY / package).rglob("*.py"))


def public_members(node: ast.ClassDef) -> set[str]:
    """Fields, methods, and what __init__ sets on self, without those that begin with an underscore."""
    names: set[str] = set()
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            names.add(item.name)
            if item.name == "__init__":
                names |= {
                    target.attr
                    for target in ast.walk(item)
                    if isinstance(target, ast.Attribute)
                    and isinstance(target.ctx, ast.Store)
                    and isinstance(target.value, ast.Name)
                    and target.value.id == "self"
                }
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            names.add(item.target.id)
        elif isinstance(item, ast.Assign):
            names |= {target.id for target in item.targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def is_section_of_config(node: ast.ClassDef) -> bool:
    """A section of the config has a field for each setting."""
    return any(isinstance(base, ast.Name) and base.id in ("Section", "OwnCodeSection") for base in node.bases)


def crowded_classes(source: str) -> list[str]:
    lines = source.splitlines()
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and not is_section_of_config(node):
            members = public_members(node)
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if len(members) > MOST_MEMBERS and not lines[first - 2].startswith(REASON):
                found.append(f"{node.name} has {len(members)} public members")
    return found


def test_sizes() -> None:
    sources = {str(file.relative_to(REPOSITORY)): file.read_text(encoding="utf-8") for file in product_files()}
    num_lines = {name: len(source.splitlines()) for name, source in sources.items()}
    assert {name: number for name, number in num_lines.items() if number > MOST_LINES} == {}
    crowded = {name: crowded_classes(source) for name, source in sources.items()}
    assert {name: found for name, found in crowded.items() if found} == {}


def test_a_crowded_class_is_seen() -> None:
    fields = "\n".join(f"    field{number}: int" for number in range(16))
    assert crowded_classes(f"class Wide:\n{fields}") == ["Wide has 16 public members"]
    assert crowded_classes(f"{REASON}one for each column.\nclass Wide:\n{fields}") == []
    setters = "\n".join(f"        self.name{number} = 0" for number in range(16))
    assert crowded_classes(f"class Wide:\n    def __init__(self):\n{setters}") == ["Wide has 16 public members"]
    hidden = "\n".join(f"    _field{number}: int" for number in range(16))
    assert crowded_classes(f"class Narrow:\n{hidden}") == []
