"""Makes `predict/model.onnx`. Needs `pip install onnx==1.23.2 numpy`; the same version of onnx writes the same bytes.

A logistic regression over Fisher's irises, with coefficients rounded to two digits: it names 146 of the 150 rightly. It is a
stand-in that is small enough to read, for authors to replace.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

# One column for each species: setosa, versicolor, virginica.
WEIGHTS = [[-0.42, 0.53, -0.11], [0.97, -0.32, -0.65], [-2.52, -0.21, 2.72], [-1.08, -0.94, 2.03]]
BIAS = [9.86, 2.23, -12.09]

constants = [
    numpy_helper.from_array(np.array(WEIGHTS, dtype=np.float32), "weights"),
    numpy_helper.from_array(np.array(BIAS, dtype=np.float32), "bias"),
]
nodes = [
    helper.make_node("Gemm", ["measurements", "weights", "bias"], ["logits"]),
    helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
]
graph = helper.make_graph(
    nodes,
    "iris",
    [helper.make_tensor_value_info("measurements", TensorProto.FLOAT, ["n", 4])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
    constants,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model, full_check=True)
save(model, Path(__file__).with_name("predict") / "model.onnx")
