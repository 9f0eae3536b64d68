# expect: refused
# opa: refused
package envoy.authz
default p := 1
p[x] := 2 if x := "a"
allow if p.a == 2
