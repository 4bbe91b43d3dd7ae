"""What a job asks its cluster for."""

from __future__ import annotations

from typing import Any

import pytest

from launch.cluster import ClusterConfig, parse_nodes


def test_nodes() -> None:
    assert parse_nodes("2") == (2, 2)
    assert parse_nodes("1-4") == (1, 4)
    for text in ("0", "4-1", "", "a", "1-", "2,3"):
        with pytest.raises(ValueError, match="nodes="):
            parse_nodes(text)


@pytest.mark.parametrize(
    ("values", "world_sizes"),
    [
        ({}, [1]),
        ({"nodes": "2", "gpus_per_node": 4}, [8]),
        ({"nodes": "1-3", "tasks_per_node": 2}, [2, 4, 6]),
        ({"gpus_per_node": 2, "tasks_per_node": 2}, [2]),
    ],
)
def test_processes(values: dict[str, Any], world_sizes: list[int]) -> None:
    assert ClusterConfig(**values).world_sizes == world_sizes
