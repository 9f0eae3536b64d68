# expect: refused
# opa: refused
package envoy.authz
allow if { some x; input.n == 1 }
