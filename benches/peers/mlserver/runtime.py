"""ONNX Runtime as a custom runtime of MLServer, which brings none of its own for it."""

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxRuntime(MLModel):
    async def load(self) -> bool:
        self.session = ort.InferenceSession(self.settings.parameters.uri, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        arrays = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        outputs = [
            NumpyCodec.encode_output(name, array)
            for name, array in zip(self.names, self.session.run(self.names, arrays))
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
