# expect: equal
# opa: undefined
package envoy.authz
p := {input.missing}
allow if count(p) == 0
