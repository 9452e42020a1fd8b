"""Test accuracy of the packed network of weight-0.99: python outputs/reference/compact/evaluate.py"""

from pathlib import Path

import runner
from runner.data.digits import Digits
from runner.tasks.classification import Classification

file = Path(__file__).with_name("weight-0.99") / "packed.safetensors"
network = runner.load_compact(file)
nonzero = sum(int(parameter.count_nonzero()) for parameter in network.parameters())
metrics = Classification().evaluate(network, Digits().eval_batches("test"))
print(f"{file.stat().st_size:,} bytes, {nonzero:,} weights that are not zero")
print(f"test accuracy {100 * metrics['accuracy']:.2f} % of {metrics['examples']:,} images")
