"""The same training with accelerate, as its quick tour writes it (https://huggingface.co/docs/accelerate/quicktour)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from common import make_loaders, make_model, make_optimizer, read_options


def main() -> None:
    options = read_options(__doc__)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if options.bfloat16 else "no")
    train_loader, val_loader = make_loaders(options, batch=32 // options.processes)
    model = make_model(options)
    optimizer = make_optimizer(model, options)
    model, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, train_loader, val_loader)
    layout = torch.channels_last if options.best else torch.contiguous_format
    for epoch in range(options.epochs):
        model.train()
        total = 0.0
        for images, labels in train_loader:
            loss = F.cross_entropy(model(images.to(memory_format=layout)), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            total += loss.item()
        model.eval()
        hits = count = 0
        for images, labels in val_loader:
            with torch.no_grad():
                predictions = model(images.to(memory_format=layout)).argmax(1)
            predictions, labels = accelerator.gather_for_metrics((predictions, labels))
            hits += int((predictions == labels).sum())
            count += len(labels)
        accelerator.print(f"epoch {epoch + 1}: loss {total / len(train_loader):.3f}, val accuracy {hits / count:.3f}")
        accelerator.save_state(str(options.out / "last"))
    accelerator.end_training()


if __name__ == "__main__":
    main()
