"""Makes the models of the integration tests, each beside this script. Needs `pip install onnx==1.23.2 numpy`.

The same version of onnx writes the same bytes. The models are small enough to be kept in the repository, so that no test needs
Python.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

# Old enough for every runtime that the host has.
OPSET = 17
IR_VERSION = 8

# The element types of the Open Inference Protocol, and ONNX's.
TYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bytes": TensorProto.STRING,
}


def write(name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    save(model, Path(__file__).with_name(f"{name}.onnx"))


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def add():
    """z = x + y, over rows of four: the smallest useful run."""
    rows = ["n", 4]
    write(
        "add",
        [helper.make_node("Add", ["x", "y"], ["z"])],
        [value("x", TensorProto.FLOAT, rows), value("y", TensorProto.FLOAT, rows)],
        [value("z", TensorProto.FLOAT, rows)],
    )


def slow():
    """Multiplies a matrix by itself as often as `rounds` says: a run that takes as long as the caller likes."""
    size = numpy_helper.from_array(np.array([96, 96], dtype=np.int64), "size")
    axes = numpy_helper.from_array(np.array([0], dtype=np.int64), "axes")
    yes = numpy_helper.from_array(np.array(True), "yes")
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
            helper.make_node("Identity", ["go_on"], ["go_on_again"]),
        ],
        "round",
        [
            value("round", TensorProto.INT64, []),
            value("go_on", TensorProto.BOOL, []),
            value("matrix", TensorProto.FLOAT, [96, 96]),
        ],
        [value("go_on_again", TensorProto.BOOL, []), value("product", TensorProto.FLOAT, [96, 96])],
    )
    write(
        "slow",
        [
            helper.make_node("Squeeze", ["rounds", "axes"], ["count"]),
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("EyeLike", ["zeros"], ["identity"]),
            helper.make_node("Loop", ["count", "yes", "identity"], ["power"], body=body),
            helper.make_node("ReduceSum", ["power"], ["total"], keepdims=0),
            helper.make_node("Unsqueeze", ["total", "axes"], ["trace"]),
        ],
        [value("rounds", TensorProto.INT64, [1])],
        [value("trace", TensorProto.FLOAT, [1])],
        [size, axes, yes],
    )


def types():
    """Gives back one tensor of every element type."""
    write(
        "types",
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in TYPES],
        [value(name, kind, ["n"]) for name, kind in TYPES.items()],
        [value(f"{name}_out", kind, ["n"]) for name, kind in TYPES.items()],
    )


def fill():
    """Gives as many zeros as `size` says: an output as large as the caller likes."""
    write(
        "fill",
        [helper.make_node("ConstantOfShape", ["size"], ["zeros"])],
        [value("size", TensorProto.INT64, [1])],
        [value("zeros", TensorProto.FLOAT, ["n"])],
    )


add()
slow()
types()
fill()
