"""Which dashboards there are, and whether their packages are installed."""

from __future__ import annotations

from collections.abc import Sequence

from signs_dist.errors import UserError
from signs_dist.extras import how_to_install, is_installed

MODULES = {
    "tensorboard": "signs_dist.tracking.tensorboard",
    "wandb": "signs_dist.tracking.wandb",
    "mlflow": "signs_dist.tracking.mlflow",
    "trackio": "signs_dist.tracking.trackio",
}
"""Name of a dashboard, which is that of its package and of its extra → the module that feeds it."""


def require_installed(names: Sequence[str], given: str = "log.to=") -> None:
    """Refuse dashboards whose packages are not installed.

    Args:
        names: of the dashboards.
        given: how they were given, for the message.

    Raises:
        UserError: the message says what to type.
    """
    missing = [name for name in names if not is_installed(name)]
    if missing:
        raise UserError(
            f"{given}{','.join(missing)}: not installed. Type: {how_to_install(missing)}, or omit "
            f"{'it' if len(missing) == 1 else 'them'}."
        )
