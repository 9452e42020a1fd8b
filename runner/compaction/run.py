"""Cut or pack the network of a finished run, prove the result equal, measure it and write it to a folder."""

import copy
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runner.compaction.certificate import Certificate, write_certificate
from runner.compaction.costs import expected_parameters
from runner.compaction.cutting import LayerCut, compact
from runner.compaction.measuring import Timing, measure
from runner.compaction.proof import Proof, prove
from runner.compaction.saving import load_compact, save_compact, save_packed_network
from runner.compaction.structure import Structure
from runner.config import choices
from runner.config.build import NAMED_CLASS, PACKAGES, about_inputs, arguments, canonical, is_builder, target
from runner.data.token_batches import PairBatch
from runner.errors import ConfigError, UserError
from runner.experiment import Experiment
from runner.pruning.apply import apply_masks
from runner.pruning.granularities.base import Members
from runner.pruning.sweep import Sweeper, has_batch_norm, statistics
from runner.runs import Run
from runner.stored import load_scores
from runner.tasks.metrics import names_of, of_task

Arguments = tuple[Tensor, ...]


@dataclass(frozen=True)
class Request:
    """How to make a run's network compact.

    Args:
        granularity, criterion: resolved choices; see `runner.config.choices`.
        sparsity: the requested sparsity.
        floor: the minimum sparsity; "auto" means the variant's own; see `Variant.floor`.
        removal, round_to, fold: see `compact`; used only for networks that are cut.
        batch_norm: "kept", "recalibrated", or "auto": recalibrated, unless removal is "exact".
        half: see `pack`; used only for networks that are packed.
    """

    granularity: Mapping[str, Any]
    sparsity: float
    criterion: Mapping[str, Any]
    removal: str = "clean"
    batch_norm: str = "auto"
    round_to: int = 1
    fold: bool = True
    floor: float | str = "auto"
    half: bool = False

    @property
    def recalibrates(self) -> bool:
        return self.batch_norm == "recalibrated" or (self.batch_norm == "auto" and self.removal == "clean")

    @property
    def words(self) -> str:
        """A short description of the request, such as `weight sparsity 0.99, own criterion`."""
        return f"{self.granularity['key']} sparsity {self.sparsity:g}, {self.criterion['key']} criterion"


@dataclass
class _Made:
    network: nn.Module
    structure: Structure
    reference: nn.Module
    report: list[LayerCut]


def check_request(experiment: Experiment, run: Run, request: Request) -> Members:
    """Return the members that would be pruned.

    Raises:
        ConfigError: the model has no members of the requested granularity.
    """
    name = request.granularity["name"]
    try:
        members: Members = choices.make("granularity", request.granularity).members(experiment.model)
    except ValueError as error:
        raise ConfigError(f"granularity={name}: {error} ({run.folder})") from None
    return members


def make_compact(experiment: Experiment, run: Run, request: Request, timing: Timing) -> Certificate:
    """Make a run's network compact and write its certificate.

    The network is pruned in the same way as in the sweep, cut or packed, and measured. The written files are proved
    equal to the pruned network.

    Raises:
        ConfigError: see `check_request`.
        UserError: the proof fails; nothing is kept.
    """
    members = check_request(experiment, run, request)
    experiment.load(run)
    trained = plain_copy(experiment.model)
    _prune(experiment, run, members, request)
    pruned = plain_copy(experiment.model)
    packed = not members.structured
    example = tuple(part[:8] for part in next(inputs_of_test(experiment)))
    folder = run.compact_folder(request.granularity["key"], request.sparsity)
    with replaced(folder, run) as partial:
        made = _make(experiment, pruned, example, request, packed)
        stored_bytes = _store(partial, experiment, made, request, packed)
        network = load_compact(partial).to(experiment.device)
        proof = _proof(experiment, made, network)
        if not proof.holds:
            raise UserError(f"{run.folder}: {difference(proof)}; nothing was kept")
        networks = {"trained": trained, "pruned": pruned, "reference": made.reference, "compact": network}
        measured = measure(networks, example, test_images(experiment), stored_bytes, packed, timing)
        if made.structure.folded:
            measured.notes.insert(0, "BatchNorm is folded into the compact network's layers; fold=false keeps it")
        certificate = Certificate(
            title=f"{run.folder}: {request.words}",
            actual_sparsity=members.sparsity(),
            declared=of_task(experiment.task),
            metrics={name: metrics_on_test(experiment, one) for name, one in networks.items()},
            recalibrated=request.recalibrates and has_batch_norm(trained),
            proof=proof,
            measured=measured,
            report=made.report,
        )
        write_certificate(certificate, partial)
    return certificate


@contextmanager
def replaced(folder: Path, run: Run) -> Iterator[Path]:
    """Context manager that yields the path of a folder to create, which replaces `folder` if nothing fails.

    Raises:
        UserError: a ValueError was raised inside; nothing is kept.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except ValueError as error:
        raise UserError(f"{run.folder}: {error}; nothing was kept") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # it isn't empty
            folder.parent.rmdir()


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, in contiguous memory format."""
    return copy.deepcopy(model).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def sweeper_of(experiment: Experiment, run: Run, request: Request) -> Sweeper:
    """Return the run's sweeper with the requested criterion."""
    sweeper = experiment.sweeper(load_scores(run, experiment.device))
    sweeper.criteria = {request.criterion["key"]: choices.make("criterion", request.criterion)}
    return sweeper


def _prune(experiment: Experiment, run: Run, members: Members, request: Request) -> None:
    """Prune the experiment's model in the same way as the sweep."""
    sweeper = sweeper_of(experiment, run, request)
    floor = experiment.variant.floor(members.granularity) if request.floor == "auto" else float(request.floor)
    sparsity = max(request.sparsity, floor)
    masks, values = sweeper.pruning(members, experiment.variant.scope, request.criterion["key"])(sparsity)
    apply_masks(members.weights, {**members.weights, **values}, masks)


def _make(experiment: Experiment, pruned: nn.Module, example: Arguments, request: Request, packed: bool) -> _Made:
    recalibrates = request.recalibrates and has_batch_norm(pruned)

    def recalibrate(network: nn.Module) -> None:
        measure_statistics(experiment, network)

    if packed:
        reference = copy.deepcopy(pruned)
        if request.half:
            for parameter in reference.parameters():
                if parameter.dim() > 1:
                    parameter.data = parameter.data.half().float()
        if recalibrates:
            recalibrate(reference)
        return _Made(reference.eval(), Structure(), reference, [])
    result = compact(
        pruned,
        example,
        request.removal,
        recalibrate if recalibrates else None,
        request.round_to,
        fold=request.fold,
    )
    return _Made(result.network, result.structure, result.reference, result.report)


def measure_statistics(experiment: Experiment, network: nn.Module) -> None:
    """Recompute BatchNorm's statistics on the experiment's training images, in place."""
    with statistics(network, experiment.data, "recalibrated", experiment.config["seed"]):
        state = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)  # leaving the context has restored the old statistics


def _store(folder: Path, experiment: Experiment, made: _Made, request: Request, packed: bool) -> int:
    """Write the network and return the size of its files in bytes."""
    class_name, built_with = builder_of(experiment)
    if packed:
        return save_packed_network(folder, made.network, class_name, built_with, request.half)
    return save_compact(folder, made.network, made.structure, class_name, built_with)


def _proof(experiment: Experiment, made: _Made, network: nn.Module) -> Proof:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 would lose half of float32's digits
        return prove(
            made.reference,
            network,
            inputs_of_test(experiment),
            expected_parameters(made.reference, made.structure),
        )


def difference(proof: Proof) -> str:
    """Describe why a proof doesn't hold."""
    if proof.parameters != proof.expected_parameters:
        return f"the compact network has {proof.parameters:,} parameters, not {proof.expected_parameters:,}"
    return f"the compact network's outputs differ by {proof.relative:.1e} relative from the pruned one's"


def builder_of(experiment: Experiment) -> tuple[str, dict[str, Any]]:
    """Return the name of the class that rebuilds the experiment's network, and its arguments as plain values.

    A user's own class is built by `runner.models.foreign.module.Module`, which checks whether it is trusted.
    """
    config = experiment.config
    about = about_inputs(config, experiment.data.model_arguments())
    path, given = canonical(str(config["model"]["_target_"])), arguments(config, "model")
    if is_builder(target(config, "model")):
        return path, {**given, **about, "weights": None}
    if path.startswith(f"{PACKAGES['model']}."):
        return path, {**given, **about}
    module, _, name = path.rpartition(".")
    return NAMED_CLASS, {"architecture": f"{module}:{name}", "arguments": {**given, **about}}


def metrics_on_test(experiment: Experiment, network: nn.Module) -> dict[str, float]:
    """Return the task's metrics, the loss and the number of examples on the test split."""
    batches = experiment.data.eval_batches("test", experiment.config.get("limit"))
    found = experiment.task.evaluate(network.eval(), batches)
    return {name: float(found[name]) for name in (*names_of(experiment.task.sweep_metrics), "loss", "examples")}


def inputs_of_test(experiment: Experiment) -> Iterator[Arguments]:
    """Yield the arguments of the network's forward for each batch of the test split."""
    for batch in experiment.data.eval_batches("test", experiment.config.get("limit")):
        yield (batch.source, batch.target[:, :-1]) if isinstance(batch, PairBatch) else (batch[0],)


def test_images(experiment: Experiment) -> Tensor | None:
    """Return float32 test images for timing, or None if the data doesn't consist of images."""
    first = next(inputs_of_test(experiment))
    return first[0] if len(first) == 1 and first[0].is_floating_point() else None
