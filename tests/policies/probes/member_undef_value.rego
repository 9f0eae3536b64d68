# expect: equal
# opa: undefined
package envoy.authz
x := y if { y := input.a in input.missing }
allow if x == false
