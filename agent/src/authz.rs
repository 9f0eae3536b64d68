//! External authorization for Envoy (`envoy.service.auth.v3`): requests are judged by Rego policies, with the input and
//! the results that policies written for OPA-Envoy know.

mod object;

/// What hops say of their clients: the header `x-forwarded-client-cert`.
pub mod xfcc;
/// Rego policies: compiled with a gate, evaluated within limits.
pub mod rego;
/// What a policy is asked about.
pub mod input;
/// What a policy says, and what Envoy is told.
pub mod result;
