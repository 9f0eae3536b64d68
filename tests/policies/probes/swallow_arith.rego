# expect: equal
# opa: true
package envoy.authz
f(y) := 1 if y + 1 == 2
f(y) := 2 if y == "a"
allow if f(input.y) == 2
