"""Train two small networks from Python, compare what pruning leaves of them, and use one of them.

    python examples/python_api.py [OUTPUTS]

Takes a few seconds; without `debug=smoke` and the small model, it is the experiment of `make train`.
"""

import sys

import torch

import runner

outputs = sys.argv[1] if len(sys.argv) > 1 else "outputs"
small = ["model=resnet32_he", "model.blocks=1", "model.width=0.25", "debug=smoke", f"outputs={outputs}"]

# The same options as on the command line. A finished run is not trained again.
for dropout in ("none", "targeted"):
    runner.train(*small, f"dropout={dropout}")

# Every finished run, with its results as data frames.
for result in runner.find(outputs):
    test = result.pruning.query("split == 'test' and granularity == 'weight' and batch_norm == 'kept'")
    print(result.config["dropout"]["name"])
    print(test[["sparsity", "actual_sparsity", "accuracy"]].to_string(index=False))

# A trained network, pruned, as a plain module in evaluation mode.
(targeted,) = runner.find(outputs, dropout="targeted")
model = targeted.model(sparsity=0.75)
images, labels = next(iter(targeted.data.eval_batches("test")))
with torch.no_grad():
    accuracy = (model(images).argmax(1) == labels).float().mean()
print(f"accuracy of the first {len(labels)} test images at 75 %: {accuracy:.3f}")
