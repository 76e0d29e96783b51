//! Server reflection: tells tools such as `grpcurl` which services there are, and what their messages are made of.

use super::SMALL;
use crate::protocol::proto::DESCRIPTORS;
use axum::Router;
use tonic_reflection::server::Builder;

/// Adds the service in both of the versions that tools ask for.
pub(super) fn add(router: Router) -> Router {
    let builder = || Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    let with = || -> Result<Router, tonic_reflection::server::Error> {
        let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
        Ok(Router::new()
            .route_service("/grpc.reflection.v1.ServerReflection/{method}", v1.max_decoding_message_size(SMALL))
            .route_service(
                "/grpc.reflection.v1alpha.ServerReflection/{method}",
                v1alpha.max_decoding_message_size(SMALL),
            ))
    };
    match with() {
        Ok(reflection) => router.merge(reflection),
        // The descriptors come from the build, so the tests would have shown it.
        Err(error) => {
            tracing::error!(%error, "server reflection is not offered");
            router
        }
    }
}
