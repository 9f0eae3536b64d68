# expect: equal
# opa: undefined
package envoy.authz
p[x] { x := input.xs[_] }
allow { not p[1] }
