# expect: equal
# opa: true
package envoy.authz
allow if not blocked
blocked if count(input.n) > 0
