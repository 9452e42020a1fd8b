"""Tabulate what pruning and cutting leave of other people's networks, untrained: one row per network.

    python examples/other_networks.py [NETWORK…] [--out=FILE.md]

Each network is built by its library with random weights, inspected, trained for one step with targeted dropout of
weights and of filters, pruned by half of every layer's filters, cut, stored, loaded again and compared with the pruned
one on new inputs. Needs the extras timm and transformers; networks of a missing library are left out.
"""

import copy
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner import __version__, load_compact
from runner.compaction.cutting import compact
from runner.compaction.inspection import Inspection, inspect_network
from runner.compaction.saving import save_compact
from runner.config import choices
from runner.dropout import Targeted, TargetedUnit
from runner.errors import ConfigError, located
from runner.models.foreign.base import Foreign
from runner.models.foreign.timm import Timm
from runner.models.foreign.torchvision import Torchvision
from runner.models.foreign.transformers import Transformers
from runner.models.layers import prunable_layers
from runner.pruning.apply import prune

SPARSITY, AGREES = 0.5, 1e-5
BERT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "vocab_size": 500,
}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500, "n_positions": 64}


@dataclass(frozen=True)
class Network:
    builder: type[Foreign]
    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    image_size: int = 64

    @property
    def name(self) -> str:
        return f"{self.builder.library} {self.architecture}"


NETWORKS = [
    *(Network(Torchvision, name) for name in ("resnet18", "mobilenet_v3_small", "densenet121", "convnext_tiny")),
    *(Network(Torchvision, name) for name in ("regnet_y_400mf", "efficientnet_b0", "swin_t", "vit_b_16")),
    *(Network(Timm, name) for name in ("resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224")),
    *(Network(Timm, name) for name in ("regnetx_002", "efficientnet_b0")),
    Network(Timm, "swin_tiny_patch4_window7_224", {"window_size": 4}),
    Network(Transformers, "bert", BERT),
    Network(Transformers, "gpt2", GPT2),
    Network(
        Transformers,
        "vit",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256},
    ),
]


def main(words: list[str]) -> None:
    names = [word for word in words if not word.startswith("--")]
    outs = [word.partition("=")[2] for word in words if word.startswith("--out=")]
    rows = []
    for network in NETWORKS:
        if names and network.name not in names and network.architecture not in names:
            continue
        rows.append(row_of(network))
        print(" | ".join(rows[-1]), flush=True)
    if outs:
        Path(outs[0]).parent.mkdir(parents=True, exist_ok=True)
        Path(outs[0]).write_text(page(rows))


def row_of(network: Network) -> list[str]:
    """Return the cells of one network's row; a step that fails is reported in one line."""
    torch.manual_seed(0)
    about = {"channels": 3, "image_size": network.image_size, "classes": 10}
    try:
        builder = network.builder(network.architecture, None, network.arguments, **about)
        model = alive(builder.build())
    except ConfigError as error:
        return [network.name, *["–"] * 6, str(error)]
    example = builder.example(model)
    model.prunable = list(prunable_layers(model, example=example))  # type: ignore[assignment]
    found = inspect_network(model, example, SPARSITY, choices.builtin("granularity", "unit"))
    trained = [step_of_training(model, variant(), example) for variant in (Targeted, TargetedUnit)]
    prune(model, SPARSITY, "unit")
    try:
        result = compact(model, example, removal="exact")
        with tempfile.TemporaryDirectory() as folder:
            arguments = {"architecture": network.architecture, "arguments": network.arguments, **about}
            name = f"{network.builder.__module__}.{network.builder.__qualname__}"
            save_compact(Path(folder), result.network, result.structure, name, arguments)
            loaded = load_compact(folder)
        relative = difference(model, loaded, builder.example(model, 4))
        cleaned = compact(model, example)
        clean = difference(cleaned.reference, cleaned.network, builder.example(model, 4))
    except Exception as error:  # reported in the table
        return [network.name, *_counts(found), *trained, "–", "–", located(error)[:120]]
    whole = found.parameters
    exact, left = (sum(p.numel() for p in one.network.parameters()) / whole for one in (result, cleaned))
    agreement = f"{relative:.0e}, {clean:.0e}" + ("" if max(relative, clean) <= AGREES else " DIFFERS")
    return [network.name, *_counts(found), *trained, f"{exact:.2f}, {left:.2f}", agreement, stays(found)]


def alive(model: nn.Module) -> nn.Module:
    """Return the model with no parameter that is all zeros or ones, and with statistics as after training."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2 or not parameter.any() or "gamma" in name or "layer_scale" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2 + (0.8 if name.endswith("weight") else 0.1))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def step_of_training(model: nn.Module, variant: Any, example: tuple[torch.Tensor, ...]) -> str:
    """Attach a variant, compute a step's gradients and detach it again, on a copy."""
    model = copy.deepcopy(model)
    names = list(model.state_dict())
    try:
        variant.attach(model, example=example)
        model.train()
        variant.before_step(0, 10)
        model(*example).float().square().mean().backward()
        variant.detach()
    except Exception as error:  # reported in the table
        return located(error)[:80]
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if bad or list(model.state_dict()) != names:
        return f"no finite gradient of {bad[0]}" if bad else "leaves another network"
    return "yes"


@torch.no_grad()
def difference(model: nn.Module, other: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the largest difference of the outputs, relative to the largest output."""
    ours, theirs = model(*inputs), other(*inputs)
    return float((ours - theirs).abs().max() / ours.abs().max())


def _counts(found: Inspection) -> list[str]:
    prunable = sum(1 for one in found.layers if one.prunable)
    return [f"{found.parameters:,}", f"{prunable} of {len(found.layers)}"]


def stays(found: Inspection) -> str:
    """Return the prunable layers that can't be cut, by reason."""
    whole = [one for one in found.layers if one.prunable and one.stays and one.left[0] == one.whole[0]]
    reasons = Counter(re.sub(r" to \(.*|^\d+ of \d+: |^\d+ zero filters ", "", _grouped(one.stays)) for one in whole)
    return "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common()) or "–"


def _grouped(reason: str) -> str:
    return re.sub(r"a convolution of \d+ groups.*", "a grouped convolution", reason)


def page(rows: list[list[str]]) -> str:
    """Return the page with the table."""
    head = ["network", "parameters", "prunable layers", "targeted", "targeted_unit", "parameters left", "difference"]
    head.append("prunable layers that stay as wide as they are, and why")
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    table = [head, ["-" * max(len(h), 3) for h in head], *rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return f"""# Other people's networks

```sh
python examples/other_networks.py --out=outputs/reference/foreign/README.md
```

Each network untrained, with random weights and statistics of BatchNorm, half of every layer's filters pruned by
magnitude, each layer for itself. *targeted*, *targeted_unit*: whether the dropout attaches, trains a step and detaches.
*Parameters left*: of the cut network, as a fraction, with `removal=exact` (the outputs are those of the pruned network)
and with `removal=clean` (what zero filters still emit through BatchNorm goes, too). *Difference*: of the outputs on new
inputs, relative to the largest: the cut network, stored and loaded again, from the pruned one; and with `clean` from
the cleaned one. Above {AGREES:g} it would say DIFFERS. run {__version__}, {versions}, CPU.

{lines}

Layers that stay are computed with as they are; other layers around them are still cut. `run inspect` says it layer by
layer, with the reason.
"""


def _versions() -> dict[str, str]:
    found = {"torch": torch.__version__.partition("+")[0]}
    for builder in (Torchvision, Timm, Transformers):
        found |= builder.versions()
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
