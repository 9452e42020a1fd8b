"""A training in two processes equals one in a single process: the same curves up to rounding, bitwise equal masks."""

import os

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

from runner.config.compose import Composer, options
from runner.dropout.base import WeightVariant
from runner.errors import UserError
from runner.experiment import Experiment
from runner.processes import ALONE
from runner.running import settle
from runner.training.distributed import Several

SMALL = ("debug=smoke", "precision=float32", "device=cpu", "schedule.length=4it", "schedule.learning_rate=0.05")
ODD = "schedule.batch_size=31"  # cannot be split in half
VARIANTS = [f"dropout={name}" for name in options("dropout")]
OTHERS = {
    "BatchNorm": ("model=resnet32_he", "model.blocks=1", ODD),
    "plain dropout in the model": ("model=gpt", "data=text", "task=language_modelling", "model.residual_dropout=0.2",
                                   "data.train=[text]", "data.context=8", "schedule.batch_size=24"),
    "pairs, and more processes than some batches have": ("model=transformer", "data=parallel", "data.train=[text,text]",
              "data.validation=[text,text]", "data.test=[text,text]", "data.vocabulary=300", "schedule.batch_size=12"),
    "penalty": ("model=mlp", "dropout=targeted", "regularizer=l1", ODD, "schedule.clip_norm=0.1"),
}  # fmt: skip
CASES = [*VARIANTS, *OTHERS]
TEXT = "".join(f"line {i} {'ab'[i % 2] * (i % 9)}\n" for i in range(60))


def train(config, processes):
    """Return the learning curve, and the mask of each layer's weight in every forward pass in training."""
    parts = Experiment.from_config(config)
    parts.processes = processes
    training, masks, curve = parts.training(), [], []
    if isinstance(parts.variant, WeightVariant):
        for module in parts.variant.parametrizations().values():
            module.register_forward_hook(lambda module, inputs, output: masks.append(output.detach() != 0))
    while training.step < training.steps:
        before = dict(training.sums)
        training.one_step()
        curve.append([float(value - before.get(name, 0)) for name, value in training.sums.items()])
        processes.check_alike()
    running = [b.clone() for name, b in parts.model.named_buffers() if "running" in name]
    return {"curve": curve, "masks": masks, "weights": list(parts.model.state_dict().values()), "running": running}


def check_errors(rank, processes):
    """Errors and differences in one process give a one-line message. Tested here, because two processes are needed."""

    def fail():
        if rank == 1:
            raise UserError("no such file")

    with pytest.raises(UserError, match="process 1: no such file" if rank == 0 else "^$"):
        processes.together(fail)
    with pytest.raises(UserError, match="of int can't be split over processes"):
        processes.own_rows(3)
    processes.own_rows(torch.zeros(6, 2))
    with pytest.raises(UserError, match="dropout draws 4 rows, but a process has 3 examples"):
        processes.drawn(torch.rand, 4)
    torch.rand(1 + rank)
    with pytest.raises(UserError, match="the processes draw different random numbers"):
        processes.check_alike()
    if rank == 1:
        os._exit(0)
    with pytest.raises(UserError, match=r"process 0 of 2: another process .* has ended; the same command resumes"):
        processes.leave()


def work(rank, folder, configs):
    os.chdir(folder)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    processes = Several(torch.device("cpu"), sync_batch_norm=True)
    torch.save({name: train(config, processes) for name, config in configs.items()}, folder / f"{rank}.pt")
    check_errors(rank, processes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "text").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def configs(folder, dropout_of):
    composer = Composer("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plain = settle(composer.single([*SMALL, "model=mlp", ODD]))
        others = {name: settle(composer.single([*SMALL, *words])) for name, words in OTHERS.items()}
    return {f"dropout={name}": {**plain, "dropout": dropout_of(name)} for name in options("dropout")} | others


@pytest.fixture(scope="module")
def two(folder, configs):
    start_processes(work, (folder, configs), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case, two, configs, folder, monkeypatch):
    monkeypatch.chdir(folder)
    one = train(configs[case], ALONE)
    first, second = (side[case] for side in two)
    torch.testing.assert_close(first["curve"], one["curve"], rtol=2e-4, atol=1e-4)
    torch.testing.assert_close(first["running"], one["running"], rtol=1e-4, atol=1e-5)
    assert first["curve"] == second["curve"]
    assert len(first["masks"]) == len(one["masks"])
    assert all(map(torch.equal, first["masks"], second["masks"]))
    layers = len(one["masks"]) // 4  # in the first step, in which the weights are bitwise the same
    assert all(map(torch.equal, first["masks"][:layers], one["masks"][:layers]))
    assert all(map(torch.equal, first["weights"], second["weights"]))
