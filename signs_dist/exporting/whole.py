"""The network of a run with all that is around it."""

from __future__ import annotations

from torch import nn

from signs_dist.inference.export_record import ExportRecord
from signs_dist.inference.whole_network import WholeNetwork


def make_whole(network: nn.Module, record: ExportRecord) -> WholeNetwork:
    """The network, resizing, normalising and averaging as the record says, in eval mode."""
    preprocessing = record.preprocessing
    whole = WholeNetwork(
        network,
        image_size=preprocessing.image_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        flip_average=record.flip_average,
        ten_crop=record.ten_crop,
    )
    return whole.eval()
