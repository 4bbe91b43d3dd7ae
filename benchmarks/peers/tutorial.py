"""The loop of the tutorial: an epoch of training, then of validation, and a checkpoint of the last and the best."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from common import make_loaders, make_model, make_optimizer, read_options


def main() -> None:
    options = read_options(__doc__)
    train_loader, val_loader = make_loaders(options, batch=32)
    model = make_model(options)
    optimizer = make_optimizer(model, options)
    layout = torch.channels_last if options.best else torch.contiguous_format
    best = 0.0
    for epoch in range(options.epochs):
        model.train()
        total = 0.0
        for images, labels in train_loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
                logits = model(images.to(memory_format=layout))
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        model.eval()
        hits = count = 0
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            for images, labels in val_loader:
                hits += int((model(images.to(memory_format=layout)).argmax(1) == labels).sum())
                count += len(labels)
        accuracy = hits / count
        print(f"epoch {epoch + 1}: loss {total / len(train_loader):.3f}, val accuracy {accuracy:.3f}", flush=True)
        state = {"epoch": epoch + 1, "state_dict": model.state_dict(), "optim_dict": optimizer.state_dict()}
        torch.save(state, options.out / "last.pth.tar")
        if accuracy >= best:
            best = accuracy
            torch.save(state, options.out / "best.pth.tar")


if __name__ == "__main__":
    main()
