"""Keep track of the channels of a model's activations during a trace."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from runner.compaction.coupling import Channels, Coupling, Layer


class Followed:
    """The channels of each activation and their coupling, as recorded by a trace."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        owners = Counter(id(tensor) for _, tensor in named)
        # Parameter → (module, name). A parameter that several modules share is left out.
        self.names = {id(t): name.rpartition(".")[::2] for name, t in named if owners[id(t)] == 1}
        self.tracked: dict[int, Tensor] = {}  # activation → the channel of each element
        self.heads: dict[str, Tensor] = {}  # layer → a channel for each of its heads, whose features stay together
        self.channels = Channels()
        self.found = Coupling()

    def of(self, tensor: Tensor) -> Tensor:
        """Return the channel of every element, or FIXED everywhere if the tensor isn't tracked."""
        known = self.tracked.get(id(tensor))
        return torch.zeros(tensor.shape, dtype=torch.int64) if known is None else known

    def mixes(self, name: str, tensors: Any) -> Tensor | None:
        """Fix the channels that are read by an operation without a rule. The operation's result isn't tracked."""
        for tensor in tensors:
            if isinstance(tensor, Tensor) and id(tensor) in self.tracked:
                self.channels.fix(self.of(tensor), f"goes through {name}")
        return None

    def read(self, ids: Tensor, dim: int) -> Tensor:
        """Return the channel at each index of `dim`, after joining channels that share an index into one group."""
        rows = ids.movedim(dim, 0).flatten(1)
        mixed = (rows != rows[:, :1]).any(1)
        for row in rows[mixed]:
            first, *others = row.unique().tolist()
            for other in others:
                self.channels.join(first, other)
        return rows[:, 0]

    def producers(self, ids: Tensor) -> list[Layer]:
        """Return the layers that produce the given channels."""
        wanted = ids.unique()
        made = {name: layer.outputs for name, layer in self.found.layers.items()}
        made |= {name: torch.cat([made[name], heads]) for name, heads in self.heads.items()}
        return [self.found.layers[name] for name, channels in made.items() if torch.isin(channels, wanted).any()]
