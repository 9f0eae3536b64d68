# expect: equal
# opa: undefined
package envoy.authz
allow := {"allowed": true, "headers": {"x": input.missing}}
