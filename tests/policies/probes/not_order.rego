# expect: refused
# opa: refused
package envoy.authz
allow if { not x == 2; x := input.a }
