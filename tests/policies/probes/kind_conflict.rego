# expect: refused
# opa: refused
package envoy.authz
p := 1
p contains 2
allow if p == 1
