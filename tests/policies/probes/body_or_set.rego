# expect: refused
# opa: undefined
package envoy.authz
p if {input.a | {1} == input.b}
allow if not p
