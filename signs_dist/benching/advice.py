"""What to change, and how much faster it is: decided from figures alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from signs_dist.benching.figures import Figures
from signs_dist.data.device_batches import describe_bytes
from signs_dist.tuning.rounds import CLEAR, Timing
from signs_dist.tuning.variants import Variant

LONG_WAIT = 0.1
"""From this share of a step on, waiting for images is spoken of."""
NOTHING = "nothing was found that makes this config 5 % faster on this machine"
_BITS = " (in exact mode another result, bit for bit)"


@dataclasses.dataclass(frozen=True)
class Advice:
    """A change, and what it gives.

    Attributes:
        change: what to type, or what to do.
        factor: how many times as fast training is then.
        is_bound: whether it is at most so fast, because the gain was not measured itself.
        why: what was found; "" where the change says it.
    """

    change: str
    factor: float
    is_bound: bool = False
    why: str = ""

    @property
    def line(self) -> str:
        """One line, such as `train.precision=bfloat16: 1.9 times as fast`."""
        bound = "up to " if self.is_bound else ""
        because = f" ({self.why})" if self.why else ""
        return f"{self.change}: {bound}{self.factor:.1f} times as fast{because}"


def advise(figures: Figures) -> list[str]:
    """What makes training at least 5 % faster; `NOTHING` if there is nothing.

    Busy programs come first, as they may be the reason for all that follows; then the largest gain.
    """
    found = [
        *_advise_threads(figures),
        *_advise_numbers(figures),
        *_advise_loading(figures),
        *_advise_saving(figures),
        *_advise_sums(figures),
    ]
    others = sorted(found, key=lambda one: -one.factor)
    worth = [one.line for one in (*_advise_cores(figures), *others) if one.factor >= CLEAR]
    return worth or [NOTHING]


def choices(figures: Figures) -> list[str]:
    """For each setting that is `auto`, what it chose, and whether that was the fastest."""
    found = []
    if "train.num_threads" in figures.setup.automatic and len(same := _by_threads(figures)) > 1:
        found.append(_choice("train.num_threads", figures, same, lambda variant: str(variant.num_threads)))
    chosen = figures.setup.chosen
    same = {
        variant: timing
        for variant, timing in figures.variants.items()
        if dataclasses.replace(variant, precision=chosen.precision) == chosen
    }
    if "train.precision" in figures.setup.automatic and len(same) > 1:
        found.append(_choice("train.precision", figures, same, lambda variant: variant.precision))
    return found


def _choice(setting: str, figures: Figures, same: Mapping[Variant, Timing], value: Callable[[Variant], str]) -> str:
    chosen, best = figures.setup.chosen, _fastest(same)
    said = f"{setting}=auto chose {value(chosen)}"
    if best == chosen or not same[best].is_clearly_faster_than(same[chosen]):
        return f"{said}, the fastest of {', '.join(map(value, same))}"
    return f"{said}; {value(best)} is {same[chosen].seconds / same[best].seconds:.1f} times as fast"


def _by_threads(figures: Figures) -> dict[Variant, Timing]:
    """The ways that differ from the chosen one in the number of threads only, fewest threads first."""
    like = {
        variant: timing
        for variant, timing in figures.variants.items()
        if dataclasses.replace(variant, num_threads=figures.setup.chosen.num_threads) == figures.setup.chosen
    }
    return dict(sorted(like.items(), key=lambda item: item[0].num_threads))


def _fastest(timings: Mapping[Variant, Timing]) -> Variant:
    return min(timings, key=lambda variant: timings[variant].seconds)


def _in_loop(figures: Figures, faster: Timing) -> float:
    """How many times as fast the loop is with a faster network: what surrounds the network stays."""
    around = max(0.0, figures.data.seconds - figures.bare.seconds)
    chosen = figures.variants[figures.setup.chosen].seconds
    return (chosen + around) / (faster.seconds + around)


def _advise_threads(figures: Figures) -> Iterable[Advice]:
    same = _by_threads(figures)
    best = _fastest(same)
    if same[best].is_clearly_faster_than(same[figures.setup.chosen]):
        exact = _BITS if figures.setup.is_exact else ""
        yield Advice(f"train.num_threads={best.num_threads}{exact}", _in_loop(figures, same[best]))


def _advise_numbers(figures: Figures) -> Iterable[Advice]:
    """Another precision, another memory format, or both."""
    chosen = figures.setup.chosen
    same = {
        variant: timing for variant, timing in figures.variants.items() if variant.num_threads == chosen.num_threads
    }
    best = _fastest(same)
    if not same[best].is_clearly_faster_than(same[chosen]):
        return
    changes = [
        *([f"train.precision={best.precision}"] if best.precision != chosen.precision else []),
        *(
            [f"train.channels_last={str(best.channels_last).lower()}"]
            if best.channels_last != chosen.channels_last
            else []
        ),
    ]
    exact = _BITS if figures.setup.is_exact else ""
    yield Advice(f"{' '.join(changes)}{exact}", _in_loop(figures, same[best]))


def _advise_loading(figures: Figures) -> Iterable[Advice]:
    """More or fewer loader workers, or pixels that are decoded once, where training waits for images."""
    if figures.wait_share < LONG_WAIT:
        return
    why = f"training waits for images {100 * figures.wait_share:.0f} % of the time"
    computing = figures.data.seconds * (1 - figures.wait_share)
    own = figures.loading.get(figures.setup.num_workers)  # None where there was no room for so many beside the loop's
    best = min(figures.loading, key=lambda number: figures.loading[number].seconds)
    if own is not None and figures.loading[best].is_clearly_faster_than(own):
        step = max(computing, figures.loading[best].seconds)
        yield Advice(f"data.num_workers={best}", figures.data.seconds / step, is_bound=True, why=why)
    if figures.setup.storage == "files":
        yield Advice("data.storage=packed", figures.data.seconds / computing, is_bound=True, why=why)
    num_bytes = figures.setup.device_bytes
    if figures.setup.storage == "packed" and num_bytes is not None and not figures.setup.is_cached:
        change = f"data.storage=device holds all images, {describe_bytes(num_bytes)}, on the GPU"
        yield Advice(change, figures.data.seconds / computing, is_bound=True, why=why)


def _advise_saving(figures: Figures) -> Iterable[Advice]:
    """Fewer saves, or a faster disk where the saves are those at the end of each epoch: no setting omits these."""
    saving = figures.saving
    why = f"a save takes {saving.seconds:.2f} s, and there is one in {saving.steps_between} steps"
    less_often = f"save less often: a larger {saving.setting}"
    change = less_often if saving.setting else "a faster disk for the run folder: each epoch ends with a save"
    yield Advice(change, figures.saving_seconds / figures.data.seconds, is_bound=True, why=why)


def _advise_sums(figures: Figures) -> Iterable[Advice]:
    """A larger batch, where the sums over processes take much of a step."""
    if figures.sums is None:
        return
    seconds = figures.sums.exact_seconds if figures.setup.is_exact else figures.sums.seconds
    # They are hidden behind the backward pass as far as that lasts: what the loop takes beyond the network is not.
    shown = min(seconds, max(0.0, figures.data.seconds - figures.bare.seconds))
    factor = figures.data.seconds / (figures.data.seconds - shown / 2)
    why = f"sums over processes take {1000 * shown:.0f} of the {1000 * figures.data.seconds:.0f} ms of a step"
    change = f"train.global_batch={2 * figures.setup.wanted_batch}, with half as many sums (another result)"
    yield Advice(change, factor, is_bound=True, why=why)


def _advise_cores(figures: Figures) -> Iterable[Advice]:
    share = figures.core_wait_share
    if share is None or figures.setup.device != "cpu":
        return
    share = min(share, 0.99)
    why = (
        f"a thread of this process waited {100 * share:.0f} % of the time for a core, and all figures are lower for "
        "it, each in its own way: measure again then"
    )
    yield Advice("end other programs, or use a machine with free cores", 1 / (1 - share), is_bound=True, why=why)
