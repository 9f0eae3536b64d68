//! External authorization for Envoy (`envoy.service.auth.v3`): requests are judged by Rego policies, with the input and
//! the results that policies written for OPA-Envoy know.
