"""L5: how a run starts on several devices, processes or machines."""
