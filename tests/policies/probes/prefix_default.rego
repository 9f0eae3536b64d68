# expect: equal
# opa: undefined
package envoy.authz
default a.b := false
a.b if input.n == 2
allow if not a
