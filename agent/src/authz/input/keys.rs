//! The keys of the input, made once on each thread: threads that counted references of one would wait for each other.

use regorus::Value;

use crate::authz::object::Fields;

macro_rules! keys {
    ($($field:ident: $text:literal,)*) => {
        pub(super) struct Keys {
            $(pub(super) $field: Value,)*
            /// What stands under `version`.
            pub(super) version_value: Value,
        }

        impl Keys {
            fn new() -> Self {
                Self { $($field: Value::from($text),)* version_value: version() }
            }
        }
    };
}

keys! {
    address: "address",
    attributes: "attributes",
    body: "body",
    certificate: "certificate",
    context_extensions: "contextExtensions",
    destination: "destination",
    endpoint_id: "endpointId",
    envoy_internal_address: "envoyInternalAddress",
    filter_metadata: "filterMetadata",
    fragment: "fragment",
    header_map: "headerMap",
    headers: "headers",
    host: "host",
    http: "http",
    id: "id",
    ipv4_compat: "ipv4Compat",
    key: "key",
    labels: "labels",
    metadata_context: "metadataContext",
    method: "method",
    mode: "mode",
    named_port: "namedPort",
    nanos: "nanos",
    network_namespace_filepath: "networkNamespaceFilepath",
    parsed_body: "parsed_body",
    parsed_path: "parsed_path",
    parsed_query: "parsed_query",
    path: "path",
    pipe: "pipe",
    port_value: "portValue",
    principal: "principal",
    protocol: "protocol",
    query: "query",
    raw_body: "rawBody",
    raw_value: "rawValue",
    request: "request",
    resolver_name: "resolverName",
    route_metadata_context: "routeMetadataContext",
    scheme: "scheme",
    seconds: "seconds",
    server_listener_name: "serverListenerName",
    service: "service",
    size: "size",
    sni: "sni",
    socket_address: "socketAddress",
    source: "source",
    source_principal: "source_principal",
    spiffe: "spiffe",
    time: "time",
    tls_session: "tlsSession",
    truncated_body: "truncated_body",
    type_url: "typeUrl",
    typed_filter_metadata: "typedFilterMetadata",
    value: "value",
    version: "version",
}

impl Keys {
    /// Those of this thread.
    pub(super) fn with<T>(work: impl FnOnce(&Self) -> T) -> T {
        thread_local! {
            static KEYS: Keys = Keys::new();
        }
        KEYS.with(work)
    }
}

/// By these words policies tell the shape of `attributes`.
fn version() -> Value {
    let mut fields = Fields::with_capacity(2);
    fields.put("encoding".into(), "protojson".into());
    fields.put("ext_authz".into(), "v3".into());
    fields.into_value()
}
