# expect: refused
# opa: refused
package envoy.authz
allow if not blocked
blocked if nope(1)
