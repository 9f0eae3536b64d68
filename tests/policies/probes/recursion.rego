# expect: refused
# opa: refused
package envoy.authz
p if q
q if p
allow if not p
