# expect: refused
# opa: refused
package envoy.authz
f(x) := 1
f(x,y) := 2
allow if f(1) == 1
