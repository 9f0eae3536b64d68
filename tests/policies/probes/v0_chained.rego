# expect: refused
# opa: true
package envoy.authz
p = x { x := 1; x == 2 } { x := 2 }
allow { p == 2 }
