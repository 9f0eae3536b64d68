# expect: refused
# opa: true
package envoy.authz
g(x) := 2
f if g(1) == 1
allow if f with g as 1
