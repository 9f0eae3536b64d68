# expect: refused
# opa: error
package envoy.authz
p := 1 if input.x
p := 2 if input.x
f(y) := 1 if p == 1
f(y) := 2 if y == 1
allow if f(1) == 2
