# expect: refused
# opa: refused
package envoy.authz
allow if not blocked
blocked if count(1,2,3)
