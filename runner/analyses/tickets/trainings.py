"""Train the masked networks of one finished run, and collect their results and costs."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from runner.analyses.tickets.plan import Ticket, removed, rounds, sweep
from runner.analyses.tickets.report import Outcome
from runner.analyses.tickets.sources import Source, hash_of
from runner.config.build import build_model
from runner.errors import DamagedRun, first_line
from runner.experiment import Experiment
from runner.files import write_bytes
from runner.pruning.sweep import asked_points, has_batch_norm
from runner.reporting.points import read_points
from runner.running import execute, run_of
from runner.runs import Run
from runner.seeding import derive_seed
from runner.stored import load_scores
from runner.training.loop import Training
from runner.training.progress import Progress


@dataclass
class Trainings:
    """All training runs requested for one source run."""

    source: Source
    asked: Mapping[str, Any]
    overrides: Sequence[str]
    foreign: bool
    made: set[Path]  # folders of runs that this command has finished
    shown: bool = True  # whether the folder of each run is printed
    early: dict[str, Tensor] = field(default_factory=dict)  # the source's weights at the step to rewind to

    def chains(self) -> dict[str, list[Ticket]]:
        """Return the requested methods as chains of training runs. Each run takes its mask from the previous one."""
        source, asked = self.source, self.asked
        # As in the run's own sweep, the sparsity is never below its γ.
        sparsity = max(asked["sparsity"], source.variant.floor(asked["granularity"]))
        what = (asked["granularity"], sparsity, self._scores())
        first = Ticket("ticket", *what, rewind=source.rewind, length=asked["length"])
        tuned = replace(first, name="finetuned", weights="final", rewind=0, length=asked["finetune"])
        tuned = replace(tuned, rate=asked["finetune_rate"])
        plans = {
            "finetuned": [tuned],
            "finetuned iteratively": rounds(replace(tuned, name="tuning"), asked["iterations"]),
            "ticket": [first],
            "fresh": [replace(first, name="fresh", weights="fresh", rewind=0)],
            "random": [replace(first, name="random", scores="random")],
            "iterative": rounds(replace(first, name="round"), asked["iterations"]),
        }
        wanted = {*asked["kinds"], *(["finetuned"] if asked["finetune"] else [])}
        if asked["iterations"] > 1 and source.plain:
            wanted |= {"iterative", *(["finetuned iteratively"] if asked["finetune"] else [])}
        return {name: plan for name, plan in plans.items() if name in wanted}

    def outcomes(self) -> list[Outcome]:
        """Train the missing runs, and return the results and costs of all methods and of the source run itself."""
        self._share_threads()
        return [*self._untrained(), *(self._outcome(name, plan) for name, plan in self.chains().items())]

    def train_all(self, chains: Iterable[Sequence[Ticket]]) -> None:
        """Train the missing runs of the chains."""
        self._share_threads()
        for chain in chains:
            run = self.source.run
            for one in chain:
                run = self._trained(one, run)

    def first_folder(self, chain: Sequence[Ticket]) -> Path:
        """Return the folder of a chain's first run, which several sources may share."""
        return run_of(self._config(chain[0], self.source.run), self.foreign)[0].folder

    def _share_threads(self) -> None:
        if threads := self.source.run.threads():  # for bitwise agreement with the source's training
            torch.set_num_threads(threads)

    def _scores(self) -> str:
        """Return the requested scores, or "magnitude" if the run has no scores of its own."""
        asked = str(self.asked["scores"])
        own = load_scores(self.source.run, torch.device("cpu")) if asked == "own" else {}
        return "magnitude" if asked == "own" and self.asked["granularity"] not in own else asked

    def _untrained(self) -> list[Outcome]:
        """Evaluate the source run itself, dense and pruned, without writing to its folder."""
        source, sparsity = self.source, self.asked["sparsity"]
        parts = Experiment.from_config(source.config)
        parts.load(source.run)
        prune = sweep(self.asked["granularity"], self.asked["scores"], "auto", sorted({0.0, sparsity}))
        points = asked_points(prune, (), parts.variant.floor, has_batch_norm(parts.model), parts.data.splits)
        rows = list(parts.sweeper(load_scores(source.run, parts.device)).rows(points))
        epochs = source.steps / source.steps_per_epoch
        return [
            Outcome(
                *(source.column, method, source.config["seed"]),
                *((epochs, source.seconds) if method == "dense" else (0.0, 0.0)),
                *(epochs, source.seconds),
                next(row["actual_sparsity"] for point, row in rows if point.sparsity == wanted),
                {(p.split, p.batch_norm): row[source.metric.name] for p, row in rows if p.sparsity == wanted},
            )
            for method, wanted in (("dense", 0.0), ("pruned", sparsity))
        ]

    def _outcome(self, method: str, trainings: Sequence[Ticket]) -> Outcome:
        """Return the results and costs of a chain of training runs."""
        source, last = self.source, trainings[-1]
        run, steps, seconds = source.run, 0, 0.0
        for one in trainings:
            run = self._trained(one, run)
            steps += int(run.status()["steps"]) - one.rewind
            seconds += float(run.status()["seconds"])
        # A random mask needs no other training, except for the steps up to the weights that it is rewound to.
        part = last.rewind / source.steps if method == "random" else 1.0
        points = read_points(run)
        points = points[points["sparsity"] == round(last.sparsity, 9)]
        points = points[(points["granularity"] == last.granularity) & (points["floor"] == 0)]
        points = points[(points["scores"] == "own") & (points["scope"] == "layer")]
        return Outcome(
            *(source.column, method, source.config["seed"], steps / source.steps_per_epoch, seconds),
            *((part * source.steps + steps) / source.steps_per_epoch, part * source.seconds + seconds),
            float(points["actual_sparsity"].iloc[0]),
            {(str(r["split"]), str(r["batch_norm"])): float(r[source.metric.name]) for _, r in points.iterrows()},
        )

    def _trained(self, one: Ticket, base: Run) -> Run:
        """Return the run of one ticket with a mask from `base`. Train it if it is missing."""
        config = self._config(one, base)
        config["force"] = self.asked["force"] and run_of(config, self.foreign)[0].folder not in self.made
        run, _ = execute(
            config,
            self.overrides,
            self.foreign,
            command=("ticket", str(self.source.run.folder)),
            training_of=partial(self._training, one, base),
        )
        if run.folder not in self.made and self.shown:
            print(run.folder, flush=True)
        self.made.add(run.folder)
        return run

    def _config(self, one: Ticket, base: Run) -> dict[str, Any]:
        name = f"{base.config()['dropout']['name']}-{hash_of(base)}"
        return {**one.config(self.source.config, name), "outputs": self.asked["outputs"], "force": False}

    def _training(self, one: Ticket, base: Run, parts: Experiment) -> Training:
        """Prepare the masked training: set the mask from the weights of `base`, then load the initial weights."""
        initial = copy.deepcopy(parts.model.state_dict())
        own = {}
        if one.needs_source:
            parts.load(base)
            own = load_scores(base, parts.device)
        parts.variant.removed = removed(parts.sweeper(own), one)  # type: ignore[attr-defined]
        if one.weights == "fresh":
            torch.manual_seed(derive_seed(parts.config["seed"], "fresh"))
            initial = build_model(parts.config, **parts.data.model_arguments()).state_dict()
        if one.rewind:
            self._rewind(parts.model)
        elif one.weights != "final":
            parts.model.load_state_dict(initial)
        return parts.training(start_step=one.rewind)

    def _rewind(self, model: nn.Module) -> None:
        """Load the source's weights at the rewinding step into the model, from a file if it exists.

        Raises:
            DamagedRun: the weights cannot be read or belong to another model.
        """
        source = self.source
        names = [source.config[group]["name"] for group in ("data", "model", "dropout")]
        name = "-".join([*names, hash_of(source.run), f"seed{source.config['seed']}", f"{source.rewind}it.safetensors"])
        file = Path(self.asked["outputs"]) / "ticket" / "early" / name
        if not self.early and file.exists() and not self.asked["force"]:
            try:
                self.early = load_file(file)
                model.load_state_dict(self.early)
            except Exception as error:
                said = f"{file} is damaged ({first_line(error)[:100]}); delete it to train its steps again"
                raise DamagedRun(said) from None
        if not self.early:
            self.early = self._early()
            if self.asked["keep"]:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(file, save({key: tensor.cpu().contiguous() for key, tensor in self.early.items()}))
        model.load_state_dict(self.early)

    def _early(self) -> dict[str, Tensor]:
        """Repeat the source's first steps. The weights are the same, since the configuration determines a run."""
        parts, steps = Experiment.from_config(self.source.config), self.source.rewind
        training = parts.training()
        with Progress().counting(steps, "rewinding") as advance:
            while training.step < steps:
                training.one_step()
                advance()
        parts.variant.detach()
        return parts.model.state_dict()
