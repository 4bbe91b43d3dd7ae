from __future__ import annotations

import pytest

from signs_dist.models.weight_names import find_prefix, shortened, without_prefix

OWN = ("conv1.weight", "layer1.0.weight", "head.weight", "head.bias")


def put(prefix: str, *names: str) -> list[str]:
    return [prefix + name for name in (names or OWN)]


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        (put(""), ""),
        (put("model."), "model."),
        (put("backbone.", *OWN[:2]), "backbone."),
        ([*put("model."), "criterion.weight"], "model."),
        (put("model.net.encoder."), "model.net.encoder."),
        ([*put("encoder_q."), *put("encoder_k.", *OWN[:3]), "queue"], "encoder_q."),
        ([*put("backbone.", *OWN[:2]), "head.weight", "head.bias"], ""),  # as many names with it as without
        (put("backbone.", *OWN[:1]), ""),  # too few to know
        (["a.weight", "a.bias"], ""),
        ([], ""),
    ],
)
def test_the_prefix_of_a_file(given: list[str], prefix: str) -> None:
    assert find_prefix(given, OWN) == prefix


def test_what_lies_beside_the_prefix_is_left_out_unless_the_network_has_it() -> None:
    own = (*OWN, "layer2.weight")
    given = dict.fromkeys([*put("backbone.", *OWN[:2], "layer2.weight"), "head.weight", "head.bias", "loss.scale"], 1)
    assert without_prefix(given, own) == (dict.fromkeys([*OWN[:2], "layer2.weight", *OWN[2:]], 1), ["loss.scale"])


def test_a_file_without_a_prefix_is_returned_as_it_is() -> None:
    given = dict.fromkeys([*OWN, "extra"], 1)
    assert without_prefix(given, OWN) == (given, [])


def test_long_lists_are_shortened() -> None:
    assert shortened("abc") == "a, b, c"
    assert shortened("abcde") == "a, b, c and 2 more"
