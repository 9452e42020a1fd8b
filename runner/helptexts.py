"""What run --help and run COMMAND --help say."""

OVERVIEW = """\
run: train networks that survive pruning, prune them, tabulate

  run train       train a network, then prune it over many sparsities
  run prune       sweep a finished run again under other rules, without training
  run evaluate    metrics of finished runs' networks, whole, pruned or compact, on any split
  run inspect     what a network is made of: what can be pruned, what goes together, what it would save
  run compact     make a finished run's network really smaller: cut or packed, proved equal, measured
  run export      networks of finished runs as .pt2 or ONNX files, for other programs
  run table       gather runs into one table and a figure, mean ± deviation over seeds
  run report      one HTML page about runs: curves, tables, costs, certificates, failures
  run reproduce   train a published table's runs and set ours beside it
  run coadapt     which weights of finished runs depend on which, and what pruning them costs
  run ticket      train what pruning leaves again, from early weights: is it a winning ticket, what does it save?
  run fit         the smallest pruned network within a budget of accuracy, bytes, parameters, FLOPs or latency
  run scree       what is left of a finished run that keeps its first k features, beside PCA and other trainings
  run bench       measure this machine: what each dropout costs a training step, …
  run list        what there is: models, dropouts, data, …; run list runs: what ran
  run show        what a run is, what it reached, how to go on
  run diff        in what two runs differ
  run clean       delete failed runs and checkpoints of finished ones, after asking

Try:
  run train model=resnet32 dropout=targeted
  run train -m model=resnet32 dropout=none,targeted seed=0,1,2
  run table

run COMMAND --help explains a command. Options are written name=value."""

TRAIN = """\
run train [options]: train a network, prune it over many sparsities, print and write what is left

  run train model=resnet32 dropout=targeted             on scikit-learn's digits, a minute or three
  run train data=cifar10 data.root=~/data schedule.length=30ep
  run train dropout=targeted dropout.alpha=0.5 dropout.gamma=0.5
  run train -m dropout=none,targeted,ramping seed=0,1,2  all combinations; finished ones are not run again
  run train -m dropout=none,targeted hydra/launcher=parallel     one job a processor core

What to choose (run list shows all): model, dropout, data, schedule, task, prune, experiment, debug
  data.root=data data.download=true data.validation=0.1
  schedule.length=30ep or 500it   schedule.batch_size=128   schedule.learning_rate=0.1
  dropout.alpha=0.66 (drop rate)  dropout.gamma=0.75 (targeted fraction)
  prune.sparsities=[0,0.5,0.9]    prune.criterion=own|magnitude|wanda|…   prune.floor=auto|0
  prune.scope=auto|layer|uniform|erk|global
  seed=0   device=auto|cpu|cuda|mps   precision=auto|float32|bf16   compile=false
  force=true      train a finished or damaged run again
  limit=1000      evaluate on so many examples of each split only
  folder=PATH     where this run goes; by default outputs/train/<data>-<model>-<dropout>-<hash>/seed<seed>
  debug=smoke     any configuration in seconds, below outputs/smoke
  note='words'    stay with the run; run list runs, run show and run report tell them

Flags
  -m, --multirun      several values an option, separated by commas: one run for each combination
  --config-dir PATH   your own folder with YAML files (model/mine.yaml) and the classes they name
  --cfg job           print the composed configuration and stop

A killed run goes on from its last checkpoint when the same command is typed again, to the same numbers.
Exit codes: 0 done, 1 a run failed, 2 bad input and nothing written, 130 interrupted."""

PRUNE = """\
run prune FOLDER… [options]: sweep finished runs again under other rules, adding rows, without training

  run prune outputs/train/digits-resnet32-none-1a2b3c4d/seed0 prune.criterion=random
  run prune outputs/train prune.sparsities=[0.85,0.97] prune.scope=global

Options
  prune.sparsities=[0,0.5,0.9]   prune.granularity=auto|weight|unit|n_of_m|…|[weight,unit]
  prune.scope=auto|layer|uniform|erk|global   prune.floor=auto|0…1   prune.criterion=own|magnitude|wanda|…
  prune.batch_norm=[kept,recalibrated]
  prune.splits=[validation,test] device=auto|cpu|cuda|mps             data.root=PATH"""

EVALUATE = """\
run evaluate FOLDER… [options]: metrics of finished runs' networks, whole, pruned or compact, on any split

  run evaluate outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0
  run evaluate outputs/train sparsity=0.9 granularity=weight split=validation
  run evaluate outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0 predictions=predicted.csv
  run evaluate outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0/compact/unit-0.5

Prints one table with a row for each network: all runs at or below the folders, and the compact networks (run compact)
whose own folders are named; those are evaluated on the data of their run. Nothing is written but the predictions.

Options
  split=test|validation|train    limit=1000 (examples; by default as many as the run evaluated)
  sparsity=0        0: the whole network; above, pruned as in the run's sweep, which is never below its floor
  granularity=weight|unit|n_of_m|…    criterion=own|magnitude|wanda|…    floor=auto|0…1
  scope=auto|layer|uniform|erk|global
  batch_norm=kept|recalibrated
  predictions=FILE.csv     of one network for image classification: index, label, predicted
  device=auto|cpu|cuda|mps       data.root=PATH"""

EXPORT = """\
run export FOLDER… [options]: networks of finished runs as files for other programs: torch.export's .pt2, or ONNX

  run export outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0
  run export outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0 sparsity=0.9 format=onnx out=small.onnx
  run export outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0/compact/unit-0.5

Takes all runs at or below the folders, and the compact networks (run compact) whose own folders are named. Any batch
size fits, for the Transformer also any lengths of the sentences. Each file is loaded in a fresh process, which imports
nothing of this package, and must give PyTorch's outputs within 1e-5 relative; else it is not written.

Options
  format=torch_export|onnx       onnx needs the extra: pip install '.[export]'
  sparsity=0        0: the whole network; above, pruned as in the run's sweep, which is never below its floor
  granularity=weight|unit|n_of_m|…    criterion=own|magnitude|wanda|…    floor=auto|0…1
  scope=auto|layer|uniform|erk|global
  batch_norm=kept|recalibrated
  out=FILE          of one network; by default <run>/export/<what was pruned>.pt2 or .onnx
  device=cpu|auto|cuda|mps       data.root=PATH"""

TABLE = """\
run table [FOLDER…] [options]: gather runs into one table and a figure

  run table                                      all finished runs under outputs/ but run ticket's and smoke runs
  run table outputs/train table.granularity=unit table.batch_norm=recalibrated
  run table table=cifar10                        beside the paper's numbers; run list shows the tables

Rows are sparsities, columns whatever tells the runs apart, values the mean and standard deviation over seeds.
Rows below a column's floor (its dropout's γ) repeat the network pruned at the floor, as in the paper; the row
"unpruned" is of the network with nothing pruned.

Options
  table.floor=auto|0…1   which sweep is shown, by its floor: auto is the dropout's γ; 0 that of run prune prune.floor=0
  table.metric=auto|NAME what is tabulated, a column of pruning.csv; auto is the task's headline, loss is always there
  table.split=test|validation|train       the images or sentences that it was measured on
  table.granularity=auto|weight|unit|feature     table.batch_norm=kept|recalibrated     table.sparsities=[0,0.75]
  table.scope=auto|layer|global     table.scores=own|magnitude|…     'table.runs={data: digits, dropout: [none]}'
  table.x=sparsity|flops|parameters|bytes|nonzero_weights   the figure's horizontal axis

Writes CSV, Markdown, LaTeX, the figure and learning curves (PNG and SVG) below outputs/table (out=PATH: elsewhere)."""

REPORT = """\
run report [FOLDER…] [options]: one HTML page about runs, which needs no network and no server

  run report                                     all runs under outputs/ but smoke runs
  run report outputs/train/digits-* out=digits.html title='Digits'

Shows what ran (the options in which the runs differ, machine, commit, command), curves over sparsity and epochs, costs,
sortable tables, certificates of compact networks, samples, confusion matrices and failures. A confusion matrix is shown
of a run whose folder has predictions.csv: run evaluate FOLDER predictions=FOLDER/predictions.csv
No text of a run folder is executed: the page may be made of a stranger's runs. Needs the extra: pip install '.[report]'

Options
  out=report.html   title=Runs   outputs=outputs"""

REPRODUCE = """\
run reproduce table=NAME [options]: a published table again, cell by cell

  run reproduce table=paper2_weight --estimate          how many runs, how long here, how much disk
  run reproduce table=paper2_weight data.root=data      as in the paper: 100,000 steps a run, for a GPU
  run reproduce table=paper2_weight setup=own data=digits model=resnet32_he seed=0,1,2 jobs=2

Trains the runs that are missing (tables share them), sweeps each on the table's own sparsities, and writes CSV and
Markdown below outputs/table: ours, the published column, the difference; published cells in doubt are marked.
All options of run train can follow. run list table names the tables.

Options
  setup=own       not the paper's data, model and schedule, but your own choice of them
  jobs=2          trainings side by side, each with its share of the cores
  out=PATH        where the table goes"""

BENCH = """\
run bench [options]: measure this machine, two things in turn, medians of ratios with 95 % intervals

  run bench                                       the first four below, some minutes
  run bench only=[step]                           what each dropout costs a training step
  run bench pairs=50 only=[data,sweep]            narrower intervals
  run bench model=resnet32_he dropouts=[ramping_unit,weight_dropout]

Options
  only=[step,data,sweep,matmul]   what is measured:
    step          a training step with dropout over one without, and over a port that sorts every layer
    data          training with its data pipeline over steps on one batch
    sweep         a point of a pruning sweep over a bare forward pass
    matmul        a training step's share of the speed of large matrix products
    transformer   training the Transformer over torch.nn.Transformer, and with dropout over without
    decoding      translating with the key-value cache over without
    language      training a GPT over the same model written plainly, and drawing text with the cache over without
    tail          TailDropout over one multiplication by a ready mask
  dropouts=[targeted,ramping,targeted_unit]   pairs=30   model=resnet32   schedule.batch_size=128
  threads=2   device=auto|cpu|cuda|mps   precision=auto|float32|bf16   compile=false   out=outputs/bench

Prints one table and writes it as a CSV file. Ratios can be compared between machines, times can't.
Says so when something else loads the machine."""

LIST = """\
run list [GROUP]: what there is, one line each

  run list            models, dropouts, data, schedules, experiments, tables
  run list dropout    one group
  run list runs       the runs under outputs/: state, what tells them apart, headline results, date and duration
  run list runs outputs/train dropout=targeted,none state=finished sort=accuracy@0.9
  run list runs dropout.alpha=0.5 format=json

Options of run list runs
  NAME=VALUE          only runs with this option, by its dotted name; a group alone means its choice; a,b: one of them
  state=finished|running|interrupted|failed|damaged
  sort=METRIC@SPARSITY    the best first, of all granularities and ways with BatchNorm
  sort=folder|state|started|seconds
  format=text|json|csv"""

SHOW = """\
run show FOLDER…: what a run is, what it reached, how to go on

  run show outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0"""

DIFF = """\
run diff A B: in what two runs differ, in options, machine and results

  run diff outputs/train/digits-resnet32-none-1a2b3c4d/seed0 outputs/train/digits-resnet32-targeted-5e6f7a8b/seed0"""

CLEAN = """\
run clean [FOLDER…] [options]: delete failed runs, and checkpoints of finished ones, after asking

  run clean
  run clean outputs/train what=[checkpoints] yes=true

Lists what would go first. Deletes what the run wrote and nothing else; a folder in use is left alone.

Options
  what=[checkpoints,failed]    yes=true (don't ask)    outputs=outputs"""

COADAPT = """\
run coadapt FOLDER… [options]: which weights depend on which, and what pruning changes, predicted and measured

  run train -m experiment=toy data.root=data dropout=none seed=0,1,2
  run train -m experiment=toy data.root=data dropout=targeted dropout.alpha=0.5 seed=0,1,2
  run coadapt outputs/train/cifar10-mlp-* layers=[logits]     the paper's table 1 and figure 1
  run coadapt outputs/train/cifar10-mlp-*                     of both layers
  run coadapt outputs/train/cifar10-resnet32-* limit=200 probes=8      block sums of a large network

Takes finished runs of image classification; those that differ in their seed only are averaged. The loss is the mean
cross-entropy over a split, BatchNorm uses its running statistics. M has the entries θ_i H_ij θ_j, H the Hessian.
Writes CSV, Markdown, a picture and a .npz file a run below outputs/coadaptation.

Options
  layers=[NAME,…]   whose weights are pruned and shown; by default all prunable layers
  sparsity=0.75     of every filter, smallest weights first; the picture frames what is left
  split=test|validation|train    limit=1000 (examples)
  members=auto|N    weights the matrix shows: all of up to 4,000, 1,000 of up to 100,000, else none; or N, at evenly
                    spaced ranks of magnitude; 0: no matrix. The sums of M are over all weights in any case
  probes=32|null    random vectors that estimate the sums of squares where the matrix lacks weights
  dtype=auto|float64|float32     seed=0 (of the probes)
  device=auto|cpu|cuda|mps       data.root=PATH     outputs=PATH     out=PATH"""

FIT = """\
run fit FOLDER… [options]: the smallest pruned network within a budget, over granularities, sparsities and runs

  run fit outputs/train accuracy_drop=0.01          the fewest bytes at most one point below the best unpruned network
  run fit outputs/train bytes=100kB                 the best network of at most so many bytes
  run fit outputs/train accuracy_drop=0.02 smallest=flops parameters=1M
  run fit outputs/train latency=5ms                 the best network that takes at most so long for an image

Takes the rows of finished runs' pruning.csv, which say what each network costs as it would be cut (unit, feature) or
packed (weight). It is chosen on validation rows and confirmed once on test rows; where nothing is within the budget,
it says so and names what comes nearest. Writes CSV, Markdown and Pareto figures below outputs/fit.
For latency, networks within the rest of the budget are built and timed in turn on this machine, each by its fastest way
(PyTorch's eager mode, sparse kernels), but for those that a better network undercuts in FLOPs and bytes; the choice is
timed once more.

Options
  accuracy_drop=0.01    the most that may be lost of the best unpruned run's headline metric
  parameters=100k   bytes=1MB   flops=10M (of one example)      the most that the network may have
  latency=5ms       the most that a batch may take: 300us, 5ms, 0.1s       batch=1 (images)
  smallest=bytes|parameters|flops    what is smallest among networks within accuracy_drop
  granularity=auto|weight|unit|feature     outputs=PATH     out=PATH"""

SCREE = """\
run scree FOLDER… [options]: loss and metric over k, the number of features that are kept; where to cut

  run train model=autoencoder dropout=tail
  run train -m model=autoencoder dropout=none,feature_dropout
  run train -m model=autoencoder dropout=none model.code=2,8
  run scree outputs/train/digits-autoencoder-tail-* outputs/train/digits-autoencoder-*

The first folder's runs beside all others; those that differ in their seed only are averaged. Features go in the
variant's order; where it has none (dropout=none, feature_dropout, …) those of smallest filter norm go first.
Runs with fewer features at the place, and otherwise alike, were trained at exactly that width: the column "exact".
For autoencoders also PCA of the training images with k components, the reconstructions by k (a grid and an animated
GIF), the test set's code by class and what each feature adds to the picture.
The elbow and the fewest features within the tolerance are chosen on validation.
Writes CSV, Markdown and pictures below outputs/scree.

Options
  tolerance=0.01    of the full score that may be lost: a fraction of losses, 0.01 of accuracy is one percentage point
  ks=[1,2,4]        of the widest place where all are cut; by default every k up to 32, about 24 of wider places
  places=[NAME,…]   modules whose inputs are cut, all: together; by default the tailed ones, each alone and together
  batch_norm=kept|recalibrated   limit=1000 (examples of a split)
  device=auto|cpu|cuda|mps       data.root=PATH     outputs=PATH     out=PATH"""

TICKET = """\
run ticket FOLDER… [options]: train what pruning leaves again: is it a winning ticket, and what does it save?

  run train -m dropout=none,targeted seed=0,1,2
  run ticket outputs/train/digits-resnet32-* sparsity=0.9 iterations=5 finetune=10ep
  run ticket outputs/train/digits-resnet32-* rewind=2ep
  run table outputs/train table=tickets table.sparsities=[0,0.9]

Takes the mask of each finished run, resets the weights and trains them with the mask held, all else as in that run:
ticket (the mask, rewound weights), fresh (the mask, other initial weights), random (a random mask that removes as much
everywhere, rewound weights); beside them the run itself, dense and pruned once. What is trained becomes usual runs
below outputs/train; they are not trained again, and not taken for runs to prune.
Writes CSV and Markdown below outputs/ticket: what each reaches, and its epochs and seconds, alone and in all, that is
with the trainings which it needs before it.

Options
  sparsity=0.9      of every filter's weights, every layer's filters or every place's features
  granularity=auto|weight|unit|feature
  scores=own|magnitude|wanda|…    what finds the mask: the dropout's own gates, positions, …; else magnitude
  rewind=0ep        where the weights are reset to and training goes on: 0ep (initial weights), 2ep, 500it
  keep=true         keep the weights at that point below outputs/ticket/early; else each command trains to it again
  kinds=[ticket,fresh,random]
  iterations=5      also iterative magnitude pruning, of runs without dropout: so often pruned, rewound and trained
  finetune=10ep     also the pruned network trained on with its final weights; again and again with iterations=
  finetune_rate=0.1 the peak of its learning rate, as a fraction of the run's
  length=30ep       of the other masked trainings; by default the run's own
  force=true        train finished or damaged tickets again
  jobs=2            trainings side by side, each with as many threads as its run had
  device=auto|cpu|cuda|mps       data.root=PATH     outputs=PATH     out=PATH"""

COMPACT = """\
run compact FOLDER… sparsity=0.9 [options]: make finished runs' networks really smaller, prove it, measure it

  run train model=resnet32 dropout=targeted_unit
  run compact outputs/train/digits-resnet32-targeted_unit-* sparsity=0.75 granularity=unit
  run compact outputs/train/digits-resnet32-targeted-* sparsity=0.9 granularity=weight

Prunes as the sweep does. Filters and features (unit, feature) are cut out of the network; weights are packed: a file
without the zeros, which also sparse kernels execute. The outputs on the test split are compared with the pruned
network's; where they differ nothing is kept. Then sizes, FLOPs and times beside the whole network's.
Writes <run>/compact/<granularity>-<sparsity>/: model.safetensors and architecture.json, or packed.safetensors;
certificate.csv, certificate.md. In Python, without the run: network = runner.load_compact(folder)

With widths=[0.25,0.5,0.75,1] it writes <run>/compact/elastic/ instead: one file, from which any share of the features
loads (dropout=tail orders them), runner.load_compact(folder, width=0.37); and what each width gives and costs.

Options
  sparsity=0.9      of each filter's weights, each layer's filters or each place's features
  granularity=auto|weight|unit|feature       criterion=own|magnitude|wanda|…
  floor=auto|0…     what is pruned at least; auto: the dropout's γ
  removal=clean     what zero filters still emit through BatchNorm goes, too
  removal=exact     the outputs stay as they were, and so do filters whose constant can't be moved
  batch_norm=auto|recalibrated|kept          auto: recalibrated, but kept where removal=exact
  round_to=8        numbers of filters become multiples of it
  fold=false        BatchNorm stays a layer of its own, so that the cut network can be trained further
  half=true         packed values as float16
  batches=[1,128]   images at once      rounds=15 (in which everything has its turn)     threads=1
  turn=0.02         seconds that each way is repeated in its turn; 0: single calls, which find cold caches
  layers=true       also what each layer takes
  compile=true      also time torch.compile      onnxruntime=false   leave ONNX Runtime out
  force=true        make again what is there
  device=cpu|auto|cuda|mps       data.root=PATH"""

INSPECT = """\
run inspect MODEL|FOLDER… [options]: what a network is made of, before any training

  run inspect model=torchvision model.architecture=resnet18
  run inspect model=resnet32 sparsity=0.75
  run inspect model=module model.architecture=my_file:Net channels=1 image_size=28
  run inspect outputs/train/digits-resnet32-targeted_unit-* out=layers.csv

A row each layer in the order of computation: shape, parameters, FLOPs; prunable, or why not; the group of layers whose
filters can only be cut together; what a sparsity would leave of it, each layer's filters ranked by magnitude (by the
run's own scores); and why filters would stay. Then the whole network's parameters and FLOPs, as cut.

Options
  model=… model.architecture=…     any model of run train; of a run folder its trained network
  sparsity=0.5      granularity=unit|feature|head
  channels=3   image_size=224   classes=10   vocabulary=300     of the data, where no run says it
  out=FILE.csv      the table, and data.root=PATH, where a run's data lies now"""

COMMANDS = {
    **{
        "train": TRAIN,
        "prune": PRUNE,
        "inspect": INSPECT,
        "evaluate": EVALUATE,
        "compact": COMPACT,
        "export": EXPORT,
        "fit": FIT,
    },
    **{"table": TABLE, "report": REPORT, "reproduce": REPRODUCE, "coadapt": COADAPT, "ticket": TICKET, "scree": SCREE},
    **{"bench": BENCH, "list": LIST, "show": SHOW, "diff": DIFF, "clean": CLEAN},
}
