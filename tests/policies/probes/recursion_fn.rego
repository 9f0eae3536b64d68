# expect: refused
# opa: refused
package envoy.authz
f(x) if g(x)
g(x) if f(x)
allow if not f(1)
