# expect: equal
# opa: undefined
package envoy.authz
f(xs) if xs[_] == 1
allow if { not f(input.a); f(input.b) }
