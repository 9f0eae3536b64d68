# expect: equal
# opa: undefined
package envoy.authz
f(x) := true
allow if not f(input.missing)
