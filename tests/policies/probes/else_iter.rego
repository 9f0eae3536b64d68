# expect: equal
# opa: error
package envoy.authz
p := x if { some x in input.xs; x > 1 } else := 0
allow if p == 0
