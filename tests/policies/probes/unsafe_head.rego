# expect: refused
# opa: refused
package envoy.authz
p contains x if input.a
allow if not p[1]
