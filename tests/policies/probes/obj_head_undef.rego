# expect: refused
# opa: undefined
package envoy.authz
p[x.a] := x.b if some x in input.xs
allow if not p.k
