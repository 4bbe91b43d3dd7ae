"""For an optimizer that is spread over the processes: each steps the part of every gradient that it has added.

Exact mode adds each chunk of the gradients on one process, and would then send the sums to all. Here the process steps
its chunk of the weights by them, and sends the weights: as many bytes, but the state of the optimizer and its work are
divided by the number of processes. It is stage 1 of ZeRO (Rajbhandari et al., arXiv:1910.02054).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.gradient_tree import Bucket, GradientTree
from signs_dist.distributed.group import Group
from signs_dist.distributed.ordered_norm import BLOCK, sum_squares_of_blocks


class ShardedTree(GradientTree):
    """A `GradientTree` that gives each process the gradients of its pieces of the parameters.

    The gradients of the parameters themselves stay None. After the optimizer's step, `share_weights` is called.

    Args:
        parameters, num_extras, micro_batches, shard, group: as for `GradientTree`; several processes.

    Attributes:
        pieces: for each parameter the part of it that this process steps: a flat view of its memory, which gets the
            gradient. None where other processes have all of it.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        num_extras: int,
        micro_batches: MicroBatches,
        shard: Shard,
        group: Group,
    ) -> None:
        super().__init__(parameters, num_extras, micro_batches, shard, group)
        self._all = group
        self._places = {
            parameter: (bucket, number)
            for bucket in self._gradients
            for number, parameter in enumerate(bucket.parameters)
        }
        self.pieces = {parameter: self._make_piece(parameter) for parameter in parameters}

    def finish(self) -> Tensor:
        """Set the gradients of this process's pieces; returns the sum of the extras."""
        self._complete_sums()
        for bucket in self._gradients:
            assert bucket.total is not None
            for start, piece in self._pieces_in(bucket):
                piece.grad = bucket.total[start : start + piece.numel()]
        return self._take_extras()

    @torch.no_grad()
    def share_weights(self) -> None:
        """Send the weights of this process's pieces to all others, and take theirs."""
        pending = []
        for bucket in self._gradients:
            # After a step the memory of its gradients is used again.
            chunk = bucket.total if bucket.total is not None else self._new_vector(bucket)[: self._chunk_size(bucket)]
            bucket.total = None
            for start, piece in self._pieces_in(bucket):
                piece.grad = None
                chunk[start : start + piece.numel()] = piece
            whole = bucket.free.pop() if bucket.free else self._new_vector(bucket)
            pending.append((bucket, self._all.start_gather(chunk, whole)))
        for bucket, work in pending:
            whole = work.wait()
            views = [bucket.view(whole, number) for number in range(len(bucket.parameters))]
            torch._foreach_copy_([parameter.data for parameter in bucket.parameters], views)
            bucket.free.append(whole)

    def bounds(self, parameter: nn.Parameter) -> list[tuple[int, int, int]]:
        """The pieces of a parameter: (rank, start, end), in the order of its memory."""
        bucket, number = self._places[parameter]
        size, first = self._chunk_size(bucket), bucket.starts[number]
        end = first + parameter.numel()
        return [
            (rank, max(first, rank * size) - first, min(end, (rank + 1) * size) - first)
            for rank in range(first // size, -(-end // size))
        ]

    def own_part(self, value: Tensor, parameter: nn.Parameter) -> Tensor | None:
        """This process's part of a tensor of the shape of `parameter`, flat; None if it has none. A copy."""
        for rank, start, end in self.bounds(parameter):
            if rank == self._all.rank:
                return flat_like(value.to(parameter.device), parameter)[start:end].clone()
        return None

    def _complete_sums(self) -> None:
        extras = [bucket for bucket in self._buckets if bucket not in self._gradients]
        waiting = [(bucket, self._gather(bucket)) for bucket in extras]
        for bucket in self._gradients:
            bucket.total = self._sum_chunk(bucket)
        for bucket, pending in waiting:
            assert not isinstance(pending, Tensor)
            bucket.total = pending.wait()

    def _sums_of_blocks(self, vectors: Sequence[Tensor]) -> Tensor:
        own = torch.cat([sum_squares_of_blocks(vector) for vector in vectors])
        size = self._all.world_size
        gathered = self._all.start_gather(own, own.new_empty(size * own.numel())).wait().view(size, -1)
        by_bucket = torch.split(gathered, [self._chunk_size(bucket) // BLOCK for bucket in self._gradients], dim=1)
        return torch.cat(
            [sums.reshape(-1)[: bucket.num_blocks] for sums, bucket in zip(by_bucket, self._gradients, strict=True)]
        )

    def _chunk_size(self, bucket: Bucket) -> int:
        return bucket.length // self._all.world_size

    def _make_piece(self, parameter: nn.Parameter) -> nn.Parameter | None:
        for rank, start, end in self.bounds(parameter):
            if rank == self._all.rank:
                return nn.Parameter(flat_view(parameter)[start:end])
        return None

    def _pieces_in(self, bucket: Bucket) -> Iterator[tuple[int, nn.Parameter]]:
        """This process's pieces of a bucket, each with its start in the chunk."""
        begin = self._chunk_size(bucket) * self._all.rank
        for start, parameter in zip(bucket.starts, bucket.parameters, strict=True):
            piece = self.pieces[parameter]
            if piece is not None:
                yield max(start - begin, 0), piece


def flat_like(value: Tensor, like: Tensor) -> Tensor:
    """The numbers of `value` as a vector [number of elements] in the order of the memory of `like`, on its device."""
    return flat_view(torch.empty_like(like, dtype=value.dtype).copy_(value))


def flat_view(tensor: Tensor) -> Tensor:
    """A dense tensor as a vector [number of elements] in the order of its memory, which it shares."""
    return tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())
