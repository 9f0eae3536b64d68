# expect: refused
# opa: true
package envoy.authz
f(x, x) := 1
allow if not f(1, 2)
