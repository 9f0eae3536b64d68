package envoy.authz

import rego.v1

import input.attributes.request.http as http_request

default allow := false

allow if {
	http_request.method == "GET"
	http_request.headers["x-opa-secret"] == "ec-web-secret"
}
