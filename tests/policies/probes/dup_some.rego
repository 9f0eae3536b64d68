# expect: refused
# opa: refused
package envoy.authz
allow if { some x; some x; x = 1 }
