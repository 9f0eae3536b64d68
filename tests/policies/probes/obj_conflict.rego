# expect: refused
# opa: error
package envoy.authz
p[x] := 1 if some x in ["a"]
p.a := 2
allow if p.a == 2
