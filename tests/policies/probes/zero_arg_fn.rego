# expect: refused
# opa: refused
package envoy.authz
f() := 1
allow if f() == 1
