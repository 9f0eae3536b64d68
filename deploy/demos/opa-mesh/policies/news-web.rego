package envoy.authz

import input.attributes.request.http as http_request
import input.attributes.source.address as source_address

default allow = false

allow {
        http_request.method == "GET"
        http_request.headers["x-opa-secret"] == "news-web-secret"
}
