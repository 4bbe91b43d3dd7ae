"""Where the launchers are, and so by which names they are imported and typed.

A checkout has the folders launch/ and slurm/ beside signs_dist/. A wheel holds them as signs_dist.launch and
signs_dist.slurm (pyproject.toml), because `launch` and `slurm` are names that other projects install.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder of signs_dist."""
TYPED_IN_A_CHECKOUT = {
    "local": "python -m launch.local",
    "submit": "python launch/submit.py",
    "dev-cluster": "python -m slurm.dev_cluster",
    "agent": "python -m launch.agent",
    "requeue": "python -m launch.requeue",
}
"""What starts a launcher in a checkout, by its command of signs-dist."""


def has_launchers(package: Path) -> bool:
    """Whether a folder of signs_dist holds the launchers, as a wheel's does; a checkout has them beside it."""
    return (package / "launch" / "__init__.py").is_file()


def spell(command: str, package: Path = PACKAGE) -> str:
    """What a person types to start a launcher: `python launch/submit.py` in a checkout, else `signs-dist submit`."""
    return f"signs-dist {command}" if has_launchers(package) else TYPED_IN_A_CHECKOUT[command]


def full_name(module: str, package: Path = PACKAGE) -> str:
    """The name that imports a launcher's module: `launch.local` in a checkout, else `signs_dist.launch.local`."""
    return f"signs_dist.{module}" if has_launchers(package) else module


def add_checkout_to_path(package: Path = PACKAGE) -> None:
    """Let this process, and those that it starts, import `launch` and `slurm` of the checkout from any folder.

    Without effect for a wheel, and where the checkout's own packages are found already.
    """
    checkout = package.parent
    if has_launchers(package) or _find_folder("launch") == checkout / "launch":
        return
    sys.path.insert(0, str(checkout))
    importlib.invalidate_caches()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH", "")]))


def _find_folder(package: str) -> Path | None:
    """The folder from which Python would import a package; None where there is none."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).resolve().parent if found is not None and found.origin else None
