# expect: equal
# opa: error
package envoy.authz
p := {k: v | some v in [1,2]; k := "a"}
allow if not p.b
