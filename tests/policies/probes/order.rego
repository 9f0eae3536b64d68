# expect: refused
# opa: refused
package envoy.authz
allow if { x == 2; x := input.a }
