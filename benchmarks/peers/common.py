"""What the peers share: the published network, the photos, and the flags. Plain torch; nothing of signs_dist."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Net(nn.Module):
    """The published network: three blocks of convolution, BatchNorm, pooling and ReLU, and two linear layers."""

    def __init__(self, channels: int = 32, dropout: float = 0.8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.BatchNorm2d(2 * channels)
        self.conv3, self.bn3 = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1), nn.BatchNorm2d(4 * channels)
        self.fc1, self.fcbn1 = nn.Linear(8 * 8 * 4 * channels, 4 * channels), nn.BatchNorm1d(4 * channels)
        self.fc2, self.dropout = nn.Linear(4 * channels, 6), dropout

    def forward(self, images: Tensor) -> Tensor:
        s = F.relu(F.max_pool2d(self.bn1(self.conv1(images)), 2))
        s = F.relu(F.max_pool2d(self.bn2(self.conv2(s)), 2))
        s = F.relu(F.max_pool2d(self.bn3(self.conv3(s)), 2))
        s = F.dropout(F.relu(self.fcbn1(self.fc1(s.flatten(1)))), p=self.dropout, training=self.training)
        logits: Tensor = self.fc2(s)
        return logits


class SignsDataset(Dataset[tuple[Tensor, int]]):
    """Photos of a folder, with the label in front of each name."""

    def __init__(self, folder: Path, transform: transforms.Compose) -> None:
        self.paths = sorted(folder.glob("*.jpg"))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.open(self.paths[index])
        return self.transform(image), int(self.paths[index].name[0])


def make_loaders(options: argparse.Namespace, batch: int) -> tuple[DataLoader, DataLoader]:  # type: ignore[type-arg]
    """Loaders of the training and the validation photos, as the tutorial makes them; `--best` keeps its workers."""
    train = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()])
    alike = {"batch_size": batch, "num_workers": options.workers}
    if options.best and options.workers:
        alike |= {"persistent_workers": True}
    return (
        DataLoader(SignsDataset(options.data / "train_signs", train), shuffle=True, **alike),
        DataLoader(SignsDataset(options.data / "val_signs", transforms.Compose([transforms.ToTensor()])), **alike),
    )


def read_options(description: str | None) -> argparse.Namespace:
    """The flags of all peers."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder with train_signs, val_signs")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where checkpoints are written")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of each loader (default: 2)")
    parser.add_argument("--processes", type=int, default=1, help="that share the batch of 32 (default: 1)")
    parser.add_argument("--best", action="store_true", help="channels_last, fused Adam, persistent workers")
    parser.add_argument("--bfloat16", action="store_true", help="autocast")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(230)
    return options


def make_model(options: argparse.Namespace) -> Net:
    """The network, in channels_last for `--best`."""
    model = Net()
    return model.to(memory_format=torch.channels_last) if options.best else model  # type: ignore[call-overload,no-any-return]


def make_optimizer(model: nn.Module, options: argparse.Namespace) -> torch.optim.Optimizer:
    """Adam, fused for `--best`."""
    return torch.optim.Adam(model.parameters(), lr=1e-3, **({"fused": True} if options.best else {}))
