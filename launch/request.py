"""What a submission asks for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signs_dist.config.settings import Config

    from .cluster import ClusterConfig


CLUSTERS = Path("configs") / "cluster"
"""Where a site's settings are, each cluster's in a file."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A run that is to be submitted.

    Attributes:
        config_path, overrides: as signs_dist.train takes them.
        config: the settings that they give.
        run_path: the run folder, absolute.
        shown_path: the run folder, for people: as it was typed, or relative to this folder.
        cluster: what the job asks for.
        arguments: what was typed behind `--`.
        device: signs_dist.train's --device.
        accept_change: signs_dist.train's --accept-change, as typed.
        accepted: the settings that --accept-change names.
        is_quiet: signs_dist.train's --quiet.
        data_on_nodes: only the compute nodes see the images.
        is_snapshot: whether the job runs a copy of the code, made now.
        is_new_folder: whether the run folder was not named, and must be a new one.
    """

    config_path: Path | None
    overrides: tuple[str, ...]
    config: Config
    run_path: Path
    shown_path: str
    cluster: ClusterConfig
    arguments: tuple[str, ...] = ()
    device: str = "auto"
    accept_change: tuple[str, ...] = ()
    accepted: frozenset[str] = frozenset()
    is_quiet: bool = False
    data_on_nodes: bool = False
    is_snapshot: bool = True
    is_new_folder: bool = False
