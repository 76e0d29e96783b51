"""Tensors of every element type, for functions that give back what they get."""

import numpy

TYPES = {
    "BOOL": numpy.array([True, False, True]),
    "UINT8": numpy.array([0, 255], numpy.uint8),
    "UINT16": numpy.array([0, 65535], numpy.uint16),
    "UINT32": numpy.array([0, 2**32 - 1], numpy.uint32),
    "UINT64": numpy.array([0, 2**64 - 1], numpy.uint64),
    "INT8": numpy.array([-128, 127], numpy.int8),
    "INT16": numpy.array([-(2**15), 2**15 - 1], numpy.int16),
    "INT32": numpy.array([-(2**31), 2**31 - 1], numpy.int32),
    "INT64": numpy.array([-(2**63), 2**63 - 1], numpy.int64),
    "FP16": numpy.array([0.5, -65504.0], numpy.float16),
    "FP32": numpy.array([0.1, -3.0e38], numpy.float32),
    "FP64": numpy.array([0.1, 1.0e300], numpy.float64),
    "BYTES": numpy.array(["text", "", "ünï"], numpy.object_),
}

ROWS = numpy.array([[1, 2, 3, 4], [5, 6, 7, 8]], numpy.float32)


def same(given, expected):
    """Whether an answer holds these elements; texts come as bytes."""
    if expected.dtype == numpy.object_:
        expected = numpy.array([text.encode() for text in expected], numpy.object_)
        given = given.astype(numpy.object_)
    assert given.shape == expected.shape, f"{given.shape} is not {expected.shape}"
    assert (given == expected).all(), f"{given} is not {expected}"
