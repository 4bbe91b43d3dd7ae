"""Other people's dashboards: TensorBoard, Weights & Biases, MLflow and Trackio get what the run folder holds.

Each dashboard is fed by a process of its own, which reads metrics.jsonl. A dashboard that hangs or fails, and all that
its library imports and starts, stays out of the training process. Nothing here imports torch.
"""
