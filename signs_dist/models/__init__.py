"""Networks by name. To add one: write a file here with one function under `@register`, and import it below.

A file here imports from this room, from the rooms without torch (config, environment and so on) and from data/. It
knows one device and one process.
"""

from signs_dist.models import mlp, signs_fast, signs_net
from signs_dist.models.create import create_model
from signs_dist.models.trainable import count_parameters, freeze_backbone, require_trainable, set_training_mode

__all__ = [
    "count_parameters",
    "create_model",
    "freeze_backbone",
    "mlp",
    "require_trainable",
    "set_training_mode",
    "signs_fast",
    "signs_net",
]
