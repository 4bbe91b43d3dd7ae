"""The kinds of nodes that a job may land on, by what SLURM tells of them: an exact run needs one kind."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .slurm_nodes import Node, nodes_of

if TYPE_CHECKING:
    from ..cluster import ClusterConfig

MOST_KINDS = 4
"""Kinds in a line."""
NAMING_NODES = ("nodelist", "nodefile")
"""Parameters of sbatch that name the nodes themselves."""


def describe_kinds(cluster: ClusterConfig, partitions: Sequence[str], nodes: Sequence[Mapping[str, str]]) -> list[str]:
    """What to tell of an exact run that SLURM may start, or requeue, on nodes of another kind; [] if it cannot.

    Args:
        cluster: what the job asks for. Features or nodes that it names are taken for one kind.
        partitions: names of the partitions that may run it.
        nodes: of `scontrol show nodes`.
    """
    named = {name.lstrip("-").replace("_", "-") for name in cluster.extra}
    if cluster.constraint is not None or named.intersection(NAMING_NODES):
        return []
    own = {node.name: node for partition in partitions for node in nodes_of(partition, nodes)}
    fitting = [node for node in own.values() if node.fits(cluster)]
    kinds = collections.Counter(_kind_of(node, cluster) for node in fitting)
    if len(kinds) < 2:
        return []
    shown = []
    for kind, count in kinds.most_common(MOST_KINDS):
        pin = _find_pin(kind, list(kinds), cluster)
        shown.append(f"{count} with {_show(kind)}{f' (type {pin})' if pin else ''}")
    more = f"; and {len(kinds) - MOST_KINDS} more kinds" if len(kinds) > MOST_KINDS else ""
    where = f"partitions {','.join(partitions)} have" if len(partitions) > 1 else f"partition {partitions[0]} has"
    lines = [f"exact=true: {where} {len(kinds)} kinds of nodes, which may compute other bits: {'; '.join(shown)}{more}"]
    if not any(_find_pin(kind, list(kinds), cluster) for kind in kinds):
        lines.append(
            "no feature tells them apart: name nodes with --extra nodelist=NODES, or ask the site for a feature"
        )
    return lines


_Kind = tuple[str, str, tuple[str, ...], frozenset[str]]
"""Machine (architecture), cores (sockets, cores, threads), kinds of GPU, features."""


def _kind_of(node: Node, cluster: ClusterConfig) -> _Kind:
    gpus = tuple(sorted(node.gpus)) if cluster.gpus_per_node and cluster.gpu_type is None else ()
    return node.architecture, node.shape, gpus, node.features


def _show(kind: _Kind) -> str:
    architecture, shape, gpus, features = kind
    parts = [
        f"features {','.join(sorted(features))}" if features else "no features",
        *([f"GPU {','.join(gpus)}"] if any(gpus) else []),
        *([architecture] if architecture else []),
        *([f"{shape} sockets x cores x threads"] if shape else []),
    ]
    return ", ".join(parts)


def _find_pin(kind: _Kind, kinds: Sequence[_Kind], cluster: ClusterConfig) -> str:
    """What to type so that SLURM gives nodes of this kind only; "" if no feature and no GPU does it."""
    others = [each for each in kinds if each != kind]
    for features in _choices(kind[3]):
        if not any(features <= other[3] for other in others):
            return (
                f"--constraint '{'&'.join(sorted(features))}'" if len(features) > 1 else f"--constraint {min(features)}"
            )
    gpus = [gpu for gpu in kind[2] if gpu and not any(gpu in other[2] for other in others)]
    return f"--gpu-type {gpus[0]}" if gpus and cluster.gpus_per_node else ""


def _choices(features: frozenset[str]) -> Iterator[frozenset[str]]:
    """One feature, then two."""
    for count in (1, 2):
        yield from map(frozenset, itertools.combinations(sorted(features), count))
