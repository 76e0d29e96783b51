"""What tools for gRPC rely on: reflection and the health service. Arguments: the host's address."""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from report import Report


def main(address):
    channel = grpc.insecure_channel(address)
    with Report("grpcio") as report:
        with report.works("gRPC", "reflection: services are listed, described and called"):
            reflected = ProtoReflectionDescriptorDatabase(channel)
            services = reflected.get_services()
            assert "inference.GRPCInferenceService" in services, services
            assert "tensorflow.serving.PredictionService" in services, services
            service = DescriptorPool(reflected).FindServiceByName("inference.GRPCInferenceService")
            method = service.FindMethodByName("ServerLive")
            request, response = (GetMessageClass(kind) for kind in (method.input_type, method.output_type))
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerLive",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            assert call(request()).live
        with report.works("gRPC", "the health service, of the host and of a model"):
            stub = health_pb2_grpc.HealthStub(channel)
            serving = health_pb2.HealthCheckResponse.SERVING
            assert stub.Check(health_pb2.HealthCheckRequest()).status == serving
            assert stub.Check(health_pb2.HealthCheckRequest(service="add")).status == serving


main(sys.argv[1])
