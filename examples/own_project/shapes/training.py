"""A loss, an optimizer, a schedule, an augmentation and a metric: each `make` is called once, with its settings."""

import math

import torch
import torch.nn.functional as F


def focal(gamma=2.0):
    """Focal loss (Lin et al., arXiv:1708.02002): images that are already right count less."""

    def losses(logits, labels):
        log_probabilities = F.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
        return -((1 - log_probabilities.exp()) ** gamma) * log_probabilities  # [B]: one number for each image

    return losses


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al., arXiv:2302.06675): the sign of a moving average of the gradient."""

    def __init__(self, parameters, lr, weight_decay, betas=(0.9, 0.99)):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "betas": tuple(betas)})

    @torch.no_grad()
    def step(self):
        """Move all parameters by their gradients."""
        for group in self.param_groups:
            beta, kept = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                # What a step needs from the one before is in self.state, which checkpoints hold.
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(group["lr"] * torch.sign(beta * average + (1 - beta) * parameter.grad))
                average.mul_(kept).add_(parameter.grad, alpha=1 - kept)


def warm_restarts(epochs=2, lowest=0.05):
    """A cosine that starts again every `epochs` epochs (Loshchilov and Hutter, arXiv:1608.03983)."""

    def factor(images_seen, images_total, images_per_epoch):
        place = images_seen / (epochs * images_per_epoch) % 1
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * place)) / 2

    return factor


def grey_some(share=0.2):
    """Some images without colours: which ones is decided by their keys alone, never by a generator."""

    def change(images, keys):
        is_grey = (keys % 1000 < 1000 * share)[:, None, None, None]
        return torch.where(is_grey, images.mean(dim=1, keepdim=True).expand_as(images), images)

    return change


def top_two(num_classes):
    """The share of images whose class is one of the two most probable."""

    def metric(probabilities, labels):
        return (probabilities.topk(2).indices == labels[:, None]).any(dim=1).float().mean()

    return metric
