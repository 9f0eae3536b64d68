# expect: refused
# opa: refused
package envoy.authz
allow if { some x; not x == 1 }
