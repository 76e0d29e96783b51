"""Tensors of every element type, for functions that give back what they get."""

import ml_dtypes
import numpy

TYPES = {
    "BOOL": numpy.array([True, False, True]),
    "UINT8": numpy.array([0, 7, 255], numpy.uint8),
    "UINT16": numpy.array([0, 7, 65535], numpy.uint16),
    "UINT32": numpy.array([0, 7, 2**32 - 1], numpy.uint32),
    "UINT64": numpy.array([0, 7, 2**64 - 1], numpy.uint64),
    "INT8": numpy.array([-128, 0, 127], numpy.int8),
    "INT16": numpy.array([-(2**15), 0, 2**15 - 1], numpy.int16),
    "INT32": numpy.array([-(2**31), 0, 2**31 - 1], numpy.int32),
    "INT64": numpy.array([-(2**63), 0, 2**63 - 1], numpy.int64),
    "FP16": numpy.array([0.5, 0.0, -65504.0], numpy.float16),
    "BF16": numpy.array([0.5, 0.0, -1.5], ml_dtypes.bfloat16),
    "FP32": numpy.array([0.1, 0.0, -3.0e38], numpy.float32),
    "FP64": numpy.array([0.1, 0.0, 1.0e300], numpy.float64),
    "BYTES": numpy.array(["text", "", "ünï"], numpy.object_),
}

ROWS = numpy.array([[1, 2, 3, 4], [5, 6, 7, 8]], numpy.float32)


def same(given, expected):
    """Checks that an answer holds these elements. Texts come as bytes, or out of JSON as texts."""
    if expected.dtype == numpy.object_:
        texts = [text.decode() if isinstance(text, bytes) else text for text in given]
        given = numpy.array(texts, numpy.object_)
    assert given.shape == expected.shape, f"{given.shape} is not {expected.shape}"
    assert (given == expected).all(), f"{given} is not {expected}"
