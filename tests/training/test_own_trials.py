from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from signs_dist.training.own_trials import TrialPlace, try_own_code
from tests.own_modules import module_writer

HEAD = "import random\nimport torch\nfrom torch import nn\nimport torch.nn.functional as F\n"

GOOD = """
def focal(gamma=2.0):
    def losses(logits, labels):
        log_p = F.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
        return -((1 - log_p.exp()) ** gamma) * log_p
    return losses

def module():
    return nn.CrossEntropyLoss(weight=torch.ones(3), reduction="none")

def optimizer(groups, lr, weight_decay, betas=(0.9, 0.99)):
    return torch.optim.NAdam(groups, lr=lr, weight_decay=weight_decay, betas=tuple(betas))

class Counting(torch.optim.Optimizer):
    "Keeps what it computes in its groups, as Prodigy does."
    def __init__(self, groups, lr, weight_decay):
        super().__init__(groups, dict(lr=lr, weight_decay=weight_decay, k=0))
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["k"] += 1
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=group["lr"] / group["k"])

def schedule(power=0.9):
    return lambda images_seen, images_total, images_per_epoch: (1 - images_seen / images_total) ** power

def augment(strength=0.5):
    def change(images, keys):
        draws = torch.rand(len(images), 1, 1, 1) + (keys % 2)[:, None, None, None]
        return images * (1 - strength * draws)
    return change

def kappa(num_classes):
    return lambda probabilities, labels: (probabilities.argmax(1) == labels).float().mean()
"""

BAD = """
def returns_nothing(): return None
def mean(): return nn.CrossEntropyLoss()
def constant(): return lambda logits, labels: torch.zeros(len(labels))
def detached(): return lambda logits, labels: F.cross_entropy(logits.detach(), labels, reduction="none")
def argmax(): return lambda logits, labels: (logits.argmax(1) != labels).float()
def flat(): return lambda logits, labels: (logits * 0).sum(1)
def nan(): return lambda logits, labels: F.cross_entropy(logits, labels, reduction="none") * float("nan")
def wrong_shape(): return lambda logits, labels: logits
def whole(): return lambda logits, labels: labels
def failing(): return lambda logits, labels: logits @ labels
def trained(): return nn.Sequential(nn.Linear(3, 3))

def other_order(groups, lr, weight_decay):
    return torch.optim.SGD([{"params": group["params"][::-1]} for group in groups], lr=lr)
def no_optimizer(groups, lr, weight_decay): return 3
def no_decay(groups, lr): return torch.optim.SGD(groups, lr=lr)
class Forgetful(torch.optim.SGD):
    def __init__(self, groups, lr, weight_decay):
        super().__init__(groups, lr=lr)
        self.calls = 0
    def step(self):
        self.calls += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.sub_(parameter.grad, alpha=self.calls)
class Odd(torch.optim.SGD):
    def __init__(self, groups, lr, weight_decay):
        super().__init__(groups, lr=lr)
    def step(self):
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["seen"] = {1, 2}
class Noisy(torch.optim.SGD):
    def __init__(self, groups, lr, weight_decay):
        super().__init__(groups, lr=lr)
    def step(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.data.add_(torch.randn_like(parameter))
class Closed(torch.optim.SGD):
    def __init__(self, groups, lr, weight_decay):
        super().__init__(groups, lr=lr)
    def step(self, closure):
        closure()

def negative(): return lambda seen, total, epoch: -1.0
def infinite(): return lambda seen, total, epoch: float("inf")
def text(): return lambda seen, total, epoch: "0.5"
def zero(): return lambda seen, total, epoch: 0
def drawn(): return lambda seen, total, epoch: random.random()
def of_two(): return lambda seen, total: 1.0

def grey(): return lambda images, keys: images.mean(1)
def bytes_(): return lambda images, keys: (images * 255).to(torch.uint8)
def blown(): return lambda images, keys: images / 0
def random_(): return lambda images, keys: images * random.random()
def keyless(): return lambda images: images

def unnamed(num_classes): return lambda probabilities, labels: probabilities
def number(num_classes): return 0.5
def lost(): return lambda probabilities, labels: 0.5
"""


def try_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, *overrides: str) -> None:
    module = module_writer(tmp_path, monkeypatch)(HEAD + source)
    config = load_config(None, [one.replace("OWN", module) for one in overrides])
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    try:
        try_own_code(config, TrialPlace(model, num_classes=3, images_per_epoch=64))
    finally:
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.name=OWN:focal", "loss.args.gamma=3"],
        ["loss.name=OWN:module"],
        ["optim.name=OWN:optimizer", "optim.args.betas=[0.8, 0.9]", "exact=true", "train.micro_batch=8"],
        ["optim.name=OWN:Counting", "optim.lr=0.1"],
        ["optim.name=torch.optim:Adamax"],
        ["optim.name=torch.optim:Adafactor"],
        ["optim.name=torch.optim:RAdam", "optim.weight_decay=0"],
        ["optim.name=torch.optim:Rprop", "optim.weight_decay=0"],
        ["schedule.name=OWN:schedule", "schedule.args.power=2"],
        ["augment.backend=OWN:augment"],
        ["evaluate.metrics=[OWN:kappa]"],
    ],
)
def test_good_code_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> None:
    try_with(tmp_path, monkeypatch, GOOD, *overrides)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("loss.name=OWN:returns_nothing", "returns a NoneType. It must return a function (logits, labels)"),
        ("loss.name=OWN:mean", "returns a single number. It must return one loss for each image"),
        ("loss.name=OWN:constant", "has no gradient. Compute it from the logits with torch's operations"),
        ("loss.name=OWN:detached", "has no gradient."),
        ("loss.name=OWN:argmax", "has no gradient."),
        ("loss.name=OWN:flat", "has a gradient of zeros"),
        ("loss.name=OWN:nan", "gives nan for logits between -3 and 3. It must give finite numbers."),
        ("loss.name=OWN:wrong_shape", "returns a tensor [4, 3]. It must return one loss for each image"),
        ("loss.name=OWN:whole", "returns int64. It must return one loss"),
        ("loss.name=OWN:failing", "fails when it is called with logits [4, 3] and labels [4]: RuntimeError: "),
        ("loss.name=OWN:trained", "has parameters, which no optimizer trains"),
        ("optim.name=OWN:other_order", "has other parameters than it was given, or another order."),
        ("optim.name=OWN:no_optimizer", "returns a int, which is not a torch.optim.Optimizer."),
        ("optim.name=OWN:no_decay", "takes no argument weight_decay. Add it to its definition."),
        ("optim.name=OWN:Forgetful", "goes on otherwise from its saved state"),
        (
            "optim.name=OWN:Odd",
            "has a state that no checkpoint can hold: its state_dict()['state'][0]['seen'] is a set",
        ),
        ("optim.name=OWN:Noisy", "exact=true does not work with optim.name=OWN:Noisy: a step draws random numbers"),
        ("optim.name=OWN:Closed", "fails when it steps: TypeError: "),
        ("schedule.name=OWN:negative", "gives -1 for images_seen=0, images_total=1280, images_per_epoch=64."),
        ("schedule.name=OWN:infinite", "gives inf for images_seen=0"),
        ("schedule.name=OWN:text", "gives something that is no number for images_seen=0"),
        ("schedule.name=OWN:zero", "gives 0 for the whole run"),
        ("schedule.name=OWN:drawn", "gives another factor for images_seen=0 when it is asked again"),
        ("schedule.name=OWN:of_two", "fails when it is called with (0, 1280, 64): TypeError: "),
        ("augment.backend=OWN:grey", "returns a tensor [4, 64, 64]. It must return float images [4, 3, 64, 64]"),
        ("augment.backend=OWN:bytes_", "returns uint8. It must return float images"),
        ("augment.backend=OWN:blown", "gives pixels that are not finite numbers."),
        ("augment.backend=OWN:random_", "gives other images when it is called again with the same images and keys."),
        ("augment.backend=OWN:keyless", "fails when it is called with images [4, 3, 64, 64]: TypeError: "),
        ("evaluate.metrics=OWN:unnamed", "gives something that is no number. It must give one number"),
        (
            "evaluate.metrics=OWN:number",
            "returns a float. Called with the number of classes, it must return a function",
        ),
        ("evaluate.metrics=OWN:lost", "takes 0 positional arguments but 1 was given"),
    ],
)
def test_what_is_wrong_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, expected: str
) -> None:
    exact = ["exact=true", "train.micro_batch=8"]
    with pytest.raises(UserError) as caught:
        try_with(tmp_path, monkeypatch, BAD, override, *exact)
    message = str(caught.value)
    module = message[message.index("users_own_") :].partition(":")[0]
    assert expected.replace("OWN", module) in message
    assert override.partition("=")[0] in message


def test_a_noisy_optimizer_is_legal_without_exact_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try_with(tmp_path, monkeypatch, BAD, "optim.name=OWN:Noisy")


def test_a_run_without_own_code_does_not_load_what_only_trials_need() -> None:
    """numpy.random takes as long to load as a small epoch takes to train."""
    program = """
import sys
from torch import nn
from signs_dist.config.settings import Config
from signs_dist.training.own_trials import TrialPlace, try_own_code
try_own_code(Config(), TrialPlace(nn.Linear(2, 2), 2, 8))
print("numpy.random" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False"]
