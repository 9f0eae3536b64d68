# expect: refused
# opa: true
package envoy.authz
p := x if { x := 1; false }  { x := 2 }
allow if p == 2
