"""A function bound to Triton by PyTriton: Triton joins requests to batches, and hands them to this process."""

import os

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

NUMPY = {"tensor(float)": np.float32, "tensor(int32)": np.int32}

session = ort.InferenceSession(os.environ["PEER_MODEL"], providers=["CPUExecutionProvider"])


def tensors(arguments: list) -> list[Tensor]:
    """What Triton is told of them; the first dimension is the batch's."""
    return [
        Tensor(name=argument.name, dtype=NUMPY[argument.type], shape=tuple(argument.shape[1:]))
        for argument in arguments
    ]


@batch
def infer(**arrays: np.ndarray) -> list[np.ndarray]:
    return session.run(None, arrays)


config = TritonConfig(
    http_address="127.0.0.1",
    http_port=int(os.environ["PEER_PORT"]),
    allow_grpc=False,
    allow_metrics=False,
)
with Triton(config=config) as triton:
    triton.bind(
        model_name=os.environ["PEER_NAME"],
        infer_func=infer,
        inputs=tensors(session.get_inputs()),
        outputs=tensors(session.get_outputs()),
        config=ModelConfig(max_batch_size=16),
    )
    triton.serve()
