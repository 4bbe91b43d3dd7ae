"""Sums the gradients of a step in one fixed order, on any number of processes, for exact mode.

A binary tree adds the gradients of micro-batches 0 … M-1: it adds neighbours pairwise, level by level; a last node
without a neighbour moves up unchanged. Node (level, index) is the sum over the micro-batches from index · 2^level up
to, not including, (index + 1) · 2^level, cut at M. A process adds the nodes whose parts it holds and sends the
results to the others. So the bits of the sum do not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.group import Group, Pending
from signs_dist.distributed.ordered_norm import BLOCK, clip_factor, norm_of_blocks, sum_squares_of_blocks

BUCKET_BYTES = 4 * 2**20
"""Size of a bucket of gradients: the first buckets are sent while the backward pass computes the last."""

Node = tuple[int, int]
"""(level, index) in the tree."""
OnLeaf = Callable[[int, int, Tensor], None]


class TreeSum:
    """Adds vectors that arrive in the order of their nodes, each as soon as its neighbour has arrived.

    Args:
        num_leaves: M, the number of micro-batches of a step.
        release: called with each vector that was added to another one and can be used again.
    """

    def __init__(self, num_leaves: int, release: Callable[[Tensor], None] = lambda tensor: None) -> None:
        self.num_leaves = num_leaves
        self.root: Node = ((num_leaves - 1).bit_length(), 0)
        self.nodes: list[tuple[Node, Tensor]] = []
        self._release = release

    def push(self, node: Node, vector: Tensor) -> None:
        """Take the sum of the next node. The tree may change `vector` in place."""
        while node != self.root:
            level, index = node
            if index % 2:
                if not self.nodes or self.nodes[-1][0] != (level, index - 1):
                    break  # another process has its left neighbour
                left = self.nodes.pop()[1]
                left.add_(vector)
                self._release(vector)
                vector = left
            elif (index + 1) << level < self.num_leaves:
                break  # its right neighbour is still to come
            node = (level + 1, index // 2)
        self.nodes.append((node, vector))

    def take(self) -> list[tuple[Node, Tensor]]:
        """The sums that are left, in the order of their nodes. The tree is empty after that."""
        nodes, self.nodes = self.nodes, []
        return nodes


def local_nodes(leaves: Iterable[int], num_leaves: int) -> list[Node]:
    """The nodes that remain when a process has added all neighbours among its contiguous leaves."""
    tree = TreeSum(num_leaves)
    nothing = torch.zeros(0)
    for leaf in leaves:
        tree.push((0, leaf), nothing)
    return [node for node, _ in tree.take()]


@dataclasses.dataclass(eq=False)
class Bucket:
    """Some parameters whose gradients are sent together, as one vector.

    Attributes:
        parameters: in the order in which the backward pass computes their gradients.
        starts: where the gradient of each parameter starts in the vector, a multiple of BLOCK; zeros fill the gaps.
        length: of the vector, a multiple of BLOCK · number of processes.
        is_ready: for each parameter, whether its gradient of the current micro-batch is in `leaf`.
        tree: the sums so far.
        free: vectors that can be used again.
        leaf: the vector of the current micro-batch.
        exchange: the exchange with the other processes.
        total: the sum of the step, after it; of a `ShardedTree` this process's chunk of it.
        first: the place of its first number among the gradients of all buckets.
    """

    parameters: list[nn.Parameter]
    starts: list[int]
    length: int
    is_ready: list[bool]
    tree: TreeSum
    free: list[Tensor]
    leaf: Tensor | None = None
    exchange: Pending | None = None
    total: Tensor | None = None
    first: int = 0

    @property
    def num_blocks(self) -> int:
        """The blocks up to the end of the last gradient. How many zeros follow depends on the number of processes."""
        return -(-(self.starts[-1] + self.parameters[-1].numel()) // BLOCK)

    def view(self, vector: Tensor, number: int) -> Tensor:
        """The part of `vector` for parameter `number`, with the shape and the memory layout of the parameter."""
        parameter = self.parameters[number]
        return vector.as_strided(parameter.shape, parameter.stride(), self.starts[number])


class GradientTree:
    """Sets each parameter's gradient to the sum over all micro-batches of all processes, in the fixed order.

    Hooks take each gradient as soon as the backward pass has computed it. During a process's last micro-batch of a
    step, each bucket is sent as soon as its sums are complete. Each process then adds one chunk of the vectors of all
    processes, and all processes gather the chunks. Where every process holds a whole subtree, this sends as many bytes
    as a ring all-reduce.

    Args:
        parameters: the parameters that train, in the same order on all processes.
        num_extras: how many float32 numbers are summed beside the gradients (buffers, flags).
        micro_batches: of a step.
        shard: which of them this process computes.
        group: all processes, or None for one process.

    Attributes:
        on_leaf: called with the gradients of each micro-batch before they are added: (number of the micro-batch, place
            of the first number among all gradients, vector). None: nothing is called.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        num_extras: int,
        micro_batches: MicroBatches,
        shard: Shard,
        group: Group | None,
    ) -> None:
        self.on_leaf: OnLeaf | None = None
        self._is_aside = False
        self._group = group
        self._num_leaves = micro_batches.count
        nodes_by_rank = [
            local_nodes(micro_batches.of(Shard(rank, shard.count)), micro_batches.count) for rank in range(shard.count)
        ]
        self._num_pieces = [len(nodes) for nodes in nodes_by_rank]
        self._nodes = [node for nodes in nodes_by_rank for node in nodes]
        # The extras have a bucket of their own: they are few, and known before the first gradient.
        device = parameters[0].device
        self._extras = nn.Parameter(torch.zeros(num_extras, device=device), requires_grad=False)
        self._buckets = [self._make_bucket([self._extras])] if num_extras else []
        # The backward pass computes the last layers' gradients first.
        self._buckets += [self._make_bucket(group) for group in _split(list(reversed(parameters)), BUCKET_BYTES)]
        self._gradients = self._buckets[1 if num_extras else 0 :]
        for before, bucket in zip(self._gradients, self._gradients[1:], strict=False):
            bucket.first = before.first + before.length
        self._num_sent = 0
        self._may_send = False
        self._leaf_number = 0
        for place in range(1 if num_extras else 0, len(self._buckets)):
            for number, parameter in enumerate(self._buckets[place].parameters):
                parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    self._collector(place, number)
                )

    def begin(self, leaf: int, extras: Tensor, *, is_last: bool) -> None:
        """Start the backward pass of the micro-batch number `leaf`, with its `extras`, float32 [num_extras]."""
        self._leaf_number, self._may_send, self._num_sent = leaf, is_last and self._group is not None, 0
        for bucket in self._buckets:
            bucket.leaf = bucket.free.pop() if bucket.free else self._new_vector(bucket)
            bucket.is_ready = [False] * len(bucket.parameters)
        if self._extras.numel():
            first = self._buckets[0]
            assert first.leaf is not None
            first.leaf[: extras.numel()] = extras
            first.is_ready[0] = True
        self._advance()

    def end(self) -> None:
        """End the backward pass. A parameter without a gradient counts as zero."""
        for bucket in self._buckets:
            if bucket.leaf is not None:
                self._complete(bucket)
        self._advance()

    @contextlib.contextmanager
    def aside(self, leaf: int) -> Iterator[None]:
        """Within the block, a backward pass of micro-batch `leaf` gives its gradients to `on_leaf`, and to no sum.

        It comes before the first `begin` of a step: the vectors that can be used again are then in no exchange.
        """
        self._leaf_number, self._may_send, self._is_aside = leaf, False, True
        for bucket in self._gradients:
            for parameter in bucket.parameters:
                parameter.grad = None
            bucket.leaf = bucket.free.pop() if bucket.free else self._new_vector(bucket)
            bucket.is_ready = [False] * len(bucket.parameters)
        try:
            yield
            for bucket in self._gradients:
                self._complete(bucket)
        finally:
            self._is_aside = False

    def finish(self) -> Tensor:
        """Set the gradient of every parameter to the sum over all micro-batches; returns the sum of the extras."""
        self._complete_sums()
        extras = self._take_extras()
        for bucket in self._gradients:
            assert bucket.total is not None
            for number, parameter in enumerate(bucket.parameters):
                parameter.grad = bucket.view(bucket.total, number)
            # The next step writes to it, when the gradients of this one are no longer needed.
            bucket.free.append(bucket.total)
        return extras

    def clip(self, max_norm: float) -> Tensor:
        """Scale all gradients down so that their total 2-norm is at most `max_norm`. Call it after `finish`.

        Returns:
            The norm before, float64 []: the same bits on any number of processes.
        """
        vectors = [bucket.total for bucket in self._gradients if bucket.total is not None]
        norm = norm_of_blocks(self._sums_of_blocks(vectors))
        factor = clip_factor(norm, max_norm)
        for vector in vectors:
            vector.mul_(factor)
        return norm

    def _complete_sums(self) -> None:
        """Set `total` of each bucket."""
        for bucket, pending in [(bucket, self._gather(bucket)) for bucket in self._buckets]:
            bucket.total = pending.wait() if isinstance(pending, Pending) else pending

    def _take_extras(self) -> Tensor:
        if not self._extras.numel():
            return self._extras.data
        bucket = self._buckets[0]
        assert bucket.total is not None
        bucket.free.append(bucket.total)
        return bucket.total[: self._extras.numel()].clone()

    def _sums_of_blocks(self, vectors: Sequence[Tensor]) -> Tensor:
        """The sums of squares of all blocks, from the totals of all buckets."""
        sums = [sum_squares_of_blocks(vector) for vector in vectors]
        return torch.cat([own[: bucket.num_blocks] for own, bucket in zip(sums, self._gradients, strict=True)])

    def _collector(self, place: int, number: int) -> Callable[[Tensor], None]:
        # Python's garbage collector does not see the hooks of a parameter. A hook that referred to the tree would keep
        # the tree and all its parameters for ever.
        own = weakref.ref(self)

        def collect(parameter: Tensor) -> None:
            tree = own()
            if tree is not None:
                tree._collect(tree._buckets[place], number, parameter)

        return collect

    def _collect(self, bucket: Bucket, number: int, parameter: Tensor) -> None:
        if bucket.leaf is None:
            return  # a backward pass outside of a step
        assert parameter.grad is not None
        bucket.view(bucket.leaf, number).copy_(parameter.grad)
        parameter.grad = None
        bucket.is_ready[number] = True
        self._advance()

    def _advance(self) -> None:
        """Send the buckets that are complete. All processes send them in the same order."""
        while self._may_send and self._num_sent < len(self._buckets):
            bucket = self._buckets[self._num_sent]
            if bucket.leaf is not None:
                if not all(bucket.is_ready):
                    return
                self._complete(bucket)
            self._send(bucket)
            self._num_sent += 1

    def _complete(self, bucket: Bucket) -> None:
        leaf = bucket.leaf
        assert leaf is not None
        for number, is_ready in enumerate(bucket.is_ready):
            if not is_ready:
                bucket.view(leaf, number).zero_()
        if self.on_leaf is not None and bucket.parameters[0] is not self._extras:
            self.on_leaf(self._leaf_number, bucket.first, leaf)
        if self._is_aside:
            bucket.free.append(leaf)
        else:
            bucket.tree.push((0, self._leaf_number), leaf)
        bucket.leaf = None

    def _send(self, bucket: Bucket) -> None:
        assert self._group is not None
        vectors = [vector for _, vector in bucket.tree.take()]
        pieces = [vector.view(self._group.world_size, -1) for vector in vectors]
        stacked = pieces[0].unsqueeze(1) if len(pieces) == 1 else torch.stack(pieces, dim=1)
        bucket.exchange = self._group.start_exchange(stacked, self._num_pieces)
        bucket.free += vectors  # nothing writes to them before `_gather` has waited for the exchange

    def _gather(self, bucket: Bucket) -> Pending | Tensor:
        chunk = self._sum_chunk(bucket)
        return chunk if self._group is None else self._group.start_gather(chunk, bucket.free.pop())

    def _sum_chunk(self, bucket: Bucket) -> Tensor:
        """This process's chunk of the sum over all processes, once the exchange is complete; one process has it all."""
        if self._group is None:
            tree = bucket.tree
        else:
            assert bucket.exchange is not None
            tree = TreeSum(self._num_leaves)
            for node, chunk in zip(self._nodes, bucket.exchange.wait(), strict=True):
                tree.push(node, chunk)
            bucket.exchange = None
        ((_, total),) = tree.take()
        return total

    def _make_bucket(self, parameters: list[nn.Parameter]) -> Bucket:
        starts, length = [], 0
        for parameter in parameters:
            starts.append(length)
            # A fused kernel computes the end of a tensor without vectors, with other bits. A cut between blocks leaves
            # the end of each tensor where it is.
            length += -(-parameter.numel() // BLOCK) * BLOCK
        size = BLOCK * (self._group.world_size if self._group is not None else 1)
        length = -(-length // size) * size
        free: list[Tensor] = []
        return Bucket(parameters, starts, length, [], TreeSum(self._num_leaves, free.append), free)

    def _new_vector(self, bucket: Bucket) -> Tensor:
        # Zeros: the few numbers behind each gradient are sent too, and count in the norm.
        return torch.zeros(bucket.length, dtype=bucket.parameters[0].dtype, device=bucket.parameters[0].device)


def _split(parameters: Sequence[nn.Parameter], max_bytes: int) -> list[list[nn.Parameter]]:
    """Cut the parameters into groups of one dtype and at most `max_bytes`; a larger parameter is a group of its own."""
    groups: list[list[nn.Parameter]] = []
    num_bytes = 0
    for parameter in parameters:
        own = parameter.numel() * parameter.element_size()
        if not groups or num_bytes + own > max_bytes or groups[-1][0].dtype != parameter.dtype:
            groups.append([])
            num_bytes = 0
        groups[-1].append(parameter)
        num_bytes += own
    return groups
