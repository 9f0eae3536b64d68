# expect: equal
# opa: true
package envoy.authz
f(x) if input.y == x
allow if { some x in [1,2]; f(x) with input.y as 2 }
