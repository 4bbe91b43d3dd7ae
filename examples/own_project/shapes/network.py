"""A network: a class or function that takes `num_classes` and the arguments of model.args."""

from torch import nn


class Net(nn.Sequential):
    """Two convolutions and a head: images [B, 3, H, W] → logits [B, num_classes]."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__(
            *(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(4)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(8 * width, num_classes)),
        )
