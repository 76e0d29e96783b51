"""Makes the models of the tests, each beside this script. Needs `pip install onnx==1.23.2 numpy tflite==2.18.0 flatbuffers
openvino==2026.4.1`.

The same versions write the same bytes. The models are small enough to be kept in the repository, so that no test needs
Python.
"""

from pathlib import Path

import flatbuffers
import numpy as np
import openvino
import tflite
from onnx import TensorProto, checker, helper, numpy_helper, save
from openvino import opset13 as ov

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


def write(name, nodes, inputs, outputs, constants=(), domains=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    # The checker knows no domains but ONNX's own.
    if not domains:
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


def hungry():
    """Gives the sum of as many zeros as `size` says: a small answer for which a run takes as much memory as the caller likes."""
    write(
        "hungry",
        [
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("Exp", ["zeros"], ["ones"]),
            helper.make_node("ReduceSum", ["ones"], ["total"], keepdims=0),
            helper.make_node("Unsqueeze", ["total", "axes"], ["sum"]),
        ],
        [value("size", TensorProto.INT64, [1])],
        [value("sum", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.array([0], dtype=np.int64), "axes")],
    )


def pairs():
    """Gives the sum over all pairs of its numbers: a small answer to few numbers, for which a run takes the square of their memory."""
    write(
        "pairs",
        [
            helper.make_node("Unsqueeze", ["x", "last"], ["column"]),
            helper.make_node("Unsqueeze", ["x", "first"], ["row"]),
            helper.make_node("Add", ["column", "row"], ["pairs"]),
            helper.make_node("Exp", ["pairs"], ["powers"]),
            helper.make_node("ReduceSum", ["powers"], ["total"], keepdims=0),
            helper.make_node("Unsqueeze", ["total", "first"], ["sum"]),
        ],
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("sum", TensorProto.FLOAT, [1])],
        [
            numpy_helper.from_array(np.array([0], dtype=np.int64), "first"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "last"),
        ],
    )


def twice():
    """One model for each element type, which gives its input twice, one after the other."""
    for name, kind in TYPES.items():
        write(
            f"twice-{name}",
            [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)],
            [value("x", kind, ["n"])],
            [value("y", kind, ["m"])],
        )


def sums():
    """Two inputs and three outputs, over rows of any number and length."""
    shape = ["n", "m"]
    write(
        "sums",
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
            helper.make_node("ReduceSum", ["sum", "axis"], ["totals"], keepdims=0),
        ],
        [value("a", TensorProto.FLOAT, shape), value("b", TensorProto.FLOAT, shape)],
        [
            value("sum", TensorProto.FLOAT, shape),
            value("difference", TensorProto.FLOAT, shape),
            value("totals", TensorProto.FLOAT, ["n"]),
        ],
        [numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")],
    )


def scalar():
    """y = x * x, of one number without dimensions."""
    write(
        "scalar",
        [helper.make_node("Mul", ["x", "x"], ["y"])],
        [value("x", TensorProto.FLOAT, [])],
        [value("y", TensorProto.FLOAT, [])],
    )


def chain():
    """A square matrix to the power of 65, in 64 steps: a long run between whose operators there is time to stop."""
    names = ["x"] + [f"step{index}" for index in range(1, 64)] + ["y"]
    square = ["n", "n"]
    write(
        "chain",
        [helper.make_node("MatMul", [before, "x"], [after]) for before, after in zip(names, names[1:])],
        [value("x", TensorProto.FLOAT, square)],
        [value("y", TensorProto.FLOAT, square)],
    )


def tokens():
    """Takes and gives what a sentence embedder does, and computes next to nothing: for the time that everything else takes."""
    shape = ["batch", "sequence"]
    width = numpy_helper.from_array(np.array([1, 1, 384], dtype=np.int64), "width")
    axes = numpy_helper.from_array(np.array([2], dtype=np.int64), "axes")
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    write(
        "tokens",
        [
            helper.make_node("Add", inputs[:2], ["some"]),
            helper.make_node("Add", ["some", inputs[2]], ["all"]),
            helper.make_node("Unsqueeze", ["all", "axes"], ["deep"]),
            helper.make_node("Cast", ["deep"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Expand", ["numbers", "width"], ["last_hidden_state"]),
        ],
        [value(name, TensorProto.INT64, shape) for name in inputs],
        [value("last_hidden_state", TensorProto.FLOAT, [*shape, 384])],
        [width, axes],
    )


def unsupported():
    """An operator that no library has."""
    write(
        "unsupported",
        [helper.make_node("Hum", ["x"], ["y"], domain="torpor.test")],
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, ["n"])],
        domains=["torpor.test"],
    )


def add_lite():
    """What `add` is, as a flatbuffer of TensorFlow Lite."""
    builder = flatbuffers.Builder(1024)

    def numbers(values):
        builder.StartVector(4, len(values), 4)
        for number in reversed(values):
            builder.PrependInt32(number)
        return builder.EndVector()

    def tables(start, offsets):
        start(builder, len(offsets))
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def table(kind, **fields):
        getattr(tflite, f"{kind}Start")(builder)
        for field, content in fields.items():
            getattr(tflite, f"{kind}Add{field}")(builder, content)
        return getattr(tflite, f"{kind}End")(builder)

    def tensor(name):
        return table(
            "Tensor",
            Shape=numbers([1, 4]),
            ShapeSignature=numbers([-1, 4]),
            Type=tflite.TensorType.FLOAT32,
            Name=builder.CreateString(name),
        )

    tensors = tables(tflite.SubGraphStartTensorsVector, [tensor(name) for name in ("x", "y", "z")])
    operator = table(
        "Operator",
        Inputs=numbers([0, 1]),
        Outputs=numbers([2]),
        BuiltinOptionsType=tflite.BuiltinOptions.AddOptions,
        BuiltinOptions=table("AddOptions"),
    )
    graph = table(
        "SubGraph",
        Tensors=tensors,
        Inputs=numbers([0, 1]),
        Outputs=numbers([2]),
        Operators=tables(tflite.SubGraphStartOperatorsVector, [operator]),
    )
    code = table(
        "OperatorCode",
        DeprecatedBuiltinCode=tflite.BuiltinOperator.ADD,
        BuiltinCode=tflite.BuiltinOperator.ADD,
        Version=1,
    )
    model = table(
        "Model",
        Version=3,
        OperatorCodes=tables(tflite.ModelStartOperatorCodesVector, [code]),
        Subgraphs=tables(tflite.ModelStartSubgraphsVector, [graph]),
        Buffers=tables(tflite.ModelStartBuffersVector, [table("Buffer")]),
    )
    builder.Finish(model, file_identifier=b"TFL3")
    Path(__file__).with_name("add.tflite").write_bytes(builder.Output())


# What `species` has learnt of Fisher's irises: a logistic regression over four lengths in centimetres.
COEFFICIENTS = [[-0.42, 0.53, -0.11], [0.97, -0.32, -0.65], [-2.52, -0.21, 2.73], [-1.08, -0.94, 2.02]]
INTERCEPTS = [9.85, 2.24, -12.09]


def species():
    """Scores of three species by four lengths, in ONNX and as an OpenVINO IR."""
    coefficients = np.array(COEFFICIENTS, dtype=np.float32)
    intercepts = np.array(INTERCEPTS, dtype=np.float32)
    write(
        "species",
        [
            helper.make_node("MatMul", ["lengths", "coefficients"], ["products"]),
            helper.make_node("Add", ["products", "intercepts"], ["sums"]),
            helper.make_node("Softmax", ["sums"], ["scores"], axis=1),
        ],
        [value("lengths", TensorProto.FLOAT, ["n", 4])],
        [value("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(coefficients, "coefficients"), numpy_helper.from_array(intercepts, "intercepts")],
    )
    lengths = ov.parameter([-1, 4], np.float32, name="lengths")
    lengths.output(0).set_names({"lengths"})
    products = ov.matmul(lengths, ov.constant(coefficients, name="coefficients"), False, False, name="products")
    sums = ov.add(products, ov.constant(intercepts, name="intercepts"), name="sums")
    scores = ov.softmax(sums, 1, name="scores")
    scores.output(0).set_names({"scores"})
    result = ov.result(scores, name="result")
    folder = Path(__file__).parent
    openvino.serialize(
        openvino.Model([result], [lengths], "species"), folder / "species.xml", folder / "species.bin"
    )


add()
add_lite()
species()
slow()
types()
fill()
hungry()
pairs()
twice()
sums()
scalar()
chain()
tokens()
unsupported()
