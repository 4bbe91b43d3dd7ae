"""Packages that only some uses need. Each comes with an extra of this project, as in pip install 'signs_dist[timm]'."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from signs_dist.errors import UserError


def require_extra(extra: str, module: str, needed_by: str) -> None:
    """Refuse what needs a package that is not installed. Call it before the package is imported.

    Args:
        extra: the extra of this project that installs the package.
        module: what is imported, a top-level name such as `timm`. It is looked for and not imported.
        needed_by: what the user gave that needs it, such as `model.name=timm:resnet18`: it begins the message.

    Raises:
        UserError: the message says what to type.
    """
    if not is_installed(module):
        raise UserError(f"{needed_by} needs {module}, which is not installed. Type: {how_to_install([extra])}")


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported. It is not imported."""
    return importlib.util.find_spec(module) is not None


def how_to_install(extras: Iterable[str]) -> str:
    """The command that installs extras."""
    return f"pip install 'signs_dist[{','.join(extras)}]'"
