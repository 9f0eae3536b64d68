# expect: refused
# opa: error
package envoy.authz
f(y) := 1 if {k: v | some v in [1,2]; k := "a"}.a == 1
f(y) := 2 if y == 1
allow if f(1) == 2
