# expect: equal
# opa: true
package envoy.authz
default f(x) := false
f(x) if x == 1
allow if not f(2)
