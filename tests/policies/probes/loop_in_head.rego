# expect: equal
# opa: true
package envoy.authz
p := [input.xs[_]]
allow if not p
