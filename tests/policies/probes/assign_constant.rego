# expect: refused
# opa: refused
package envoy.authz
allow if { [1, x] := [input.n, 2]; x == 2 }
