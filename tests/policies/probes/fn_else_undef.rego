# expect: equal
# opa: undefined
package envoy.authz
f(x) := input.missing if { x > 0 } else := 1
allow if not f(1)
