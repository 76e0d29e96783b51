"""A model of Triton's Python backend, of which the server runs a process for each processor."""

import os

import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, _arguments: dict) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])
        self.inputs = [argument.name for argument in self.session.get_inputs()]
        self.outputs = [argument.name for argument in self.session.get_outputs()]

    def execute(self, requests: list) -> list:
        responses = []
        for request in requests:
            arrays = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            outputs = self.session.run(self.outputs, arrays)
            tensors = [triton.Tensor(name, array) for name, array in zip(self.outputs, outputs)]
            responses.append(triton.InferenceResponse(tensors))
        return responses
