# expect: refused
# opa: refused
package envoy.authz
f(y) if y == z
allow if not f(1)
