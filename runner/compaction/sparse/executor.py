"""Execute networks on single images and on groups of eight, with the fastest kernels on this machine."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from runner.compaction.sparse.graph import Input, Node, Second, Taps, in_order
from runner.compaction.sparse.layout import LANES
from runner.compaction.sparse.operations import Op, Program, Step
from runner.compaction.sparse.program import Arena, Builder
from runner.compaction.sparse.threads import in_threads, shares

GROUP = LANES
_LARGEST_GROUPED = 16  # px; wider planes of eight images don't stay in the cache, and fill vectors on their own
_NANOSECONDS_A_FLOAT = 0.5  # for operations that move an image pixel by pixel
_WORTH = 0.95  # of the time without groups; a smaller gain can't be told from noise
_ROUNDS, _ROUND_NANOSECONDS = 5, 30_000

Choices = dict[tuple[Node, int], int]  # (node, index of the operation) → index of the kernel


@dataclass
class Compiled:
    """A program that is ready to run.

    Args:
        single: operations on single images.
        grouped: operations on a group of images.
    """

    library: ctypes.CDLL
    single: list[Step]
    grouped: list[Step]
    group: int
    floats: int
    input_size: int
    output_size: int
    _arenas: list[tuple[np.ndarray, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._single = (Op * max(1, len(self.single)))(*(step.op for step in self.single))
        self._grouped = (Op * max(1, len(self.grouped)))(*(step.op for step in self.grouped))
        self._program = Program(
            self.group,
            len(self.single),
            len(self.grouped),
            self._single,
            self._grouped,
            self.input_size,
            self.output_size,
        )
        self._address = ctypes.addressof(self._program)
        self._run = self.library.run_program

    def run(self, images: int, results: int, count: int, times: np.ndarray | None = None) -> None:
        """Compute the results of `count` images, a multiple of the group; `images` and `results` are addresses.

        Args:
            times: array to which the nanoseconds of each operation are added, those on single images first.
        """
        arena = self.arena()
        code = self._run(self._address, images, results, count, arena[1], None if times is None else times.ctypes.data)
        self._arenas.append(arena)
        if code:
            raise RuntimeError("a compiled program names a kernel that doesn't exist")

    def arena(self) -> tuple[np.ndarray, int]:
        """Return memory that no other thread is using, which is zero when it is new, and its address."""
        try:
            return self._arenas.pop()
        except IndexError:
            raw = np.zeros(self.floats + 16, np.float32)
            aligned = raw[-(raw.ctypes.data // 4) % 16 :][: self.floats]  # to a cache line
            return aligned, aligned.ctypes.data

    @property
    def steps(self) -> list[Step]:
        """All operations, those on single images first."""
        return [*self.single, *self.grouped]


class Executor:
    """Executes all nodes that an output depends on, for any number of images.

    Args:
        output: as returned by `trace`.
        example: contiguous float32 images (N, …) for timing the kernels, at least GROUP of them.
    """

    def __init__(self, library: ctypes.CDLL, output: Node, example: np.ndarray) -> None:
        _declare(library)
        self.library, self.output = library, output
        self.nodes = _ordered(output)
        self.shape = next(node.shape for node in self.nodes if isinstance(node, Input))
        self.single, times = self._measured(len(self.nodes), example)
        self.grouped = self._grouped(times, example)

    def run(self, images: int, results: int, count: int, threads: int) -> None:
        """Compute the results of `count` images; `images` and `results` are addresses."""
        grouped = count // GROUP * GROUP if self.grouped else 0
        if count == 1 or threads == 1:  # a few microseconds matter for a single image
            self._part(images, results, 0, count, grouped)
            return

        def part(first: int, last: int) -> None:
            self._part(images, results, first, last, grouped)

        in_threads(part, shares(count, threads, GROUP if grouped else 1))

    def _part(self, images: int, results: int, first: int, last: int, grouped: int) -> None:
        """Compute the results of images `first` to `last` - 1; those with indices below `grouped` in groups."""
        end = min(last, grouped)
        if self.grouped and first < end:
            self._images(self.grouped, images, results, first, end)
        if last > grouped:
            self._images(self.single, images, results, max(first, grouped), last)

    def _images(self, program: Compiled, images: int, results: int, first: int, last: int) -> None:
        input_bytes, output_bytes = 4 * program.input_size, 4 * program.output_size
        program.run(images + first * input_bytes, results + first * output_bytes, last - first)

    def _measured(self, cut: int, example: np.ndarray) -> tuple[Compiled, dict[Node, float]]:
        """Return the fastest program that groups images after `cut` nodes, and each node's nanoseconds per image."""
        options = self._options(cut)
        program = self._compiled(options, {})
        results = np.empty((len(example), program.output_size), np.float32)
        program.run(example.ctypes.data, results.ctypes.data, program.group)
        _, arena = program.arena()
        choices: Choices = {}
        times: dict[Node, float] = dict.fromkeys(self.nodes, 0.0)
        for index, steps in enumerate(options[0] + options[1]):
            node, images = steps[0].node, 1 if index < len(options[0]) else GROUP
            if steps[0].kernel in ("load", "store", "interleave"):
                times[node] += _NANOSECONDS_A_FLOAT * float(np.prod(node.shape))
                continue
            took = [self._time(step, arena) for step in steps]
            choices[node, index] = int(np.argmin(took))
            times[node] += min(took) / images
        return self._compiled(options, choices), times

    def _time(self, step: Step, arena: int) -> float:
        def once(repeats: int, rounds: int) -> int:
            return int(self.library.time_op(ctypes.byref(step.op), arena, repeats, rounds))

        first = once(1, 2)
        return once(max(1, min(100, _ROUND_NANOSECONDS // max(1, first))), _ROUNDS)

    def _grouped(self, single: dict[Node, float], example: np.ndarray) -> Compiled | None:
        """Return the program that groups images from the best node, or None if grouping isn't faster."""
        count = len(self.nodes)
        wide = [i for i, n in enumerate(self.nodes) if n.shape[2] > _LARGEST_GROUPED and not isinstance(n, Input)]
        earliest = max(wide, default=-1) + 1
        if earliest == 1 and isinstance(self.nodes[0], Input):
            earliest = 0
        if earliest >= count:
            return None
        _, grouped = self._measured(earliest, example)
        costs = {}
        for cut in range(earliest, count + 1):
            if cut < count and isinstance(self.nodes[cut], Second):
                continue
            before, after = self.nodes[:cut], self.nodes[cut:]
            moved = sum(float(np.prod(node.shape)) for node in _crossing(before, after))
            costs[cut] = (
                sum(single[node] for node in before)
                + sum(grouped[node] for node in after)
                + moved * _NANOSECONDS_A_FLOAT * 2
            )
        best = min(costs, key=lambda cut: costs[cut])
        if costs[best] > _WORTH * costs[count]:
            return None
        return self._measured(best, example)[0]

    def _options(self, cut: int) -> tuple[list[list[Step]], list[list[Step]], int]:
        """Return the candidate kernels for each operation, on single images and on groups, and the arena's size."""
        before, after = self.nodes[:cut], self.nodes[cut:]
        arena = Arena()
        crossing = _crossing(before, after)
        if not after:
            single = Builder(before, {self.output}, 1, arena)
            steps = list(single.steps())
            return [*steps, [single.storing(self.output)]], [], arena.floats
        grouped = Builder(after, {self.output}, GROUP, arena, given=crossing)
        first: list[list[Step]] = []
        if before:
            single = Builder(before, set(crossing), 1, arena)
            first = list(single.steps())
            first += [[single.interleaving(node, grouped)] for node in crossing]
        second = list(grouped.steps())
        return first, [*second, [grouped.storing(self.output)]], arena.floats

    def _compiled(self, options: tuple[list[list[Step]], list[list[Step]], int], choices: Choices) -> Compiled:
        chosen = [steps[choices.get((steps[0].node, i), 0)] for i, steps in enumerate(options[0] + options[1])]
        single, grouped = chosen[: len(options[0])], chosen[len(options[0]) :]
        sizes = (int(np.prod(self.shape)), int(np.prod(self.output.shape)))
        return Compiled(self.library, single, grouped, GROUP if grouped else 1, options[2], *sizes)


def _ordered(output: Node) -> list[Node]:
    """Return all nodes in order of computation, with each second result directly after its first."""
    nodes: list[Node] = []
    for node in in_order(output):
        if isinstance(node, Second):
            continue
        nodes.append(node)
        if isinstance(node, Taps) and node.second is not None:
            nodes.append(node.second)
    return nodes


def _crossing(before: Sequence[Node], after: Sequence[Node]) -> list[Node]:
    """Return the nodes whose values are computed in `before` and read in `after`."""
    made = set(before)
    read = [source for node in after for source in node.sources if source in made]
    return list(dict.fromkeys(read))


def _declare(library: ctypes.CDLL) -> None:
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.size_of_op.restype = number
    library.run_program.argtypes = [pointer, pointer, pointer, number, pointer, pointer]
    library.time_op.argtypes, library.time_op.restype = [pointer, pointer, number, number], number
    if library.size_of_op() != ctypes.sizeof(Op):
        raise RuntimeError("kernels.c and program.py disagree about an operation's fields")
