# expect: refused
# opa: error
package envoy.authz
p = x { x := 1 } { x := 2 }
allow { p }
