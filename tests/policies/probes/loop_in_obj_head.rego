# expect: equal
# opa: {"allowed":true}
package envoy.authz
allow := {"allowed": input.xs[_] == 1}
