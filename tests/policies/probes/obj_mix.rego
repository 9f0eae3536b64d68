# expect: refused
# opa: undefined
package envoy.authz
p[x] := true if some x in ["a"]
p.b := true
allow if not p.a
