# expect: equal
# opa: true
package envoy.authz
p := [x.b | some x in input.xs]
allow if count(p) == 0
