# expect: refused
# opa: undefined
package envoy.authz
a.b if input.n == 2
allow if not a
