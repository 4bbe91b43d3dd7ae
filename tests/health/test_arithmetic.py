"""Fingerprints: equal bits, or the rank that computes others."""

from __future__ import annotations

import copy

import torch

from signs_dist.config.settings import Config
from signs_dist.health.arithmetic import judge, measure
from signs_dist.health.finding import places_of


def test_the_same_twice_and_the_odd_rank_by_name() -> None:
    config = Config.model_validate({"model": {"name": "mlp", "args": {}}, "data": {"image_size": 8}})
    state = torch.random.get_rng_state()
    first, second = measure(config, "cpu", "n1"), measure(config, "cpu", "n2")
    assert torch.equal(torch.random.get_rng_state(), state)
    places = places_of({0: "n1", 1: "n2", 2: "n3"})
    same = judge({0: first, 1: second, 2: first}, places, is_exact=True)
    assert (same.status, same.measured.partition(" (")[0]) == ("ok", "the same bits on all 3 ranks")
    other = copy.deepcopy(first)
    other["fingerprint"]["digest"] = "0" * 64
    other["fingerprint"]["names"]["CPU capability"] = "none at all"
    for is_exact, status in ((True, "fail"), (False, "warn")):
        odd = judge({0: first, 1: second, 2: other}, places, is_exact=is_exact)
        assert odd.status == status
        assert "from the same numbers on rank 2 on n3: CPU capability " in odd.measured
        assert "→ none at all" in odd.measured


def test_one_rank() -> None:
    config = Config.model_validate({"model": {"name": "mlp", "args": {}}, "data": {"image_size": 8}})
    finding = judge({0: measure(config, "cpu", "here")}, places_of({0: "here"}), is_exact=False)
    assert (finding.status, finding.measured.partition(" (")[0]) == ("ok", "one rank, compared with no other")
