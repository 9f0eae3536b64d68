# expect: equal
# opa: undefined
package envoy.authz
p := x.b if some x in input.xs
allow if not p
