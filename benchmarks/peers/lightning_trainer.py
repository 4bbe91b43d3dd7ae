"""The same training with Lightning's Trainer, as its introduction writes it (https://lightning.ai/docs/pytorch)."""

from __future__ import annotations

import argparse

import lightning
import torch
import torch.nn.functional as F
from common import make_loaders, make_model, make_optimizer, read_options
from torch import Tensor


class Signs(lightning.LightningModule):
    """The network with its training and validation steps."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.options, self.model = options, make_model(options)
        self.layout = torch.channels_last if options.best else torch.contiguous_format

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.model(images.to(memory_format=self.layout)), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        hits = (self.model(images.to(memory_format=self.layout)).argmax(1) == labels).float().mean()
        self.log("val_accuracy", hits, prog_bar=True, sync_dist=self.options.processes > 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.model, self.options)


def main() -> None:
    options = read_options(__doc__)
    train_loader, val_loader = make_loaders(options, batch=32 // options.processes)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=options.processes,
        strategy="ddp" if options.processes > 1 else "auto",
        max_epochs=options.epochs,
        precision="bf16-mixed" if options.bfloat16 else "32-true",
        default_root_dir=options.out,
    )
    trainer.fit(Signs(options), train_loader, val_loader)
    accuracy = float(trainer.callback_metrics["val_accuracy"])
    print(f"epoch {options.epochs}: val accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
