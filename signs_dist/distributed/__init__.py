"""How processes share a run. `group` is the only home of torch.distributed."""
