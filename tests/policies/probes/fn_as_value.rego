# expect: refused
# opa: refused
package envoy.authz
f(x) := 1
allow if not f
